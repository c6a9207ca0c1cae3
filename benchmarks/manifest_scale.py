"""A million synthetic assignments in every manifest format: rows a second, peak memory.

    python -m benchmarks.manifest_scale [--rows N]

The run below is written as the pipeline writes it, but for the images, which are not there: the
cells of the contact sheets stay empty. Linux only: peaks are VmHWM of /proc.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.catalog.frozen import freeze
from clusterlib.catalog.source import SourceBatch
from clusterlib.config import validate_config
from clusterlib.stages.labeling.write_manifests import write_manifests
from clusterlib.stages.session import Session, open_session
from clusterlib.tables.committed import write_proposal
from clusterlib.tables.parquet import encode_parquet
from clusterlib.tables.schemas import ASSIGNMENTS, CLUSTERS, embeddings_schema

CLUSTERS_K = 100
DIM = 64
ROWS_PER_FILE = 50_000
LOCAL = "/catalogue/images/"
# A cloud reads its own addresses only, so each has a pass of its own.
PASSES: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "local tools": (
        (
            *("parquet", "csv", "label_studio", "cluster_tasks", "datumaro"),
            *("cvat", "fiftyone", "folders", "npy"),
        ),
        {},
    ),
    "sagemaker": (("sagemaker",), {LOCAL: "s3://bucket/images/"}),
    "vertex": (("vertex",), {LOCAL: "gs://bucket/images/"}),
    "azureml": (("azureml",), {LOCAL: "https://store.example/images/"}),
}


def session_for(folder: Path, formats: Sequence[str], prefixes: dict[str, str]) -> Session:
    """A session on the run in `folder`."""
    tree = {
        "run_uri": str(folder / "run"),
        "catalog": {"source": LOCAL},
        "clustering": {"k": CLUSTERS_K, "k_max": CLUSTERS_K},
        "manifests": {"formats": list(formats), "uri_prefixes": prefixes},
    }
    return open_session(validate_config(tree))


def make_run(session: Session, rows: int) -> None:
    """Catalogue, embeddings, assignments and clusters of `rows` images."""
    rng = np.random.default_rng(0)

    def batch(start: int) -> SourceBatch:
        numbers = range(start, min(start + ROWS_PER_FILE, rows))
        names = pa.array([f"shoes/sku-{n:08d}.jpg" for n in numbers])
        uris = pa.array([f"{LOCAL}shoes/sku-{n:08d}.jpg" for n in numbers])
        return SourceBatch({"image_id": names, "uri": uris})

    starts = range(0, rows, ROWS_PER_FILE)
    run = session.run
    freeze(
        (batch(start) for start in starts),
        folder=run.catalog,
        settings=session.catalog_settings(),
        source=LOCAL,
    )
    embedded = session.table(run.uri, log=run.embed_log, rows=rows)
    embedded.open(session.embed_settings(session.catalog()))
    for start in starts:
        table = _embeddings(batch(start), start, rng)
        _commit(embedded, run.uri, "embeddings", table, start)
    _, run_id = session.embeddings()
    fit = session.fit(run_id)
    assigned = session.table(fit.uri, log=fit.assign_log, rows=rows)
    assigned.open(session.fit_settings(run_id))
    sizes = np.zeros(CLUSTERS_K, dtype=np.int64)
    for start in starts:
        table = _assignments(batch(start), start, rng)
        sizes += np.bincount(table["cluster_id"].to_numpy(), minlength=CLUSTERS_K)
        _commit(assigned, fit.uri, "assignments", table, start)
    storage.write_bytes(fit.clusters, encode_parquet(_clusters(sizes)))


def _commit(committed: Any, root: str, dataset: str, table: pa.Table, start: int) -> None:
    ranges = ((start, start + table.num_rows),)
    proposal = write_proposal(root, {dataset: table}, ranges=ranges, started_at=time.time())
    assert committed.commit([proposal])


def _embeddings(batch: SourceBatch, start: int, rng: np.random.Generator) -> pa.Table:
    n = batch.rows
    schema = embeddings_schema(DIM, "float32")
    x_ND = rng.standard_normal((n, DIM), dtype=np.float32)
    columns = {
        "row_id": pa.array(np.arange(start, start + n)),
        "image_id": batch.columns["image_id"],
        "uri": batch.columns["uri"],
        "embedding": pa.FixedSizeListArray.from_arrays(
            pa.array(x_ND.ravel()), type=schema.field("embedding").type
        ),
        "content_hash": pa.array(["0" * 32] * n),
    }
    whole = {name: pa.array([640] * n, pa.int32()) for name in ("width", "height", "n_frames")}
    return pa.Table.from_arrays([(columns | whole)[f.name] for f in schema], schema=schema)


def _assignments(batch: SourceBatch, start: int, rng: np.random.Generator) -> pa.Table:
    n = batch.rows
    fractions = rng.random((4, n), dtype=np.float32)
    columns = {
        "row_id": pa.array(np.arange(start, start + n)),
        "image_id": batch.columns["image_id"],
        "uri": batch.columns["uri"],
        "cluster_id": pa.array(rng.integers(0, CLUSTERS_K, n).astype(np.int32)),
        "second_cluster_id": pa.array(rng.integers(0, CLUSTERS_K, n).astype(np.int32)),
        "distance": pa.array(fractions[0]),
        "margin": pa.array(fractions[1]),
        "silhouette": pa.array(fractions[2] * 2 - 1),
        "is_outlier": pa.array(fractions[3] < 0.01),
        "micro_id": pa.array(np.zeros(n, dtype=np.int32)),
    }
    return pa.Table.from_arrays([columns[f.name] for f in ASSIGNMENTS], schema=ASSIGNMENTS)


def _clusters(sizes: np.ndarray) -> pa.Table:
    pick = {"row_id": 0, "image_id": "x", "uri": f"{LOCAL}x.jpg"}
    rows = [
        {
            "cluster_id": cluster,
            "size": int(size),
            **dict.fromkeys(("spread", "silhouette", "negative_share"), 0.0),
            "outliers": 0,
            **{kind: [pick] * 8 for kind in ("nearest", "boundary", "random")},
        }
        for cluster, size in enumerate(sizes)
    ]
    return pa.Table.from_pylist(rows, schema=CLUSTERS)


class PeakMemory(threading.Thread):
    """Watches the peak resident memory of this process and of all that it starts, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peaks: dict[str, float] = {}
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.2):
            self._look()

    def stop(self) -> dict[str, float]:
        """The largest peak of each kind of process."""
        self._look()
        self._done.set()
        return self.peaks

    def _look(self) -> None:
        parents, facts = {}, {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                lines = (entry / "status").read_text().splitlines()
            except OSError:
                continue  # it has just ended
            found = dict(line.split(":", 1) for line in lines if ":" in line)
            parents[entry.name] = found["PPid"].strip()
            peak = float(found.get("VmHWM", "0 kB").split()[0]) / 1024
            facts[entry.name] = (found["Name"].strip().split("::")[-1], peak)
        own = {str(_pid())}
        while more := {pid for pid, parent in parents.items() if parent in own} - own:
            own |= more
        for pid in own & set(facts):
            name, peak = facts[pid]
            self.peaks[name] = max(self.peaks.get(name, 0.0), peak)


def bytes_below(folder: Path) -> int:
    """Bytes of the files below `folder`, links left out.

    Not by `rglob`, which keeps a million paths in memory: the peak measured next would be its own.
    """
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            found = os.lstat(os.path.join(place, name))
            total += 0 if stat.S_ISLNK(found.st_mode) else found.st_size
    return total


def _pid() -> int:
    return int(Path("/proc/self").resolve().name)


def main() -> None:
    """Build the run, write every format, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    folder = Path(tempfile.mkdtemp(prefix="manifest-scale-"))
    try:
        make_run(session_for(folder, ["parquet"], {}), rows)
        for name, (formats, prefixes) in PASSES.items():
            session = session_for(folder, formats, prefixes)
            session.start_ray()
            watch = PeakMemory()
            watch.start()
            started = time.monotonic()
            write_manifests(session)
            seconds = time.monotonic() - started
            peaks = sorted(watch.stop().items(), key=lambda item: -item[1])
            session.close()
            (manifests,) = (folder / "run/fits").glob("*/manifests")
            size = bytes_below(manifests)
            print(f"{name}: {', '.join(formats)}")
            print(f"  {rows:,} rows in {seconds:.0f} s: {rows / seconds:,.0f} rows/s, {size:,} B")
            largest = ", ".join(f"{kind} {peak:.0f}" for kind, peak in peaks[:5])
            print(f"  peak MiB: {largest}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
