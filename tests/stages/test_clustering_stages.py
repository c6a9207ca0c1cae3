"""Clusters do not depend on how the embeddings lie in files, and their statistics are exact."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import silhouette_samples

from clusterlib.clustering.picks import ALL_KINDS
from clusterlib.clustering.space import fit_space
from clusterlib.config import validate_config
from clusterlib.errors import ClusteringError
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.assign_clusters import assign_clusters, read_confusion
from clusterlib.stages.clusters.fit_clusters import fit_clusters, read_record
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.session import Session, open_session
from clusterlib.tables.committed import CommittedTable, write_proposal
from clusterlib.tables.schemas import QUARANTINE, embeddings_schema, sample_schema
from tests.conftest import settings

ROWS, DIM = 900, 24
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def vectors() -> np.ndarray:
    rng = np.random.default_rng(7)
    centers = 2 * rng.normal(size=(6, DIM))
    x = centers[rng.integers(0, 6, ROWS)] + rng.normal(size=(ROWS, DIM))
    x[::12] = 3 * rng.normal(size=x[::12].shape)  # of no group
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def new_run(folder: Path, *, rows: int, **clustering: Any) -> tuple[Session, CommittedTable]:
    """A run with its catalogue, and the table of its embeddings."""
    folder.mkdir()
    names, labels = [f"mem://{i}" for i in range(rows)], [f"label {i % 3}" for i in range(rows)]
    pq.write_table(pa.table({"uri": names, "label": labels}), folder / "images.parquet")
    tree = settings(
        folder / "images.parquet",
        folder / "run",
        catalog={"label_column": "label"},
        sample={"rows": 400},
        clustering={"k": "auto"} | clustering,
    )
    session = open_session(validate_config(tree))
    build_catalog(session)
    table = session.table(session.run.uri, log=session.run.embed_log, rows=rows)
    table.open(session.embed_settings(session.catalog()))
    return session, table


def embedded_run(
    folder: Path, *, rows_per_file: int, order: str, rows: int = ROWS, **clustering: Any
) -> Session:
    """A run whose embeddings are there, in files of this size, written in this order."""
    session, table = new_run(folder, rows=rows, **clustering)
    names = [f"mem://{i}" for i in range(rows)]
    starts = list(range(0, rows, rows_per_file))
    if order == "backward":
        starts.reverse()
    elif order == "mixed":
        np.random.default_rng(0).shuffle(starts)
    for start in starts:
        ids = np.arange(start, min(start + rows_per_file, rows))
        flat = pa.array(vectors()[ids].ravel())
        schema = embeddings_schema(DIM, "float32")
        part = pa.Table.from_arrays(
            [
                pa.array(ids),
                *[pa.array([names[i] for i in ids])] * 2,
                pa.FixedSizeListArray.from_arrays(flat, DIM).cast(schema.field("embedding").type),
                *[pa.array(np.ones(len(ids), dtype=np.int32))] * 3,
                pa.array([""] * len(ids)),
            ],
            schema=schema,
        )
        # Half of the rows are the sample.
        chosen = pa.array(np.flatnonzero(ids % 2 == 0), pa.int64())
        sample = part.select(["row_id", "embedding"]).take(chosen)
        sample = sample.append_column("thumbnail", pa.array([b""] * len(chosen), pa.binary()))
        proposal = write_proposal(
            session.run.uri,
            {"embeddings": part, "sample": sample.cast(sample_schema(DIM, "float32"))},
            ranges=((int(ids[0]), int(ids[-1]) + 1),),
            started_at=time.time(),
        )
        assert table.commit([proposal])
    fit_clusters(session)
    assign_clusters(session)
    return session


def outcome(session: Session) -> tuple[bytes, pa.Table]:
    _, run_id = session.embeddings()
    fit = session.fit(run_id)
    table = session.assignments(fit, ROWS)
    rows = pa.concat_tables(list(table.read("assignments"))).sort_by("row_id")
    return read_model(fit.model).centroids_KP.tobytes(), rows


def test_layout_and_order_change_nothing_and_silhouettes_are_exact(tmp_path: Path) -> None:
    first = embedded_run(tmp_path / "a", rows_per_file=900, order="forward")
    centroids, rows = outcome(first)
    for name, size, order in (("b", 130, "backward"), ("c", 64, "mixed")):
        other, other_rows = outcome(embedded_run(tmp_path / name, rows_per_file=size, order=order))
        assert other == centroids
        for column in ("row_id", "cluster_id", "second_cluster_id", "micro_id", "is_outlier"):
            assert other_rows[column].equals(rows[column]), column
        for column in ("distance", "margin", "silhouette"):
            np.testing.assert_allclose(other_rows[column], rows[column], atol=1e-5)
    _, run_id = first.embeddings()
    model = read_model(first.fit(run_id).model)
    ids = rows["cluster_id"].to_numpy()
    expected = silhouette_samples(
        model.space.transform(vectors()).astype(np.float64), ids, metric="cosine"
    )
    np.testing.assert_allclose(rows["silhouette"].to_numpy(), expected, atol=1e-5)
    assert model.sizes_K.sum() == ROWS


def test_noise_is_in_no_cluster_and_the_space_is_that_of_all_rows(tmp_path: Path) -> None:
    session = embedded_run(
        tmp_path / "a", rows_per_file=300, order="forward", method="hdbscan", space="exact"
    )
    _, rows = outcome(session)
    _, run_id = session.embeddings()
    clusters = pq.read_table(session.fit(run_id).clusters)
    ids = rows["cluster_id"].to_numpy()
    assert 0 < (ids == -1).sum() < ROWS
    assert clusters["cluster_id"].to_pylist() == list(range(ids.max() + 1))
    assert clusters["size"].to_pylist() == np.bincount(ids[ids >= 0]).tolist()
    noise = set(rows["row_id"].to_numpy()[ids == -1].tolist())
    for kind in ALL_KINDS:
        for picks in clusters[kind].to_pylist():
            assert picks
            assert noise.isdisjoint(pick["row_id"] for pick in picks)
    histogram = np.array(clusters["silhouette_histogram"].to_pylist())
    np.testing.assert_array_equal(histogram.sum(axis=1), clusters["size"].to_numpy())
    assert (np.diff(clusters["silhouette_quantiles"].to_pylist(), axis=1) >= 0).all()
    clustered = dict(zip(rows["row_id"].to_pylist(), ids.tolist(), strict=True))
    for cluster, picks in enumerate(clusters["diverse"].to_pylist()):
        assert len(picks) > 1
        assert all(clustered[pick["row_id"]] == cluster for pick in picks)
    table = read_confusion(session.fit(run_id))
    assert table is not None
    assert table.labels == ("label 0", "label 1", "label 2")
    assert sum(table.counts[-1]) == (ids == -1).sum()
    assert table.support == (300, 300, 300)
    space = read_model(session.fit(run_id).model).space
    expected = fit_space(vectors(), dim=16, scaling="centered")
    np.testing.assert_allclose(space.mean_D, expected.mean_D, atol=1e-6)
    np.testing.assert_allclose(space.projection_DP, expected.projection_DP, atol=1e-3)
    variance = pq.read_table(f"{session.fit(run_id).model}/variance.parquet")
    np.testing.assert_allclose(variance["share"], expected.shares_D, atol=1e-6)
    assert sum(variance["kept"].to_pylist()) == session.config.clustering.pca_dim


def test_sizes_that_are_asked_for_and_the_changed_k_are_reported(tmp_path: Path) -> None:
    session = embedded_run(
        tmp_path / "a", rows_per_file=300, order="forward", k=3, min_size=20, max_size=0.2
    )
    _, run_id = session.embeddings()
    record = read_record(session.fit(run_id))
    assert record is not None
    assert record["k"] > 3
    assert record["split"] >= 1
    assert f"split, which makes it {record['k']}" in record["reason"]
    sizes = pq.read_table(session.fit(run_id).clusters)["size"].to_numpy()
    assert len(sizes) == record["k"]
    assert sizes.max() < 0.25 * ROWS  # the sample is half of the rows, so roughly
    interval = record["euclidean_silhouette"]
    assert interval["low"] <= interval["value"] <= interval["high"]


@pytest.mark.parametrize("method", ["kmeans", "manifold"])
@pytest.mark.parametrize("rows", [1, 2])
def test_one_or_two_images_end_in_clusters(tmp_path: Path, rows: int, method: str) -> None:
    session = embedded_run(
        tmp_path / "a", rows_per_file=300, order="forward", rows=rows, method=method
    )
    _, run_id = session.embeddings()
    assert sum(pq.read_table(session.fit(run_id).clusters)["size"].to_pylist()) == rows


def test_no_embedded_image_is_a_clear_error(tmp_path: Path) -> None:
    session, table = new_run(tmp_path / "a", rows=2)
    bad = [
        {"row_id": i, "image_id": str(i), "uri": "", "code": "empty", "detail": "", "attempts": 1}
        for i in range(2)
    ]
    quarantine = pa.Table.from_pylist(bad, schema=QUARANTINE)
    proposal = write_proposal(
        session.run.uri, {"quarantine": quarantine}, ranges=((0, 2),), started_at=time.time()
    )
    assert table.commit([proposal])
    with pytest.raises(ClusteringError, match="nothing to cluster"):
        fit_clusters(session)
