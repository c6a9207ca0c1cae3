"""Long logs, many schedules, and pictures that are larger than they look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import Geometry, Limits
from clusterlib.images.guard import GuardedDecoder, GuardLimits
from clusterlib.tables.committed import SEGMENT_COMMITS
from clusterlib.tables.protocol import FileEntry, Proposal, encode_entry, encode_segment
from tests.chaos.conftest import Record
from tests.chaos.simulator import simulate
from tests.conftest import ROOT
from tests.images.test_decode import zero_png


def write_log(folder: Path, *, commits: int, proposals: int, rows: int) -> int:
    """A log of `commits` entries, each of `proposals` blocks of `rows` rows; returns the rows."""
    folder.mkdir(parents=True)
    (folder / "00000000.json").write_text("{}")
    names = ("embeddings", "quarantine", "sample")
    first, recent = 0, []
    for number in range(1, commits + 1):
        changes = []
        for block in range(proposals):
            unique = f"{number:016x}{block:016x}"
            files = tuple(
                FileEntry(name, f"{name}/part-{unique}.parquet", rows // 3, 10**6, unique * 2)
                for name in names
            )
            changes.append(Proposal(files, ((first, first + rows),), 1.7e9))
            first += rows
        recent.append(encode_entry(changes, writer=f"{number:032x}"))
        (folder / f"{number:08d}.json").write_bytes(recent[-1])
        if number % SEGMENT_COMMITS == 0:
            (folder / f"segment-{number:08d}.json").write_bytes(encode_segment(recent))
            recent = []
    return first


_OPEN = """
import json, resource, sys, time
from clusterlib.tables.committed import CommittedTable
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
table = CommittedTable(sys.argv[1], log=sys.argv[1] + "/log", rows=int(sys.argv[2]))
started = time.monotonic()
table.refresh()
seconds = time.monotonic() - started
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps([table.is_complete, seconds, before, after, len(table.state.files)]))
"""


def opened(folder: Path, *, rows: int) -> tuple[float, float, int]:
    """Seconds, peak MB of the process and files of a table opened in a process of its own."""
    out = subprocess.run(
        [sys.executable, "-c", _OPEN, str(folder), str(rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    complete, seconds, _, peak, files = json.loads(out.stdout)
    assert complete
    return seconds, peak, files


def test_a_log_of_thousands_opens_at_once(tmp_path: Path) -> None:
    rows = write_log(tmp_path / "log", commits=1_050, proposals=2, rows=300)
    _, _, files = opened(tmp_path, rows=rows)
    assert files == 1_050 * 2 * 3


@pytest.mark.chaos
@pytest.mark.parametrize(("proposals", "rows"), [(1, 9_999), (4, 2_499), (39, 255)])
def test_a_log_of_a_hundred_million_rows(
    tmp_path: Path, record: Record, proposals: int, rows: int
) -> None:
    total = write_log(tmp_path / "log", commits=10_000, proposals=proposals, rows=rows)
    seconds, peak, files = opened(tmp_path, rows=total)
    record(
        f"start-up on 10,000 commits of {proposals} block{'s' * (proposals > 1)} of {rows:,} rows",
        "≤ 10 s, ≤ 500 MB",
        f"{total / 1e6:.0f} M rows, {files:,} files: {seconds:.1f} s, {peak:.0f} MB",
    )
    if proposals == 1:
        assert seconds <= 10
        assert peak <= 500


@pytest.mark.chaos
def test_a_hundred_thousand_schedules(record: Record) -> None:
    seconds = simulate(100_000, processes=os.cpu_count() or 1)
    record(
        "schedules of crashes, retries, zombies and two drivers on the pure protocol, by seed",
        "≥ 100,000 in a minute, 0 violations",
        f"100,000 in {seconds:.0f} s on {os.cpu_count()} cores, 0 violations",
    )


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(record: Record) -> None:
    bomb = zero_png(14_000, 12_800)
    decoder = GuardedDecoder(
        geometry=Geometry(resize=224, crop=None, interpolation="bicubic"),
        limits=Limits(max_pixels=64_000_000),
        guard=GuardLimits(max_seconds=20, max_mb=2048),
    )
    decoder.decode(zero_png(100, 100))
    assert decoder._child is not None
    before = peak_mb(decoder._child.pid)
    outcome = decoder.decode(bomb)
    grown = peak_mb(decoder._child.pid) - before
    decoder.close()
    assert isinstance(outcome.result, Rejection)
    assert outcome.result.code == "too_large"
    assert grown < 200
    record(
        f"peak memory for a {len(bomb) / 1024:.0f} KB PNG of 179 megapixels",
        "≤ 200 MB above baseline",
        f"{grown:.1f} MB above",
    )
