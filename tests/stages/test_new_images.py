"""A catalogue of new images gets the clusters of an earlier run's fit, and its labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clusterlib.config import validate_config
from clusterlib.errors import InputError, StaleArtifactError
from clusterlib.stages.clusters.fit_clusters import fit_clusters
from clusterlib.stages.labeling.apply_labels import apply_labels
from clusterlib.stages.session import Session, open_session
from jobs.run_pipeline import run_pipeline
from tests.conftest import merged, settings


def table(path: Path, uris: list[Path]) -> Path:
    path.write_text("\n".join(["uri", *map(str, uris)]) + "\n")
    return path


@pytest.fixture(scope="module")
def first(
    ray_session: None, shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Session:
    """Twenty images of each kind, clustered and named; discs are junk, noise is mixed."""
    folder = tmp_path_factory.mktemp("first")
    uris = [p for p in sorted(shapes_folder.rglob("*.png")) if int(p.stem) < 20]
    session = open_session(
        validate_config(settings(table(folder / "all.csv", uris), folder / "run"))
    )
    run_pipeline(session)
    (fit,) = (folder / "run/fits").iterdir()
    rows = list(csv.DictReader((fit / "manifests/cluster_names.csv").open(newline="")))
    for row in rows:
        row["name"] = Path(row["exemplar_uris"].split(" | ")[0]).parent.name
        row["purity"] = {"disc": "junk", "noise": "mixed"}.get(row["name"], "pure")
    with (folder / "names.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    said = [
        {k: rows[0][k] for k in ("run_id", "fit_id")}
        | {"image_id": f"{p.parent.name}/{p.name}", "label": p.parent.name}
        for p in uris
        if p.parent.name in ("noise", "disc")
    ]
    frozen = pq.read_table(next((folder / "run/catalog").glob("*.parquet"))).to_pylist()
    ids = {row["uri"].rpartition("shapes")[2][-20:]: row["image_id"] for row in frozen}
    for row in said:
        row["image_id"] = next(v for k, v in ids.items() if k.endswith(row["image_id"]))
    with (folder / "images.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(said[0]))
        writer.writeheader()
        writer.writerows(said)
    apply_labels(session, names=str(folder / "names.csv"), corrections=str(folder / "images.csv"))
    return session


def second_tree(first: Session, shapes_folder: Path, folder: Path, **change: Any) -> dict[str, Any]:
    uris = [p for p in sorted(shapes_folder.rglob("*.png")) if int(p.stem) >= 20]
    uris = [p for p in uris if p.parent.name != "square"]  # so that a cluster stays empty
    tree = settings(
        table(folder / "new.csv", uris), folder / "run", clustering={"fit_from": first.run.uri}
    )
    return merged(tree, change)


def test_new_images_get_clusters_and_labels_of_the_first_run(
    first: Session, shapes_folder: Path, tmp_path: Path
) -> None:
    tree = second_tree(first, shapes_folder, tmp_path)
    run_pipeline(open_session(validate_config(tree)))
    (old,) = (Path(first.run.uri) / "fits").iterdir()
    (fit,) = (tmp_path / "run/fits").iterdir()

    def clusters_by_kind(folder: Path) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for path in (folder / "assignments").glob("*.parquet"):
            for row in pq.read_table(path).to_pylist():
                found.setdefault(Path(row["uri"]).parent.name, set()).add(row["cluster_id"])
        return found

    before, after = clusters_by_kind(old), clusters_by_kind(fit)
    assert set(after) == set(before) - {"square"}
    assert all(ids <= before[kind] for kind, ids in after.items())
    rows = [r for p in (fit / "labels/labels").glob("*") for r in pq.read_table(p).to_pylist()]
    assert len(rows) == 30
    for row in rows:
        kind = Path(row["uri"]).parent.name
        expected = {"disc": (None, "junk"), "noise": ("noise", "model")}
        assert (row["label"], row["label_source"]) == expected.get(kind, (kind, "cluster"))
        assert (row["confidence"] is None) == (kind == "disc")
    record = json.loads((fit / "labels/labels.json").read_text())
    assert record["sources"] == {"cluster": 10, "junk": 10, "model": 10}
    assert record["probe_right_on_held_out_checked"] >= 0.9
    sizes = pq.read_table(fit / "clusters.parquet")["size"].to_pylist()
    assert sorted(sizes) == [0, 10, 10, 10]
    numbers = json.loads((fit / "report/report.json").read_text())
    assert "stripes" in {row["name"] for row in numbers["clusters"]}
    run_pipeline(open_session(validate_config(tree)))  # everything is done already


def test_other_encoders_and_missing_fits_are_refused(
    first: Session, shapes_folder: Path, tmp_path: Path
) -> None:
    tree = second_tree(first, shapes_folder, tmp_path, encoder={"precision": "float32"})
    with pytest.raises(StaleArtifactError, match="use the same encoder"):
        run_pipeline(open_session(validate_config(tree)))
    nowhere = merged(tree, {"clustering": {"fit_from": str(tmp_path / "none")}})
    with pytest.raises(InputError, match="no finished fit here"):
        fit_clusters(open_session(validate_config(nowhere)))
