"""Manifests hold every row once, re-read to what was meant, and run nothing in a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clusterlib.manifests import cluster_names, flat, label_studio
from clusterlib.manifests.record import Origin, cluster_name, records, rewrite, safe_name
from clusterlib.tables.schemas import ASSIGNMENTS, CATALOG, CLUSTERS, QUARANTINE, with_extra

ORIGIN = Origin("r", "f", (0, 1, 2))

HOSTILE = [
    '=cmd|"/c calc"!A1',
    "+1",
    "-2",
    "@x",
    "<script>alert(1)</script>",
    'a\n"b",c',
    "\u202egnp",
]


def catalog(ids: list[str], *, first: int = 10) -> pa.Table:
    rows = [
        {"row_id": first + n, "image_id": text, "uri": f"s3://b/{text}", "extra": {"price": n}}
        for n, text in enumerate(ids)
    ]
    return pa.Table.from_pylist(
        rows, schema=with_extra(CATALOG, pa.struct([("price", pa.int64())]))
    )


def assignments(row_ids: list[int]) -> pa.Table:
    rows = [
        {
            "row_id": row,
            "image_id": "x",
            "uri": "u",
            "cluster_id": row % 3,
            "distance": 0.25,
            "second_cluster_id": 0,
            "margin": 0.5,
            "silhouette": -1.0 if row % 2 else 0.5,
            "is_outlier": False,
            "micro_id": 0,
        }
        for row in row_ids
    ]
    return pa.Table.from_pylist(rows, schema=ASSIGNMENTS)


def quarantine(row_ids: list[int]) -> pa.Table:
    rows = [
        {"row_id": r, "image_id": "x", "uri": "u", "code": "empty", "detail": "", "attempts": 1}
        for r in row_ids
    ]
    return pa.Table.from_pylist(rows, schema=QUARANTINE)


def sizes(row_ids: list[int]) -> pa.Table:
    return pa.table(
        {
            "row_id": pa.array(row_ids, pa.int64()),
            "width": pa.array([640] * len(row_ids), pa.int32()),
            "height": pa.array([480] * len(row_ids), pa.int32()),
        }
    )


def joined(ids: list[str]) -> pa.Table:
    """Row 12 is quarantined; rows outside the slice are there to be ignored."""
    rows = [row for row in range(10, 10 + len(ids)) if row != 12]
    return flat.join(
        catalog(ids), assignments([*rows[::-1], 9, 99]), quarantine([12, 3]), sizes(rows)
    )


def tasks_of(manifest: pa.Table) -> list[dict[str, Any]]:
    data = label_studio.task_bytes(records(manifest, str), ORIGIN)
    assert data is not None
    found: list[dict[str, Any]] = json.loads(data)
    return found


def test_every_catalogue_row_once_with_cluster_or_reason() -> None:
    manifest = joined(["a", "b", "c", "d"])
    assert manifest["row_id"].to_pylist() == [10, 11, 12, 13]
    assert manifest["cluster_id"].to_pylist() == [1, 2, None, 1]
    assert manifest["rejected"].to_pylist() == [None, None, "empty", None]
    assert manifest["image_id"].to_pylist() == ["a", "b", "c", "d"]


def test_parquet_round_trip() -> None:
    manifest = joined(["a", "b", "c"])
    assert pq.read_table(io.BytesIO(flat.parquet_bytes(manifest))).equals(manifest)


def test_csv_is_inert_and_re_reads() -> None:
    manifest = joined(HOSTILE)
    rows = list(csv.DictReader(io.StringIO(flat.csv_bytes(manifest).decode(), newline="")))
    assert [row["image_id"].removeprefix("'") for row in rows] == HOSTILE
    assert not any(cell.startswith(("=", "@", "\t", "\r")) for row in rows for cell in row.values())
    assert [row["image_id"] for row in rows][:4] == ["'" + HOSTILE[0], "+1", "-2", "'@x"]
    assert rows[1]["extra.price"] == "1"
    assert (rows[2]["cluster_id"], rows[2]["rejected"]) == ("", "empty")


def test_negative_numbers_stay_numbers_in_csv() -> None:
    rows = list(csv.DictReader(io.StringIO(flat.csv_bytes(joined(["a", "b"])).decode())))
    assert float(rows[1]["silhouette"]) == -1


def test_the_users_numbers_are_left_alone_in_csv() -> None:
    values = ["-5.2", "+49123", "1234567.891", "-2e-7", "-2+3"]
    struct = pa.struct([("price", pa.string()), ("exact", pa.float64())])
    rows = [
        {"row_id": n, "image_id": f"-{n}", "uri": "u", "extra": {"price": v, "exact": 48.1371549}}
        for n, v in enumerate(values)
    ]
    table = pa.Table.from_pylist(rows, schema=with_extra(CATALOG, struct))
    manifest = flat.join(table, assignments([]), quarantine(list(range(5))), sizes([]))
    read = list(csv.DictReader(io.StringIO(flat.csv_bytes(manifest).decode())))
    assert [row["extra.price"] for row in read] == [*values[:4], "'-2+3"]
    assert {row["extra.exact"] for row in read} == {"48.1371549"}
    assert read[3]["image_id"] == "-3"


def test_no_clustered_row_is_no_file_for_label_studio() -> None:
    manifest = flat.join(catalog(["a"], first=12), assignments([]), quarantine([12]), sizes([]))
    assert label_studio.task_bytes(records(manifest, str), ORIGIN) is None


def test_label_studio_tasks() -> None:
    tasks = tasks_of(joined(HOSTILE))
    assert len(tasks) == len(HOSTILE) - 1  # the quarantined row is no task
    assert tasks[0]["data"]["image_id"] == HOSTILE[0]
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert scores[:2] == [0.75, 0.0]
    choices = [t["predictions"][0]["result"][0]["value"]["choices"] for t in tasks]
    assert choices[0] == ["cluster_001"]


def test_label_studio_choices_are_those_of_the_interface() -> None:
    interface = ET.fromstring(label_studio.interface_xml([0, 1, 2, 1000]))
    known = {choice.get("value") for choice in interface.iter("Choice")}
    control = next(iter(interface.iter("Choices")))
    tasks = tasks_of(joined(["a", "b", "c"]))
    for task in tasks:
        result = task["predictions"][0]["result"][0]
        assert set(result["value"]["choices"]) <= known
        assert (result["from_name"], result["to_name"]) == (
            control.get("name"),
            control.get("toName"),
        )
    assert next(iter(interface.iter("Image"))).get("value") == "$image"


@pytest.mark.parametrize(
    ("cluster", "name"), [(0, "cluster_000"), (1234, "cluster_1234"), (-1, "noise")]
)
def test_cluster_names(cluster: int, name: str) -> None:
    assert cluster_name(cluster) == name


def test_the_sheet_lists_clusters_by_size() -> None:
    pick = {"row_id": 1, "image_id": "i", "uri": "s3://b/1 2.png"}
    rows = [
        {
            "cluster_id": n,
            "size": size,
            "spread": 0.0,
            "silhouette": 0.0,
            "negative_share": 0.0,
            "outliers": 0,
            "nearest": [pick] * 5,
            "boundary": [],
            "random": [],
        }
        for n, size in enumerate([3, 9])
    ]
    data = cluster_names.sheet_bytes(
        pa.Table.from_pylist(rows, schema=CLUSTERS),
        run_id="r",
        fit_id="f",
        proposals={1: "=shoe, boot"},
    )
    sheet = list(csv.DictReader(io.StringIO(data.decode())))
    assert [(row["cluster_id"], row["size"], row["name"]) for row in sheet] == [
        ("1", "9", ""),
        ("0", "3", ""),
    ]
    assert sheet[0]["exemplar_uris"].split(" | ") == ["s3://b/1 2.png"] * 3
    assert [row["proposal"] for row in sheet] == ["'=shoe, boot", ""]  # no spreadsheet runs it
    assert not cluster_names.is_filled_in(data)
    filled = data.replace(b'shoe, boot",,', b'shoe, boot",x,')
    assert filled != data
    assert cluster_names.is_filled_in(filled)
    assert cluster_names.is_filled_in(b"\xff something else")


def test_prefixes_are_rewritten_longest_first_and_encoded_for_the_web() -> None:
    prefixes = {"/data/": "/data/local-files/?d=", "/data/a/": "s3://b/", "s3://b/": "https://c/"}
    assert rewrite("/data/x y#1.png", prefixes) == "/data/local-files/?d=x%20y%231.png"
    assert rewrite("/data/a/x y.png", prefixes) == "s3://b/x y.png"
    assert rewrite("s3://b/x?y.png", prefixes) == "https://c/x%3Fy.png"
    assert rewrite("/other.png", prefixes) == "/other.png"


@pytest.mark.parametrize(
    "text", [*HOSTILE, "../../etc/passwd", "..", ".", "", "/", "a" * 255, "\x00"]
)
def test_safe_names_stay_in_their_folder(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 120
    assert not set(name) & set("/\\\x00\n")
    assert not name.startswith((".", "-"))


def test_safe_names_differ_where_ids_do() -> None:
    ids = ["a/b", "a-b", "a b", "a_b", "A/B", "../a/b"]
    assert len({safe_name(text) for text in ids}) == len(ids)
