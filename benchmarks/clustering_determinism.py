"""The same embeddings in other files, orders and worker counts: are the clusters the same?

    python -m benchmarks.clustering_determinism

Three block layouts x two worker counts x three row orders; fit and both scans each time, for kmeans
and for the manifold. Groups overlap, so that many rows lie between two clusters.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from benchmarks.cluster_sets import mixture
from benchmarks.clustering_scale import commit_part
from clusterlib.clustering.picks import row_hash
from clusterlib.config import validate_config
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.assign_clusters import assign_clusters
from clusterlib.stages.clusters.fit_clusters import fit_clusters
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.session import open_session

ROWS, SAMPLE = 20_000, 6_000
LAYOUTS, WORKERS, ORDERS = (20_000, 3_000, 900), (1, 2), ("forward", "backward", "shuffled")
EXACT = ("cluster_id", "second_cluster_id", "micro_id", "is_outlier")
CLOSE = ("distance", "margin", "silhouette")


def clustered(
    x: np.ndarray, *, method: str, rows_per_file: int, order: str
) -> tuple[bytes, pa.Table]:
    """Centroids and the rows of the assignments of one run, by row id."""
    folder = Path(tempfile.mkdtemp(prefix="bench-same-"))
    names = pa.array([f"mem://{i}" for i in range(ROWS)])
    pq.write_table(pa.table({"uri": names}), folder / "images.parquet")
    tree = {
        "run_uri": f"{folder}/run",
        "catalog": {"source": f"{folder}/images.parquet"},
        "encoder": {"storage": "float32"},
        "sample": {"rows": SAMPLE},
        "clustering": {"k": 60, "method": method},
    }
    session = open_session(validate_config(tree))
    try:
        build_catalog(session)
        table = session.table(session.run.uri, log=session.run.embed_log, rows=ROWS)
        table.open(session.embed_settings(session.catalog()))
        rng = np.random.default_rng(0)
        starts = list(range(0, ROWS, rows_per_file))
        if order == "backward":
            starts.reverse()
        elif order == "shuffled":
            rng.shuffle(starts)
        for start in starts:
            ids = np.arange(start, min(start + rows_per_file, ROWS))
            if order != "forward":
                ids = ids[::-1].copy() if order == "backward" else rng.permutation(ids)
            is_sampled = row_hash(ids, seed=0) < SAMPLE / ROWS
            commit_part(session, table, ids, x[ids], is_sampled=is_sampled)
        fit_clusters(session)
        assign_clusters(session)
        _, run_id = session.embeddings()
        fit = session.fit(run_id)
        rows = pa.concat_tables(list(session.assignments(fit, ROWS).read("assignments")))
        return read_model(fit.model).centroids_KP.tobytes(), rows.sort_by("row_id")
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Print what differs from the first of the 18 runs of each method."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    for method in ("kmeans", "manifold"):
        compare(method)


def compare(method: str) -> None:
    """Print what differs from the first of 18 runs."""
    x, _ = mixture(rows=ROWS, dim=128, groups=100, zipf=1.0, separation=0.55, seed=0)
    found = {}
    for workers in WORKERS:
        ray.init(
            address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False,
            logging_level="ERROR",
        )  # fmt: skip
        for rows_per_file, order in product(LAYOUTS, ORDERS):
            found[workers, rows_per_file, order] = clustered(
                x, method=method, rows_per_file=rows_per_file, order=order
            )
        ray.shutdown()
    centroids, rows = next(iter(found.values()))
    close = int((rows["margin"].to_numpy() < 1e-5).sum())
    print(f"\n{method}: {len(found)} runs of {ROWS:,} rows; margin below 1e-5 in {close} rows\n")
    print("| what | runs that differ | rows that differ at most | largest difference |")
    print("|---|---|---|---|")
    others = list(found.values())[1:]
    print(f"| centroids, bytes | {sum(c != centroids for c, _ in others)} | | |")
    for name in EXACT:
        counts = [int((r[name].to_numpy() != rows[name].to_numpy()).sum()) for _, r in others]
        print(f"| {name} | {np.count_nonzero(counts)} | {max(counts)} | |")
    for name in CLOSE:
        gaps = [float(np.abs(r[name].to_numpy() - rows[name].to_numpy()).max()) for _, r in others]
        print(f"| {name} | {np.count_nonzero(gaps)} | | {max(gaps):.1e} |")


if __name__ == "__main__":
    main()
