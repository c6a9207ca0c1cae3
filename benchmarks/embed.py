"""Images a second of the embedding stage, next to loops that do the same without it.

    make bench-embed            prints the tables that stand in benchmarks/embed.md

All embed the same 640 x 480 JPEGs on the same cores in alternating runs; medians of RUNS and the
ratios within each round are printed. What each loop does is said in `embed_loops.py`. "stage" is
the real jobs.embed_images on local Ray, everything written and committed, by its own figure for the
time between the first commit and the last. A large catalogue is simulated in one respect: a tenth
of the rows is sampled, so that not every image gets a thumbnail.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from benchmarks.photos import write_photos

HERE = Path(__file__).parent
LITE = "efficientnet-lite0"


@dataclass(frozen=True)
class Sizes:
    """How many images each loop embeds."""

    lite: int
    slow: int  # of the tutorial
    vit: int
    fast: int


FULL = Sizes(lite=3_000, slow=200, vit=96, fast=6_000)
SMALL = Sizes(lite=512, slow=32, vit=16, fast=1_024)


def loop(name: str, folder: Path, images: int, *arguments: str) -> float:
    """Images/s of one loop of `embed_loops`, in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.embed_loops"]
    done = subprocess.run(
        [*command, name, str(folder), str(images), *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(done.stdout.split()[-1])


def stage(
    folder: Path,
    images: int,
    *,
    model: str = LITE,
    block: int = 128,
    compiled: bool = False,
    stand_in: bool = False,
    runtime: str = "torch",
) -> float:
    """Steady images/s of jobs.embed_images on the first `images` files."""
    with tempfile.TemporaryDirectory() as run:
        table = Path(run) / "images.csv"
        files = sorted(folder.glob("*.jpg"))[:images]
        table.write_text("\n".join(["uri", *map(str, files)]))
        config = Path(run) / "config.yaml"
        embed = {"block_rows": block, "compile": compiled, "runtime": runtime}
        compute = {"commit_seconds": 0.2, "embed": embed}
        tree = {
            "run_uri": f"{run}/run",
            "catalog": {"source": str(table)},
            "encoder": {"model": model},
            "sample": {"rows": max(600, images // 10)},
            "compute": compute,
        }
        config.write_text(yaml.safe_dump(tree))
        paths = [str(HERE / "stand_in"), str(HERE.parent)]
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "BENCH_STAND_IN": "1" if stand_in else "",
        }
        for job in ("build_catalog", "embed_images"):
            command = [sys.executable, "-m", f"jobs.{job}", "--config", str(config)]
            subprocess.run(command, check=True, capture_output=True, env=env)
        record = json.loads((Path(run) / "run/run.json").read_text())
    rate: float = record["stages"]["embed_images"]["steady_images_per_second"]
    return rate


def compare(
    title: str,
    loops: dict[str, Callable[[], float]],
    *,
    runs: int,
    ratios: Sequence[tuple[str, tuple[str, ...]]],
) -> None:
    """Run `loops` in turn, print medians, and each ratio of a loop to the best of some others."""
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(runs):
        for name, measure in loops.items():
            rates[name].append(measure())
    print(f"\n### {title}\n\n| loop | images/s, median of {runs} | min-max |\n|---|---|---|")
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"| {name} | {middle:.1f} | {min(values):.1f}-{max(values):.1f} |")
    print()
    for above, below in ratios:
        best = [max(rates[name][run] for name in below) for run in range(runs)]
        pairs = [rate / other for rate, other in zip(rates[above], best, strict=True)]
        spread = f"{min(pairs):.2f}-{max(pairs):.2f}"
        print(
            f"{above} / best of ({', '.join(below)}): {statistics.median(pairs):.2f} ({spread})\n"
        )


def save_random_vit(folder: Path) -> str:
    """A ViT-Base with random weights, and its model string."""
    from transformers import ViTConfig, ViTImageProcessorFast, ViTModel

    ViTModel(ViTConfig(), add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorFast(do_resize=True, size={"height": 224, "width": 224}).save_pretrained(
        folder
    )
    return f"hf:{folder}"


def main() -> None:
    """Every table, or those named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "tables",
        nargs="*",
        default=["lite", "compiled", "vit", "fast"],
        help="these, or openvino, which needs the extra of that name",
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="few images: a try, no measurement")
    options = parser.parse_args()
    sizes = SMALL if options.small else FULL
    root = Path(tempfile.mkdtemp(prefix="bench-embed-"))
    folder = root / "images"
    write_photos(folder, max(sizes.lite, sizes.fast))
    versions = ", ".join(
        f"{p} {metadata.version(p)}" for p in ("torch", "ray", "transformers", "pillow")
    )
    print(f"{os.cpu_count()} cores, {platform.machine()}, {versions}")
    bare = {
        "bare, 1 process of 2 threads": lambda: loop("bare", folder, sizes.lite, "1", "2"),
        "bare, 2 processes of 1 thread": lambda: loop("bare", folder, sizes.lite, "2", "1"),
    }
    try:
        if "lite" in options.tables:
            lite: dict[str, Callable[[], float]] = {
                "tutorial": lambda: loop("tutorial", folder, sizes.slow),
                **bare,
                "stage": lambda: stage(folder, sizes.lite),
            }
            compare(
                "EfficientNet-Lite0",
                lite,
                runs=options.runs,
                ratios=[("stage", tuple(bare)), ("stage", ("tutorial",))],
            )
        if "compiled" in options.tables:
            compiled: dict[str, Callable[[], float]] = {
                "bare": lambda: loop("bare", folder, sizes.lite, "2", "1", "compiled"),
                "stage": lambda: stage(folder, sizes.lite, compiled=True),
            }
            compare(
                "EfficientNet-Lite0, compute.embed.compile=true",
                compiled,
                runs=options.runs,
                ratios=[("stage", ("bare",))],
            )
        if "openvino" in options.tables:
            runtimes: dict[str, Callable[[], float]] = {
                name: lambda name=name: stage(folder, sizes.lite, runtime=name)
                for name in ("torch", "openvino")
            }
            compare(
                "EfficientNet-Lite0, compute.embed.runtime",
                runtimes,
                runs=options.runs,
                ratios=[("openvino", ("torch",))],
            )
        if "vit" in options.tables:
            model = save_random_vit(root / "vit")
            vit: dict[str, Callable[[], float]] = {
                "transformers pipeline": lambda: loop("transformers", folder, sizes.vit, model),
                "bare": lambda: loop("bare", folder, sizes.vit, "2", "1", "", model),
                "stage": lambda: stage(folder, 2 * sizes.vit, model=model, block=8),
            }
            compare(
                "ViT-Base, random weights",
                vit,
                runs=options.runs,
                ratios=[("stage", ("transformers pipeline",)), ("stage", ("bare",))],
            )
        if "fast" in options.tables:
            fast: dict[str, Callable[[], float]] = {
                "decoding alone, 2 processes": lambda: loop("decode", folder, sizes.lite, "2"),
                "the same, guarded": lambda: loop("decode", folder, sizes.lite, "2", "guarded"),
                "stage": lambda: stage(folder, sizes.fast, block=256, stand_in=True),
            }
            compare(
                "A stand-in for a device that takes 1/1,000 s an image",
                fast,
                runs=options.runs,
                ratios=[
                    ("stage", ("decoding alone, 2 processes",)),
                    ("stage", ("the same, guarded",)),
                ],
            )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
