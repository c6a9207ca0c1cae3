"""Memory of every process while the stage embeds 20,000 images.

    python -m benchmarks.embed_memory [images] [key=value ...]

The real jobs.embed_images over 500 photographs of 640 x 480, each listed as often as it takes. The
private memory of Ray's workers and of the decoders (resident, less what is shared: the object store
counts in each of its users) is read from /proc every two seconds; printed is the largest value of
each process shortly after the 2,000th image and at the end. Linux only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import yaml

from benchmarks.photos import write_photos

FILES = 500
BLOCK = 250
FROM = 2_000
WINDOW = 8  # samples, 2 s apart, that a value is the largest of: a reader holds a block or two
STARTING = 5  # samples of a process that are left out
KINDS = {"EncoderActor": "encoder", "fetch_and_decode": "reader", "decoder_process": "decoder"}


def resident(root: int) -> dict[tuple[str, int], float]:
    """MiB by (kind, process id) of the workers that descend from process `root`."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    sizes: dict[int, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[pid] = (folder / "cmdline").read_bytes().decode(errors="replace")
            _, pages, shared = (folder / "statm").read_text().split()[:3]
            sizes[pid] = (int(pages) - int(shared)) * 4096 / 2**20
        except (OSError, IndexError, ValueError):
            continue

    def descends(pid: int) -> bool:
        while pid > 1:
            if pid == root:
                return True
            pid = parents.get(pid, 0)
        return False

    return {
        (kind, pid): sizes[pid]
        for pid, name in names.items()
        for word, kind in KINDS.items()
        if word in name and pid in sizes and descends(pid)
    }


def main() -> None:
    """Print the table."""
    images = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    root = Path(tempfile.mkdtemp(prefix="bench-memory-"))
    try:
        write_photos(root / "images", FILES)
        files = sorted((root / "images").glob("*.jpg"))
        rows = [f"{number},{files[number % FILES]}" for number in range(images)]
        (root / "images.csv").write_text("\n".join(["id,uri", *rows]))
        config = root / "config.yaml"
        tree = {
            "run_uri": str(root / "run"),
            "catalog": {"source": str(root / "images.csv"), "id_column": "id"},
            "sample": {"rows": 2_000},
            "compute": {"embed": {"block_rows": BLOCK}},
        }
        config.write_text(yaml.safe_dump(tree))
        job = [sys.executable, "-m", "jobs.build_catalog", "--config", str(config)]
        subprocess.run(job, check=True, capture_output=True)
        job = [sys.executable, "-m", "jobs.embed_images", "--config", str(config), *sys.argv[2:]]
        samples: list[tuple[int, dict[tuple[str, int], float]]] = []
        started = time.perf_counter()
        with subprocess.Popen(job, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            while running.poll() is None:
                written = len(list((root / "run/embeddings").glob("*.parquet"))) * BLOCK
                samples.append((written, resident(running.pid)))
                time.sleep(2)
        assert running.returncode == 0
        seconds = time.perf_counter() - started
    finally:
        shutil.rmtree(root)
    sizes: dict[tuple[str, int], list[float]] = defaultdict(list)
    for written, found in samples:
        for process, size in found.items():
            if written >= FROM:
                sizes[process].append(size)
    print(f"{images:,} images in {seconds:.0f} s, {os.cpu_count()} cores\n")
    print(f"| process | MiB after {FROM:,} images | MiB at the end | ratio |\n|---|---|---|---|")
    for process, found_sizes in sorted(sizes.items()):
        steady = found_sizes[STARTING:]
        if len(steady) >= 2 * WINDOW:
            before, after = max(steady[:WINDOW]), max(steady[-WINDOW:])
            kind = f"{process[0]} {process[1]}"
            print(f"| {kind} | {before:.0f} | {after:.0f} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
