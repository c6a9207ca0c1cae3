"""The report at scale: 100,000 points on the map, 2,000 clusters, in a real browser.

    make bench-report     prints the table that stands in benchmarks/report.md

Embeddings are made up (2,000 blobs on a sphere) and pictures are the 1,797 digits; everything after
the embedding stage is the product's own. The browser is an installed Chromium without a GPU.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from clusterlib.catalog.digits import write_digits
from clusterlib.catalog.table import read_table
from clusterlib.clustering.picks import row_hash
from clusterlib.config import CatalogConfig, load_config
from clusterlib.images.decode import Limits
from clusterlib.images.thumbnail import thumbnail_webp
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.assign_clusters import assign_clusters
from clusterlib.stages.clusters.fit_clusters import fit_clusters
from clusterlib.stages.reporting.write_report import write_report
from clusterlib.stages.session import Session, open_session
from clusterlib.tables.committed import write_proposal
from clusterlib.tables.schemas import embeddings_schema, sample_schema
from tests.report.browser import chromium, open_page

ROWS, CLUSTERS, DIM, RUNS = 100_000, 2_000, 48, 5

FRAMES = """(seconds) => new Promise((done) => {
  const begin = performance.now(), times = [];
  let before = begin;
  const step = (now) => {
    times.push(now - before); before = now;
    const turn = times.length;
    clusterMap.zoom(turn % 60 < 30 ? 1.03 : 1 / 1.03);
    clusterMap.pan(Math.sin(turn / 9) * 12, Math.cos(turn / 9) * 12);
    if (now - begin < seconds * 1000) requestAnimationFrame(step);
    else done(times.slice(2));
  };
  requestAnimationFrame(step);
})"""

LOADED = "performance.timing.loadEventEnd - performance.timing.navigationStart"
SEARCH = """() => new Promise((done) => {
  const begin = performance.now(), find = document.getElementById('find');
  find.value = '1777';
  find.dispatchEvent(new Event('input'));
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - begin)));
})"""


def main() -> None:
    """Build the run, report on it, and drive its pages."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, rss, report, size = build(Path(folder))
        print(f"report built in {seconds:.1f} s, driver's peak RSS {rss:.0f} MB, {size:.0f} MB")
        drive(report)


def build(folder: Path) -> tuple[float, float, Path, float]:
    """A finished run below `folder`: seconds and MB of the report stage, and where it is."""
    session = prepare(folder)
    build_catalog(session)
    _embed(session, folder)
    fit_clusters(session)
    assign_clusters(session)
    session.close()
    # A process of its own, so that the peak is the report's.
    code = "import sys; from benchmarks.report import report_alone; report_alone(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True
    )
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    return facts["seconds"], facts["rss_mb"], Path(facts["report"]).parent, facts["size_mb"]


def prepare(folder: Path) -> Session:
    """The session of the run in `folder`."""
    table = folder / "catalog.csv"
    if not table.exists():
        digits = CatalogConfig(source=write_digits(str(folder / "digits")), label_column="digit")
        rows = pa.concat_tables(pa.table(batch.columns) for batch in read_table(digits))
        uris, labels = rows["uri"].to_pylist(), rows["label"].to_pylist()
        lines = [
            f"{uris[i % len(uris)]},shop/{i:07d}.png,{labels[i % len(uris)]}" for i in range(ROWS)
        ]
        table.write_text("\n".join(["uri,id,digit", *lines]) + "\n")
    config = folder / "config.yaml"
    config.write_text(
        f"run_uri: {folder}/run\n"
        f"catalog: {{source: {table}, id_column: id, label_column: digit}}\n"
        f"sample: {{rows: {ROWS}}}\n"
        f"clustering: {{method: kmeans, k: {CLUSTERS}, k_min: {CLUSTERS}, k_max: {CLUSTERS},"
        " k_count: 1}\n"
        f"report: {{title: Two thousand clusters, map: pca, map_points: 100000}}\n"
    )
    return open_session(load_config(str(config)))


def _embed(session: Session, folder: Path) -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(CLUSTERS, DIM))
    x_ND = centers[rng.integers(CLUSTERS, size=ROWS)] + 0.45 * rng.normal(size=(ROWS, DIM))
    x_ND /= np.linalg.norm(x_ND, axis=1, keepdims=True)
    files = sorted((folder / "digits").rglob("*.png"))
    thumbnails = [
        thumbnail_webp(file.read_bytes(), size=64, limits=Limits(max_pixels=10**6)) or b""
        for file in files
    ]
    catalog = session.catalog()
    table = session.table(session.run.uri, log=session.run.embed_log, rows=ROWS)
    table.open(session.embed_settings(catalog))
    share = min(1.0, session.config.sample.rows / ROWS)
    schema, sampled = embeddings_schema(DIM, "float32"), sample_schema(DIM, "float32")
    for start in range(0, ROWS, 10_000):
        rows = np.arange(start, start + 10_000)
        vectors = pa.FixedSizeListArray.from_arrays(
            pa.array(x_ND[rows].astype(np.float32).ravel()), type=schema.field("embedding").type
        )
        columns = {
            "row_id": rows,
            "image_id": [f"shop/{row:07d}.png" for row in rows],
            "uri": [str(files[row % len(files)]) for row in rows],
            "embedding": vectors,
            "width": np.full(len(rows), 64, np.int32),
            "height": np.full(len(rows), 64, np.int32),
            "n_frames": np.ones(len(rows), np.int32),
            "content_hash": [f"{row:032x}" for row in rows],
        }
        chosen = np.flatnonzero(row_hash(rows, seed=session.config.seed) < share)
        sample = {
            "row_id": rows[chosen],
            "embedding": vectors.take(pa.array(chosen)),
            "thumbnail": [thumbnails[rows[i] % len(files)] for i in chosen],
        }
        tables = {
            "embeddings": pa.Table.from_pydict(columns, schema=schema),
            "sample": pa.Table.from_pydict(sample, schema=sampled),
        }
        ranges = ((start, start + len(rows)),)
        table.commit(
            [write_proposal(session.run.uri, tables, ranges=ranges, started_at=time.time())]
        )


def report_alone(folder: str) -> None:
    """The report stage in this process; prints its facts as JSON."""
    session = prepare(Path(folder))
    session.start_ray()
    started = time.perf_counter()
    write_report(session)
    seconds = time.perf_counter() - started
    facts = session.record["stages"]["write_report"]
    numbers = json.loads((Path(facts["report"]).parent / "report.json").read_text())
    session.close()
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "seconds": seconds,
                "rss_mb": rss,
                "report": facts["report"],
                "size_mb": numbers["size_mb"],
                "map": numbers["map"],
            }
        )
    )


def drive(report: Path) -> None:
    """Time the map and the overview; medians of five fresh pages."""
    paints, rates, slow, loads, finds = [], [], [], [], []
    with chromium() as browser:
        for _ in range(RUNS):
            with open_page(browser, report, "map.html") as page:
                page.wait_for_function("document.getElementById('map').dataset.painted")
                paints.append(
                    float(page.evaluate("document.getElementById('map').dataset.painted"))
                )
                times = page.evaluate(FRAMES, 3)
                rates.append(1000 / statistics.fmean(times))
                slow.append(statistics.quantiles(times, n=20)[-1])
            with open_page(browser, report) as page:
                loads.append(page.evaluate(LOADED))
                finds.append(page.evaluate(SEARCH))
    print(f"| | median of {RUNS} | min-max |\n|---|---|---|")
    for words, values, unit in (
        (f"map of {ROWS:,} points: first paint", paints, "ms"),
        ("map: zooming and panning", rates, "frames/s"),
        ("map: 95th percentile of a frame", slow, "ms"),
        (f"overview of {CLUSTERS:,} clusters: loaded and interactive", loads, "ms"),
        ("overview: search to next frame", finds, "ms"),
    ):
        middle, low, high = statistics.median(values), min(values), max(values)
        print(f"| {words} | {middle:,.0f} {unit} | {low:,.0f}-{high:,.0f} |")


if __name__ == "__main__":
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    main()
