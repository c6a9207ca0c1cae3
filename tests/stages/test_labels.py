"""Manifests and returned labels through real Ray: all formats, rounds of answers, bad input."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clusterlib.config import validate_config
from clusterlib.errors import ClusterlibError, ConfigError, InputError
from clusterlib.labels.probe import read_probe
from clusterlib.stages.labeling.apply_labels import apply_labels
from clusterlib.stages.labeling.choose_best_views import choose_best_views
from clusterlib.stages.labeling.choose_images import choose_images
from clusterlib.stages.labeling.write_manifests import write_manifests
from clusterlib.stages.session import Session, open_session
from jobs.run_pipeline import run_pipeline
from tests.conftest import settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

LOCAL_FORMATS = [
    *("parquet", "csv", "label_studio", "cluster_tasks", "datumaro", "cvat", "fiftyone"),
    *("folders", "npy"),
]
ROWS = 120


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> dict[str, Any]:
    return settings(
        shapes_folder,
        tmp_path_factory.mktemp("labels") / "run",
        clustering={"k": 3, "k_min": 3},  # four kinds in three clusters: one is mixed
        manifests={"formats": LOCAL_FORMATS, "review_budget": 12},
    )


@pytest.fixture(scope="module")
def done(ray_session: None, tree: dict[str, Any]) -> Session:
    session = open_session(validate_config(tree))
    run_pipeline(session)
    return session


def fit_folder(session: Session) -> Path:
    (folder,) = (Path(session.run.uri) / "fits").iterdir()
    return folder


def sheet(session: Session) -> list[dict[str, str]]:
    text = (fit_folder(session) / "manifests/cluster_names.csv").read_text()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def write(path: Path, rows: list[dict[str, str]]) -> str:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def labels(session: Session) -> list[dict[str, Any]]:
    parts = sorted((fit_folder(session) / "labels/labels").glob("*.parquet"))
    rows: list[dict[str, Any]] = pa.concat_tables([pq.read_table(p) for p in parts]).to_pylist()
    return rows


def kind_of(uri: str) -> str:
    return Path(uri).parent.name


def test_every_format_has_every_image(done: Session) -> None:
    folder = fit_folder(done) / "manifests"
    manifest = pa.concat_tables(
        [pq.read_table(p) for p in sorted((folder / "parquet").glob("*"))]
    ).to_pylist()
    ids = [row["image_id"] for row in manifest]
    assert len(set(ids)) == ROWS
    assert {(row["width"], row["height"]) for row in manifest} == {(80, 72)}

    def read(pattern: str) -> list[Any]:
        return [json.loads(p.read_bytes()) for p in sorted(folder.glob(pattern))]

    assert [t["data"]["image_id"] for part in read("label_studio/*.json") for t in part] == ids
    items = [item for part in read("datumaro/annotations/*.json") for item in part["items"]]
    assert [item["attr"]["image_id"] for item in items] == ids
    found = [v for part in read("fiftyone/*/labels.json") for v in part["labels"].values()]
    assert [label["attributes"]["image_id"] for label in found] == ids
    frames = [
        json.loads(line)
        for path in sorted(folder.glob("cvat/*/manifest.jsonl"))
        for line in path.read_text().splitlines()[2:]
    ]
    assert [frame["meta"]["image_id"] for frame in frames] == ids
    links = [path for path in (folder / "folders").rglob("*") if path.is_symlink()]
    assert {os.readlink(path) for path in links} == {row["uri"] for row in manifest}
    embeddings = [np.load(p) for p in sorted((folder / "npy/img_emb").glob("*.npy"))]
    described = [pq.read_table(p) for p in sorted((folder / "npy/metadata").glob("*.parquet"))]
    assert [len(x) for x in embeddings] == [len(table) for table in described]
    assert [i for table in described for i in table["image_id"].to_pylist()] == ids
    np.testing.assert_allclose(np.linalg.norm(np.concatenate(embeddings), axis=1), 1, atol=1e-3)


def test_naming_tasks_show_sheets(done: Session) -> None:
    folder = fit_folder(done) / "manifests/cluster_tasks"
    (file,) = folder.glob("*.json")
    tasks = json.loads(file.read_bytes())
    assert sorted(task["data"]["cluster_id"] for task in tasks) == ["0", "1", "2"]
    assert sum(task["data"]["size"] for task in tasks) == ROWS
    for task in tasks:
        assert Path(task["data"]["contact_sheet"]).read_bytes().startswith(b"\xff\xd8")


def test_clouds_are_refused_before_anything_is_touched(done: Session, tree: dict[str, Any]) -> None:
    changed = tree | {"manifests": tree["manifests"] | {"formats": ["sagemaker"]}}
    before = sorted((fit_folder(done) / "manifests").rglob("*"))
    with pytest.raises(InputError, match=r"sagemaker reads s3:// only"):
        write_manifests(open_session(validate_config(changed)))
    assert sorted((fit_folder(done) / "manifests").rglob("*")) == before


def test_a_mixed_cluster_is_labelled_by_the_model_and_a_split_one_by_its_branches(
    done: Session, tmp_path: Path
) -> None:
    rows = sheet(done)
    clusters = pq.read_table(fit_folder(done) / "assignments").to_pylist()
    kinds: dict[str, set[str]] = {}
    for row in clusters:
        kinds.setdefault(str(row["cluster_id"]), set()).add(kind_of(row["uri"]))
    (impure,) = (cluster for cluster, found in kinds.items() if len(found) == 2)
    for row in rows:
        split = row["cluster_id"] == impure
        row["name"] = "" if split else next(iter(kinds[row["cluster_id"]]))
        row["purity"] = "split" if split else "pure"
    apply_labels(done, names=write(tmp_path / "first.csv", rows))
    first = labels(done)
    assert {r["label_source"] for r in first if str(r["cluster_id"]) == impure} == {"model"}
    text = (fit_folder(done) / "labels/review/cluster_names.csv").read_text()
    branches = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["cluster_id"].split("/")[0] for row in branches] == [impure, impure]
    for row in branches:
        row["name"] = kind_of(row["exemplar_uris"].split(" | ")[0])
    assert {row["name"] for row in branches} == kinds[impure]
    both = [row for row in rows if row["cluster_id"] != impure] + branches
    apply_labels(done, names=write(tmp_path / "second.csv", both))
    second = labels(done)
    assert len(second) == ROWS
    assert {row["label_source"] for row in second} == {"cluster"}
    right = sum(row["label"] == kind_of(row["uri"]) for row in second)
    assert right >= 0.95 * ROWS
    assert all(0 <= row["confidence"] <= 1 for row in second)


def test_chosen_images_label_all_others(done: Session, tmp_path: Path) -> None:
    choose_images(done)
    review = fit_folder(done) / "labels/review"
    text = (review / "images.csv").read_text()
    asked = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(asked) == 12
    assert {kind_of(row["uri"]) for row in asked[:6]} == {"disc", "noise", "square", "stripes"}
    tasks = json.loads((review / "label_studio.json").read_bytes())
    assert [t["data"]["image_id"] for t in tasks] == [row["image_id"] for row in asked]
    for row in asked:
        row["label"] = kind_of(row["uri"])
    apply_labels(done, corrections=write(tmp_path / "images.csv", asked))
    found = labels(done)
    assert sum(row["label"] == kind_of(row["uri"]) for row in found) >= 0.95 * ROWS
    said = [row for row in found if row["label_source"] == "image"]
    assert {row["image_id"] for row in said} == {row["image_id"] for row in asked}
    probe = read_probe((fit_folder(done) / "labels/probe.npz").read_bytes())
    assert probe.classes == ("disc", "noise", "square", "stripes")
    again = {row["image_id"] for row in csv.DictReader((review / "images.csv").open(newline=""))}
    assert not again & {row["image_id"] for row in asked}  # the next round asks about others


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"run_id": "0" * 12}, "made for run 000000000000"),
        ({"cluster_id": "99"}, "unknown cluster '99'"),
        ({"cluster_id": "0/99999"}, "unknown cluster '0/99999'"),
        ({"purity": "clean"}, "purity 'clean'"),
    ],
)
def test_bad_sheets_change_nothing(
    done: Session, tmp_path: Path, change: dict[str, str], words: str
) -> None:
    rows = [row | {"name": "x"} for row in sheet(done)]
    before = {p: p.stat().st_mtime_ns for p in (fit_folder(done) / "labels").rglob("*")}
    with pytest.raises(InputError, match=words):
        apply_labels(done, names=write(tmp_path / "bad.csv", [rows[0] | change, *rows[1:]]))
    assert {p: p.stat().st_mtime_ns for p in (fit_folder(done) / "labels").rglob("*")} == before


def test_an_unknown_image_is_refused(done: Session, tmp_path: Path) -> None:
    first = sheet(done)[0]
    row = {**{k: first[k] for k in ("run_id", "fit_id")}, "image_id": "nobody", "label": "x"}
    with pytest.raises(InputError, match="image 'nobody' is not among the clustered images"):
        apply_labels(done, corrections=write(tmp_path / "bad.csv", [row]))


def test_no_file_and_unknown_formats_are_refused(done: Session, tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="names: required"):
        apply_labels(done)
    wrong = tree | {"manifests": {"formats": ["coco"]}}
    with pytest.raises(ClusterlibError, match=r"manifests\.formats") as caught:
        validate_config(wrong)
    assert caught.value.exit_code == 2


def test_best_views_are_one_image_a_product(
    ray_session: None, shapes_folder: Path, tmp_path: Path
) -> None:
    """Products of four images, one of each kind; two of them lack a disc."""
    rows = []
    for number in range(10):
        for kind in ("disc", "noise", "square", "stripes"):
            if kind != "disc" or number < 8:
                uri = shapes_folder / kind / f"{number:03d}.png"
                rows.append({"uri": str(uri), "sku": f"sku-{number}"})
    tree = settings(
        write(tmp_path / "catalog.csv", rows),
        tmp_path / "run",
        catalog={"group_column": "sku"},
        manifests={"rows_per_file": 15},
        clustering={"k_max": 4},
    )
    session = open_session(validate_config(tree))
    run_pipeline(session)
    with pytest.raises(InputError, match="no labels yet"):
        choose_best_views(session, label="front")
    names = sheet(session)
    for row in names:
        row["name"] = "Front" if kind_of(row["exemplar_uris"].split(" | ")[0]) == "disc" else "x"
    apply_labels(session, names=write(tmp_path / "names.csv", names))
    with pytest.raises(InputError, match="no image is labelled side"):
        choose_best_views(session, label="side")
    choose_best_views(session, label="front")
    folder = fit_folder(session) / "labels/best_views"
    assert sorted(path.name for path in folder.iterdir()) == ["csv", "parquet"]
    found = [r for p in (folder / "parquet").glob("*") for r in pq.read_table(p).to_pylist()]
    assert sorted(row["group"] for row in found) == [f"sku-{n}" for n in range(10)]
    best = {row["group"] for row in found if row["is_best_view"]}
    assert best == {f"sku-{n}" for n in range(8)}
    assert {kind_of(row["uri"]) for row in found if row["is_best_view"]} == {"disc"}
