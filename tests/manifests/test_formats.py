"""Every format: valid, deterministic, and re-read to the same image ids whatever they are."""

from __future__ import annotations

import csv
import io
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest

from clusterlib.errors import InputError
from clusterlib.manifests import clouds, datasets, flat, folders, label_studio, vectors
from clusterlib.manifests.record import Origin, Record
from clusterlib.tables.parquet import decode_parquet
from clusterlib.tables.schemas import MANIFEST

ORIGIN = Origin("0123456789ab", "ba9876543210", (0, 3))

HOSTILE = [
    "plain.jpg",
    '=cmd|"/c calc"!A1',
    "line\nbreak.png",
    "carriage\rreturn",
    "separator\u2028\u2029\u0085.png",
    "quote'\"`$(id).jpg",
    "<script>alert(1)</script>.png",
    "../../../etc/passwd",
    "/absolute.png",
    "..",
    "-rf",
    "\u202egnp.exe",
    "x" * 251 + ".jpg",
    "\u00e4" * 127,
    "not\\xffutf8.png",  # what the catalogue makes of bytes that are no UTF-8
    "nul\x00.png",
    ".hidden",
    "\U0001f600.webp",
    "a,b;c\td",
    "%2e%2e%2f",
]


def row(image_id: str, number: int, scheme: str = "s3") -> Record:
    uri = f"{scheme}://bucket/{image_id}"
    return Record(number, image_id, uri, uri, 3, 0.75, 640, 480)


def rows(scheme: str = "s3") -> list[Record]:
    return [row(image_id, n, scheme) for n, image_id in enumerate(HOSTILE)]


def lines(data: bytes | None) -> list[Any]:
    assert data is not None
    return [json.loads(line) for line in data.decode().splitlines()]


def ids_of_datumaro(data: bytes) -> list[str]:
    return [item["attr"]["image_id"] for item in json.loads(data)["items"]]


def ids_of_fiftyone(data: bytes) -> list[str]:
    return [label["attributes"]["image_id"] for label in json.loads(data)["labels"].values()]


READERS: dict[str, tuple[Callable[..., bytes | None], Callable[[bytes], list[str]]]] = {
    "label_studio": (
        label_studio.task_bytes,
        lambda data: [task["data"]["image_id"] for task in json.loads(data)],
    ),
    "datumaro": (datasets.datumaro_bytes, ids_of_datumaro),
    "cvat": (datasets.cvat_bytes, lambda d: [x["meta"]["image_id"] for x in lines(d)[2:]]),
    "fiftyone": (datasets.fiftyone_bytes, ids_of_fiftyone),
    "sagemaker": (clouds.sagemaker_bytes, lambda d: [x["image-id"] for x in lines(d)]),
    "azureml": (clouds.azureml_bytes, lambda d: [x["image_id"] for x in lines(d)]),
    "vertex": (
        clouds.vertex_bytes,
        lambda d: [HOSTILE[int(x["dataItemResourceLabels"]["row"])] for x in lines(d)],
    ),
    "npy": (
        vectors.metadata_bytes,
        lambda data: decode_parquet(data)["image_id"].to_pylist(),
    ),
}
SCHEMES = {"vertex": "gs", "azureml": "https"}


@pytest.mark.parametrize("name", READERS)
def test_hostile_ids_re_read_to_themselves(name: str) -> None:
    encode, read = READERS[name]
    data = encode(rows(SCHEMES.get(name, "s3")), ORIGIN)
    assert data is not None
    assert read(data) == HOSTILE
    assert encode(rows(SCHEMES.get(name, "s3")), ORIGIN) == data


@pytest.mark.parametrize("name", [n for n in READERS if n != "npy"])
def test_no_rows_are_no_file(name: str) -> None:
    assert READERS[name][0]([], ORIGIN) is None


@pytest.mark.parametrize("name", [n for n in READERS if n not in ("npy", "cvat")])
def test_a_cluster_that_the_fit_lacks_is_refused(name: str) -> None:
    uri = f"{SCHEMES.get(name, 's3')}://bucket/a.jpg"
    foreign = Record(0, "a", uri, uri, 7, 0.5, 1, 1)
    with pytest.raises(InputError, match="in cluster 7, which fit"):
        READERS[name][0]([foreign], ORIGIN)


@pytest.mark.parametrize("name", ["sagemaker", "vertex", "azureml"])
def test_clouds_accept_what_their_schemas_do(name: str) -> None:
    schema = clouds.json_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    encode = READERS[name][0]
    found = lines(encode(rows(SCHEMES.get(name, "s3")), ORIGIN))
    for line in found:
        validator.validate(line)
    for key in schema["required"]:
        broken = {k: v for k, v in found[0].items() if k != key}
        assert not validator.is_valid(broken)
    assert not validator.is_valid(found[0] | {"surprise": 1})


@pytest.mark.parametrize("name", ["sagemaker", "vertex", "azureml"])
def test_clouds_refuse_images_that_they_cannot_read(name: str) -> None:
    local = Record(0, "a", "/data/a.jpg", "/data/a.jpg", 3, 0.5, 1, 1)
    with pytest.raises(InputError, match=rf"{name} reads .* manifests\.uri_prefixes") as caught:
        READERS[name][0]([local], ORIGIN)
    assert "\n" not in str(caught.value)


def test_label_indices_are_in_range() -> None:
    data = json.loads(datasets.datumaro_bytes(rows(), ORIGIN) or b"")
    count = len(data["categories"]["label"]["labels"])
    indices = {item["annotations"][0]["label_id"] for item in data["items"]}
    assert indices == {1}
    assert max(indices) < count == 2
    assert {line["cluster"] for line in lines(clouds.sagemaker_bytes(rows(), ORIGIN))} == {1}


def test_datumaro_ids_are_harmless_and_distinct() -> None:
    items = json.loads(datasets.datumaro_bytes(rows(), ORIGIN) or b"")["items"]
    names = [item["id"] for item in items]
    assert len(set(names)) == len(HOSTILE)
    assert all("/" not in name and not name.startswith((".", "-")) for name in names)
    assert items[0]["image"]["size"] == [480, 640]


def test_cvat_names_have_no_ending() -> None:
    head, kind, first = lines(datasets.cvat_bytes(rows()[:1], ORIGIN))
    assert (head, kind) == ({"version": "1.1"}, {"type": "images"})
    assert (first["name"], first["extension"]) == ("plain", ".jpg")
    assert (first["width"], first["height"]) == (640, 480)


def test_no_place_escapes_the_folder_view() -> None:
    places = [folders.place_of(record) for record in rows()]
    assert len(set(places)) == len(HOSTILE)
    for place in places:
        parts = PurePosixPath(place).parts
        assert parts[0] == "cluster_003"
        assert len(parts) == 2
        assert parts[1] not in ("", ".", "..")
        assert len(parts[1].encode()) < 255


def test_the_copy_script_copies_and_runs_nothing_else(tmp_path: Path) -> None:
    images, target = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    target.mkdir()
    found = []
    for number, name in enumerate(HOSTILE):
        if "/" in name or "\x00" in name or name == ".." or len(name.encode()) > 255:
            continue
        path = images / name
        path.write_bytes(str(number).encode())
        found.append(Record(number, name, str(path), str(path), 3, 0.5, 1, 1))
    script = tmp_path / "copy.sh"
    script.write_bytes(folders.copy_script(found) or b"")
    before = set(tmp_path.rglob("*"))
    subprocess.run(["sh", str(script), str(target)], check=True, cwd=tmp_path)
    copies = {path.read_bytes() for path in (target / "cluster_003").iterdir()}
    assert copies == {str(record.row_id).encode() for record in found}
    assert {p for p in tmp_path.rglob("*") if target not in p.parents} <= before


def test_the_copy_script_of_a_store_quotes_every_name() -> None:
    script = (folders.copy_script(rows()[1:2]) or b"").decode().splitlines()
    words = shlex.split(script[-1])
    assert words[:3] == ["aws", "s3", "cp"]
    assert words[-2] == f"s3://bucket/{HOSTILE[1]}"


def test_npy_opens_without_pickle() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    again = np.load(io.BytesIO(vectors.npy_bytes(x.T)), allow_pickle=False)
    np.testing.assert_array_equal(again, x.T)
    assert again.flags["C_CONTIGUOUS"]


def test_csv_cells_re_read_to_themselves_but_for_the_apostrophe() -> None:
    ids = pa.array(HOSTILE)
    data = {"row_id": pa.array(range(len(HOSTILE)), pa.int64()), "image_id": ids, "uri": ids}
    rest = {f.name: pa.nulls(len(HOSTILE), f.type) for f in MANIFEST if f.name not in data}
    manifest = pa.Table.from_pydict({n: (data | rest)[n] for n in MANIFEST.names}, schema=MANIFEST)
    text = flat.csv_bytes(manifest).decode()
    again = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["image_id"].removeprefix("'") for line in again] == HOSTILE
    assert [line["uri"].removeprefix("'") for line in again] == HOSTILE
