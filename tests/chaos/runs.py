"""Whole jobs on Ray, in processes of their own, and what must hold of the runs they leave."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from clusterlib import storage
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.ranges import ranges_of
from clusterlib.tables.verify import Conservation, check_file
from tests.conftest import ROOT, settings

RIGGED = Path(__file__).parent / "rigged"


def jpegs(count: int, *, side: int = 160) -> list[bytes]:
    """Different small photographs of nothing."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        found.append(buffer.getvalue())
    return found


def write_jpegs(folder: str, count: int) -> None:
    """Put `count` pictures into a local folder or an S3 prefix."""
    for number, data in enumerate(jpegs(count)):
        storage.write_bytes(storage.join(folder, f"{number:05d}.jpg"), data)


def tree_for(source: str | Path, run: str | Path, **sections: Any) -> dict[str, Any]:
    """Small blocks and quick commits, so that there is something to interrupt."""
    tree = settings(source, run, **sections)
    tree["compute"]["commit_seconds"] = 0.5
    return tree


class Job:
    """`python -m jobs.<name>` in a process group of its own."""

    def __init__(
        self, folder: Path, tree: dict[str, Any], *, name: str = "run_pipeline", **env: str
    ) -> None:
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump(tree))
        self.started = time.monotonic()
        path = os.pathsep.join([str(RIGGED), str(ROOT)])
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"jobs.{name}", "--config", str(config)],
            cwd=ROOT,
            env={**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": path, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.out = ""
        self.seconds = 0.0

    def wait(self, timeout: float = 300) -> int:
        """The exit code."""
        try:
            self.out, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.seconds = time.monotonic() - self.started
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL to the driver; Ray's own processes notice and end."""
        self.process.kill()
        self.out, _ = self.process.communicate(timeout=60)

    def workers(self) -> list[int]:
        """Pids of this job's Ray workers that are at work."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _is_below(int(entry.name), self.process.pid):
                title = _read(entry / "cmdline")
                if title.startswith("ray::") and "IDLE" not in title:
                    found.append(int(entry.name))
        return found


def embedding(folder: Path, tree: dict[str, Any], **env: str) -> Job:
    """The catalogue, and then `jobs.embed_images` begun."""
    catalog = Job(folder, tree, name="build_catalog", **env)
    assert catalog.wait() == 0, catalog.out
    return Job(folder, tree, name="embed_images", **env)


def _is_below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
        pid = int(fields[1]) if fields else 0
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def wait_until(condition: Callable[[], bool], job: Job, *, seconds: float = 180) -> None:
    """Poll while the job runs; AssertionError with its output when it ends first."""
    deadline = time.monotonic() + seconds
    while not condition():
        if job.process.poll() is not None or time.monotonic() > deadline:
            job.kill()
            raise AssertionError(f"waited in vain; the job said: {job.out}")
        time.sleep(0.05)


def embed_table(run: str, rows: int) -> CommittedTable:
    table = CommittedTable(run, log=storage.join(run, "commits/embed"), rows=rows)
    table.refresh()
    return table


def committed(run: str, rows: int) -> int:
    """How many rows are settled now."""
    return len(embed_table(run, rows).state.committed)


def check_run(run: str, rows: int, *, complete: bool = True) -> dict[str, int]:
    """Nothing lost, doubled or visible uncommitted; returns the quarantined rows by code."""
    table = embed_table(run, rows)
    conservation = Conservation(table.state.committed)
    for dataset in ("embeddings", "quarantine"):
        for file in table.files(dataset):
            ids = check_file(run, file)["row_id"].to_numpy()
            conservation.add(ranges_of(ids), origin=file.entry.path)
    assert conservation.finish() == []
    assert table.is_complete or not complete
    codes: dict[str, int] = {}
    for file in table.files("quarantine"):
        for code in read_parquet(table.uri(file), ["code"])["code"].to_pylist():
            codes[code] = codes.get(code, 0) + 1
    return codes


def record_of(run: str) -> dict[str, Any]:
    """run.json."""
    found: dict[str, Any] = json.loads(storage.read_bytes(storage.join(run, "run.json")))
    return found


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
