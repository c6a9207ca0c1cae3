"""A run killed half-way finishes on the same command, and redoes nothing that was committed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import ROOT, settings, wait_for


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.run_pipeline", "--config", str(config)],
        cwd=ROOT,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def committed(run: Path) -> dict[str, list[list[int]]]:
    """File name to row ranges, of every commit."""
    found = {}
    for path in sorted((run / "commits/embed").glob("*.json"))[1:]:
        for proposal in json.loads(path.read_text())["add"]:
            for file in proposal["files"]:
                found[file["path"]] = proposal["ranges"]
    return found


@pytest.mark.process
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_killed_half_way_and_started_again(
    tmp_path: Path, shapes_folder: Path, how: signal.Signals
) -> None:
    run = tmp_path / "run"
    tree = settings(
        shapes_folder,
        run,
        # Slow enough to be caught in the middle: tiny blocks, one image a forward pass.
        compute={"commit_seconds": 0.01, "embed": {"block_rows": 4, "batch_size": 1}},
    )
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    first = start(config)
    log = run / "commits/embed"
    wait_for(lambda: len(list(log.glob("0*.json"))) >= 4, seconds=120, what="the third commit")
    os.kill(first.pid, how)
    out, _ = first.communicate(timeout=60)
    before = committed(run)
    rows_before = sum(
        b - a for ranges in {str(r): r for r in before.values()}.values() for a, b in ranges
    )
    assert 0 < rows_before < 120, out
    if how == signal.SIGTERM:
        assert first.returncode == 130, out
        assert "run the same command again to resume" in out
        assert json.loads((run / "run.json").read_text())["exit_code"] == 130

    second = start(config)
    out, _ = second.communicate(timeout=180)
    assert second.returncode == 0, out
    assert f"{rows_before:,} were committed before" in out
    after = committed(run)
    assert {path: after[path] for path in before} == before
    ids = [
        i
        for path in after
        if "embeddings" in path
        for i in pq.read_table(run / path)["row_id"].to_pylist()
    ]
    assert sorted(ids) == list(range(120))
    # Whatever the killed run left unfinished is gone: every file on disk is a committed one.
    assert {str(p.relative_to(run)) for p in (run / "embeddings").iterdir()} == {
        path for path in after if path.startswith("embeddings/")
    }
    record = json.loads((run / "run.json").read_text())
    assert record["stages"]["embed_images"]["newly_done"] == 120 - rows_before
    assert record["driver_peak_rss_mb"] > 50
    # Each figure is rounded; the whole is no shorter than its parts.
    parts = sum(stage["seconds"] for stage in record["stages"].values())
    assert record["seconds"] + 0.2 > parts > 0
