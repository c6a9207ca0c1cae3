"""A table whose writer is killed at every single operation on its store, and started again."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.chaos.conftest import Record
from tests.chaos.killing import in_child, kill_at, kill_in_write, tear_commit
from tests.chaos.proxy import Fault, FaultProxy, healthy
from tests.chaos.table_work import check_finished, visible, work

MODES: dict[str, Callable[[str, int], None]] = {
    "before or after": kill_at,
    "middle": lambda root, number: kill_in_write(number),
    "torn commit": lambda root, number: tear_commit(number),
}


def life(place: str, prepare: Callable[[], None]) -> bool:
    """Run the job with a reader beside it; returns whether it was killed."""
    pid = in_child(lambda: work(place), prepare=prepare)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        visible(place)  # fails when a reader sees what is not committed
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL)
    visible(place)
    return code != 0


def points_survived(
    modes: Iterable[str], live: Callable[[str, str, int | None], bool], *, stride: int
) -> dict[str, int]:
    """Kill at every `stride`-th point of every mode, start again; counts the points.

    `live(place, mode, number)` is one life of the job, killed at the given point of the mode, or
    at none for None; it returns whether it was killed. A place is a name for one table.
    """
    counts = dict.fromkeys(modes, 0)
    for mode in counts:
        for number in itertools.count(1, stride):
            place = f"{mode.replace(' ', '-')}-{number}"
            if not live(place, mode, number):
                break
            assert not live(place, mode, None)
            counts[mode] += 1
    return counts


def local_points_survived(folder: Path, *, stride: int) -> dict[str, int]:
    def live(name: str, mode: str, number: int | None) -> bool:
        place = str(folder / name)
        if number is not None:
            return life(place, lambda: MODES[mode](place, number))
        was_killed = life(place, lambda: None)
        check_finished(place, tidy=True)
        return was_killed

    return points_survived(MODES, live, stride=stride)


def test_a_few_kill_points(tmp_path: Path) -> None:
    counts = local_points_survived(tmp_path, stride=13)
    assert all(counts.values()), counts


@pytest.mark.chaos
def test_every_kill_point(tmp_path: Path, record: Record) -> None:
    counts = local_points_survived(tmp_path, stride=1)
    assert sum(counts.values()) >= 150
    shown = ", ".join(f"{count} {mode}" for mode, count in counts.items())
    record(
        "SIGKILL at every operation of the table on a local folder",
        "0 lost, 0 doubled, 0 uncommitted rows visible",
        f"{sum(counts.values())} points ({shown}): 0, 0, 0; a reader polled throughout",
    )


def work_when_told(start: Connection, place: str) -> None:
    start.recv()
    work(place)


def s3_life(proxy: FaultProxy, place: str, fault: Fault) -> bool:
    """As `life`; a fork would share the event loop of this process, so a server forks instead."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.table_work", "s3fs"])
    theirs, ours = context.Pipe(duplex=False)
    process = context.Process(target=work_when_told, args=(theirs, place))
    process.start()
    proxy.victim, proxy.fault = process.pid, fault
    ours.send("go")
    process.join(60)
    proxy.fault = healthy
    assert process.exitcode in (0, -signal.SIGKILL)
    visible(place)
    return process.exitcode != 0


def at_request(mode: str, number: int) -> Fault:
    """A fault that befalls the `number`-th request alone."""
    asked = itertools.count(1)
    return lambda request: mode if next(asked) == number else "pass"


def s3_points_survived(proxy: FaultProxy, *, stride: int) -> dict[str, int]:
    import s3fs

    bucket = f"b-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(bucket)

    def live(name: str, mode: str, number: int | None) -> bool:
        place = f"s3://{bucket}/{name}"
        if number is not None:
            return s3_life(proxy, place, at_request(mode, number))
        was_killed = s3_life(proxy, place, healthy)
        check_finished(place, tidy=False)
        return was_killed

    return points_survived(("kill_before", "kill_middle", "kill_after"), live, stride=stride)


def test_a_few_kill_points_on_s3(proxy: FaultProxy) -> None:
    counts = s3_points_survived(proxy, stride=61)
    assert all(counts.values()), counts


@pytest.mark.chaos
def test_every_kill_point_on_s3(proxy: FaultProxy, record: Record) -> None:
    counts = s3_points_survived(proxy, stride=1)
    assert sum(counts.values()) >= 100
    shown = ", ".join(f"{count} {mode.removeprefix('kill_')}" for mode, count in counts.items())
    record(
        "SIGKILL before, in and after every request of the table to S3",
        "with the folder ≥ 200 points; 0 lost, 0 doubled, 0 uncommitted rows visible",
        f"{sum(counts.values())} points ({shown}): 0, 0, 0",
    )
