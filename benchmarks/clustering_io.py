"""Where the time of the assignment goes when embeddings come from Parquet through Ray.

    python -m benchmarks.clustering_io

200,000 rows x 768 float16, k=1000, in a space of 768 dimensions. One process on one thread first
reads, multiplies and assigns; then the stage does it all on every core: assignment, compaction, and
the scan that describes the clusters.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from threadpoolctl import threadpool_limits

from benchmarks.cluster_sets import mixture
from benchmarks.clustering_scale import commit_part
from clusterlib.clustering.assign import BLOCK_ROWS, assign, nearest_two
from clusterlib.config import validate_config
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.assign_clusters import assign_clusters
from clusterlib.stages.clusters.fit_clusters import fit_clusters
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.clusters.scan_embeddings import vectors
from clusterlib.stages.session import Session, open_session
from clusterlib.tables.parquet import read_parquet

ROWS, DIM, K, PER_FILE, RUNS = 200_000, 768, 1000, 25_000, 5


def fitted_run(folder: Path) -> Session:
    """A run that is embedded and fitted, its assignment still to do."""
    names = pa.array([f"mem://{i}" for i in range(ROWS)])
    pq.write_table(pa.table({"uri": names}), folder / "images.parquet")
    tree = {
        "run_uri": f"{folder}/run",
        "catalog": {"source": f"{folder}/images.parquet"},
        "sample": {"rows": 10_000},
        "clustering": {
            "k": [K],
            "method": "kmeans",
            "pca_dim": DIM,
            "scaling": "centered",
            "statistics": "sample",
        },
    }
    session = open_session(validate_config(tree))
    build_catalog(session)
    table = session.table(session.run.uri, log=session.run.embed_log, rows=ROWS)
    table.open(session.embed_settings(session.catalog()))
    for start in range(0, ROWS, PER_FILE):
        x, _ = mixture(rows=PER_FILE, dim=DIM, groups=400, zipf=1.0, separation=1.0, seed=0)
        ids = np.arange(start, start + PER_FILE)
        commit_part(session, table, ids, x.astype(np.float16), is_sampled=ids % 20 == 0)
    fit_clusters(session)
    return session


def seconds(call: Callable[[], object]) -> float:
    """Median of RUNS."""
    taken = []
    for _ in range(RUNS):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    folder = Path(tempfile.mkdtemp(prefix="bench-io-"))
    try:
        session = fitted_run(folder)
        embeddings, run_id = session.embeddings()
        model = read_model(session.fit(run_id).model)
        path = embeddings.uri(embeddings.files("embeddings")[0])
        columns = ["row_id", "image_id", "uri", "embedding"]
        x = vectors(read_parquet(path, columns))
        z = model.space.transform(x.astype(np.float32))
        blocks = range(0, len(z), BLOCK_ROWS)
        with threadpool_limits(1):
            read = seconds(lambda: vectors(read_parquet(path, columns)).astype(np.float32))
            bare = seconds(lambda: [z[b : b + BLOCK_ROWS] @ model.centroids_KP.T for b in blocks])
            two = seconds(lambda: [nearest_two(z[b : b + BLOCK_ROWS], model) for b in blocks])
            whole = seconds(lambda: assign(x, model))
        cores = os.cpu_count() or 1
        ray.init(
            address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False,
            logging_level="ERROR",
        )  # fmt: skip
        started = time.perf_counter()
        assign_clusters(session)
        stage = time.perf_counter() - started
        ray.shutdown()
    finally:
        shutil.rmtree(folder)
    rows = len(z)
    print(f"\n{ROWS:,} rows x {DIM} float16, k={model.k}, {cores} cores\n")
    print("| what | rows a second and core | share of the bare product |\n|---|---|---|")
    for name, taken in (
        ("bare product", bare),
        ("nearest two", two),
        ("space, nearest two, silhouette, outliers", whole),
        ("the same after reading Parquet", read + whole),
        ("the whole stage through Ray", stage * cores * rows / ROWS),
    ):
        print(f"| {name} | {rows / taken:,.0f} | {bare / taken:.2f} |")
    print(f"\nReading is {read / (read + whole):.0%} of reading and assigning.")


if __name__ == "__main__":
    main()
