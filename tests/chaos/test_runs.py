"""Jobs on Ray that are killed, starved, poisoned and doubled."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from clusterlib.tables.parquet import read_parquet
from tests.chaos.conftest import Record
from tests.chaos.poison import POISON, poisoned
from tests.chaos.runs import (
    Job,
    check_run,
    committed,
    embed_table,
    embedding,
    jpegs,
    kill,
    record_of,
    tree_for,
    write_jpegs,
)
from tests.conftest import ROOT

pytestmark = pytest.mark.chaos

SMALL = {"embed": {"block_rows": 16, "device": "cpu"}}


def test_kill_points_of_a_run(tmp_path: Path, record: Record) -> None:
    images, rows = tmp_path / "images", 120
    write_jpegs(str(images), rows)
    points = [("driver", n) for n in (1, 9, 17, 23, 31, 37, 45, 60)]
    points += [("worker", n) for n in (3, 5, 8, 11)]
    killed = 0
    for role, number in points:
        run, sign = tmp_path / f"{role}-{number}", tmp_path / f"{role}-{number}.killed"
        tree = tree_for(images, run, compute=SMALL)
        where = f"{run}/commits" if role == "driver" else str(run)
        job = Job(tmp_path, tree, name="run_pipeline", CHAOS_KILL=f"{role}:{number}:{where}:{sign}")
        code = job.wait()
        killed += sign.exists()
        assert code == (-9 if role == "driver" and sign.exists() else 0), job.out
        if run.exists():
            check_run(str(run), rows, complete=False)
        again = Job(tmp_path, tree)
        assert again.wait() == 0, again.out
        assert check_run(str(run), rows) == {}
        assert Job(tmp_path, tree, name="verify_run").wait() == 0
        shutil.rmtree(run)
    assert killed >= 10
    record(
        "SIGKILL of the driver or a worker at an operation of a whole run on Ray",
        "≥ 10 points; 0 lost, 0 doubled, 0 uncommitted rows visible",
        f"{killed} points: 0, 0, 0; each run then verified file by file",
    )


def test_workers_killed_all_the_time(tmp_path: Path, record: Record) -> None:
    images, rows = tmp_path / "images", 3_000
    write_jpegs(str(images), rows)
    calm = embedding(tmp_path, tree_for(images, tmp_path / "calm"))
    assert calm.wait(500) == 0, calm.out
    job = embedding(tmp_path, tree_for(images, tmp_path / "run"))
    rng, kills = random.Random(0), 0
    last = time.monotonic()
    while job.process.poll() is None:
        if time.monotonic() - last > 20 and (workers := job.workers()):
            kill(rng.choice(workers))
            kills += 1
            last = time.monotonic()
        time.sleep(0.1)
    assert job.wait() == 0, job.out
    assert check_run(str(tmp_path / "run"), rows) == {}
    ratio = job.seconds / calm.seconds
    record(
        "a Ray worker killed every 20 s",
        "same rows; ≤ 2 × the wall time",
        f"{kills} kills, {rows:,} rows once each; {job.seconds:.0f} s against "
        f"{calm.seconds:.0f} s: {ratio:.2f} ×",
    )
    assert kills >= 2


def test_one_of_two_nodes_killed(tmp_path: Path, record: Record) -> None:
    images, rows = tmp_path / "images", 1_500
    write_jpegs(str(images), rows)
    seconds = {}
    for name, killing in (("calm", "no"), ("run", "yes")):
        tree = tree_for(images, tmp_path / name)
        config = tmp_path / f"{name}.yaml"
        config.write_text(yaml.safe_dump(tree))
        started = time.monotonic()
        out = subprocess.run(
            [sys.executable, "-m", "tests.chaos.two_nodes", str(config), killing],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert out.returncode == 0, out.stdout + out.stderr
        assert ("node killed" in out.stdout) == (killing == "yes")
        seconds[name] = time.monotonic() - started
        assert check_run(str(tmp_path / name), rows) == {}
    record(
        "one of two nodes killed",
        "same rows; ≤ 2 × the wall time",
        f"{rows:,} rows once each; {seconds['run']:.0f} s against {seconds['calm']:.0f} s: "
        f"{seconds['run'] / seconds['calm']:.2f} ×",
    )


def test_poison_among_good_images(tmp_path: Path, record: Record) -> None:
    images = tmp_path / "images"
    images.mkdir()
    expected = {"decoder_crash": 1, "decoder_timeout": 1, "decoder_oom": 1}
    pictures = jpegs(500 + len(POISON))
    bad = {50 * n + 25: kind for n, kind in enumerate(POISON, start=2)}
    for number, data in enumerate(pictures):
        content = poisoned(data, bad[number]) if number in bad else data
        (images / f"{number:05d}.jpg").write_bytes(content)
    tree = tree_for(images, tmp_path / "run")
    job = embedding(tmp_path, tree, CHAOS_POISON="1")
    assert job.wait() == 0, job.out
    assert check_run(str(tmp_path / "run"), len(pictures)) == expected
    table = embed_table(str(tmp_path / "run"), len(pictures))
    rows = [r for f in table.files("quarantine") for r in read_parquet(table.uri(f)).to_pylist()]
    assert {row["row_id"] for row in rows} == set(bad)
    assert max(row["attempts"] for row in rows) <= 3
    record(
        "poison images (segfault, hang, 8 GB) among 500 good ones",
        "exactly those quarantined, with their codes; ≤ 3 attempts and ≤ 60 s each",
        f"{expected}; at most {max(row['attempts'] for row in rows)} attempts; the whole job "
        f"{job.seconds:.0f} s, of which two attempts of 20 s are the hang",
    )


def test_disk_full(tmp_path: Path, record: Record) -> None:
    images, rows = tmp_path / "images", 400
    write_jpegs(str(images), rows)
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        tree = tree_for(images, small / "run", compute=SMALL)
        job = embedding(tmp_path, tree)
        code = job.wait()
        before = committed(str(small / "run"), rows)
        assert code == 3, job.out
        assert "No space left" in job.out
        assert "Traceback" not in job.out
        check_run(str(small / "run"), rows, complete=False)
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        again = embedding(tmp_path, tree)
        assert again.wait() == 0, again.out
        assert check_run(str(small / "run"), rows) == {}
    finally:
        subprocess.run(["umount", str(small)], check=True)
    record(
        "disk full in mid-run",
        "non-zero, no bad commit, resume completes",
        f"exit {code} with {before} of {rows} rows committed; complete after more space",
    )


def test_two_drivers_on_one_run(tmp_path: Path, record: Record) -> None:
    images, rows = tmp_path / "images", 400
    write_jpegs(str(images), rows)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    tree = tree_for(images, tmp_path / "run", compute=SMALL)
    jobs = [Job(folder, tree) for folder in folders]
    codes = [job.wait() for job in jobs]
    assert 0 in codes, [job.out for job in jobs]
    again = Job(tmp_path, tree)
    assert again.wait() == 0, again.out
    assert check_run(str(tmp_path / "run"), rows) == {}
    assert Job(tmp_path, tree, name="verify_run").wait() == 0
    record(
        "two drivers on one run through Ray",
        "one commit a row",
        f"{rows} rows once each; exit codes {codes}",
    )


def test_a_finished_stage_costs_nothing(tmp_path: Path, record: Record) -> None:
    images, rows = tmp_path / "images", 120
    write_jpegs(str(images), rows)
    tree = tree_for(images, tmp_path / "run", compute=SMALL)
    assert Job(tmp_path, tree).wait() == 0
    shutil.rmtree(images)  # nothing may be read again
    job = Job(tmp_path, tree)
    assert job.wait() == 0, job.out
    assert record_of(str(tmp_path / "run"))["stages"]["embed_images"]["newly_done"] == 0
    record("a finished run started again", "0 images read, ≤ 10 s", f"0, {job.seconds:.1f} s")
    assert job.seconds <= 10
