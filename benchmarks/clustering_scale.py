"""Driver memory and seconds a row of fit and assignment, on runs whose embeddings are synthetic.

    python -m benchmarks.clustering_scale 1 4 10      # millions of rows, 512 x float16 each

The embeddings go to disk in parts, through the same committed table that embedding writes; then the
two jobs run as processes of their own, and say in run.json what they took.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clusterlib.clustering.picks import row_hash
from clusterlib.config import load_config
from clusterlib.stages.session import Session, open_session
from clusterlib.tables.committed import CommittedTable, write_proposal
from clusterlib.tables.schemas import embeddings_schema, sample_schema

DIM, GROUPS, ROWS_PER_FILE = 512, 200, 50_000
SAMPLE = 50_000


def write_run(folder: Path, rows: int) -> Path:
    """A run with its catalogue and embeddings done; returns its configuration."""
    names = pa.array([f"mem://{i}" for i in range(rows)])
    pq.write_table(pa.table({"uri": names}), folder / "images.parquet")
    config = folder / "config.yaml"
    config.write_text(
        f"run_uri: {folder}/run\ncatalog: {{source: {folder}/images.parquet}}\n"
        f"encoder: {{storage: float16}}\nsample: {{rows: {SAMPLE}}}\n"
        "clustering: {k: 200, k_min: 50, k_max: 200, k_count: 3}\n"
    )
    run_job("build_catalog", config)
    _write_embeddings(open_session(load_config(str(config))), rows)
    return config


def _write_embeddings(session: Session, rows: int) -> None:
    catalog = session.catalog()
    table = session.table(session.run.uri, log=session.run.embed_log, rows=rows)
    table.open(session.embed_settings(catalog))
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((GROUPS, DIM), dtype=np.float32)
    noise = 1.5 * rng.standard_normal((ROWS_PER_FILE, DIM), dtype=np.float32)
    for start in range(0, rows, ROWS_PER_FILE):
        ids = np.arange(start, min(start + ROWS_PER_FILE, rows))
        x = centers[rng.integers(0, GROUPS, len(ids))]
        # The same noise around other centers: making it anew takes longer than clustering.
        x += noise[rng.permutation(len(noise))[: len(ids)]]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        is_sampled = row_hash(ids, seed=0) < SAMPLE / rows
        commit_part(session, table, ids, x.astype(np.float16), is_sampled=is_sampled)


def commit_part(
    session: Session,
    table: CommittedTable,
    ids: np.ndarray,
    x: np.ndarray,
    *,
    is_sampled: np.ndarray,
) -> None:
    """Commit one file of embeddings `x` (N, D), as the embedding stage does, in this row order."""
    kind, dim = str(x.dtype), x.shape[1]
    names, one = pa.array([f"mem://{i}" for i in ids]), pa.array(np.ones(len(ids), dtype=np.int32))
    schema = embeddings_schema(dim, kind)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(x.ravel()), dim)
    embeddings = pa.Table.from_arrays(
        [pa.array(ids), names, names, vectors.cast(schema.field("embedding").type)]
        + [one, one, one, pa.array([""] * len(ids))],
        schema=schema,
    )
    taken = embeddings.select(["row_id", "embedding"]).take(pa.array(np.flatnonzero(is_sampled)))
    pictures = pa.array([b""] * taken.num_rows, pa.binary())
    sample = taken.append_column("thumbnail", pictures).cast(sample_schema(dim, kind))
    proposal = write_proposal(
        session.run.uri,
        {"embeddings": embeddings, "sample": sample},
        ranges=((int(ids.min()), int(ids.max()) + 1),),
        started_at=time.time(),
    )
    table.commit([proposal])


def run_job(name: str, config: Path) -> dict:
    """Run one job in a process of its own; returns its run.json."""
    command = [sys.executable, "-m", f"jobs.{name}", "--config", str(config)]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads((config.parent / "run" / "run.json").read_text())


def main() -> None:
    """Print one row a size."""
    print("| million rows | job | seconds | µs a row | driver peak RSS, MB |")
    print("|---|---|---|---|---|")
    for text in sys.argv[1:]:
        rows = round(float(text) * 1e6)
        folder = Path(tempfile.mkdtemp(prefix="bench-scale-"))
        try:
            config = write_run(folder, rows)
            for job in ("fit_clusters", "assign_clusters"):
                record = run_job(job, config)
                seconds = record["stages"][job]["seconds"]
                rate = 1e6 * seconds / rows
                peak = record["driver_peak_rss_mb"]
                print(f"| {text} | {job} | {seconds:.0f} | {rate:.1f} | {peak:.0f} |", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
