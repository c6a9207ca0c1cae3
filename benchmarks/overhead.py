"""What exactly-once and guarded decoding cost a healthy run.

    make bench-overhead           prints the table that stands in benchmarks/README.md

The real embedding stage against the same stage with its safety stubbed out by
`unsafe/sitecustomize.py`, in alternating runs: pictures are decoded in the task's own process,
files carry no checksum, and the driver counts rows instead of committing proposals. The images have
640 x 480 pixels, so that decoding weighs what it weighs in life.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.photos import write_photos

RUNS = 5
IMAGES = 1_200
HERE = Path(__file__).parent


def stage(config: Path, *, unsafe: bool) -> float:
    """Images a second of the stage in a process of its own, from the first block to the last."""
    run = yaml.safe_load(config.read_text())["run_uri"]
    shutil.rmtree(run, ignore_errors=True)
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(HERE / "unsafe"), str(HERE.parent)]),
        "BENCH_UNSAFE": "1" if unsafe else "",
    }
    for job in ("build_catalog", "embed_images"):
        command = [sys.executable, "-m", f"jobs.{job}", "--config", str(config)]
        subprocess.run(command, check=True, capture_output=True, env=env)
    record = json.loads((Path(run) / "run.json").read_text())
    rate: float = record["stages"]["embed_images"]["images_per_second"]
    return rate


def main() -> None:
    """Alternate the two, print medians and the ratio of the pairs."""
    folder = Path(tempfile.mkdtemp(prefix="bench-overhead-"))
    rates: dict[str, list[float]] = {"safe": [], "unsafe": []}
    try:
        write_photos(folder / "images", IMAGES)
        config = folder / "config.yaml"
        tree = {"run_uri": str(folder / "run"), "catalog": {"source": str(folder / "images")}}
        config.write_text(yaml.safe_dump(tree))
        for _ in range(RUNS):
            for name, values in rates.items():
                values.append(stage(config, unsafe=name == "unsafe"))
    finally:
        shutil.rmtree(folder)
    print(f"{os.cpu_count()} cores, {platform.machine()}, {IMAGES:,} images of 640 x 480")
    print(f"\n| stage | images/s, median of {RUNS} | min-max |\n|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.1f} | {min(values):.1f}-{max(values):.1f} |")
    ratios = [s / u for s, u in zip(rates["safe"], rates["unsafe"], strict=True)]
    print(f"\nsafe / unsafe: {statistics.median(ratios):.3f} ({min(ratios):.3f}-{max(ratios):.3f})")


if __name__ == "__main__":
    main()
