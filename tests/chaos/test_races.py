"""Two drivers on one table, and a writer that sleeps past its replacement."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.chaos.conftest import Record
from tests.chaos.killing import end_of, in_child
from tests.chaos.table_work import BAD, ROWS, open_table, propose, settle, visible, work


def race(place: str) -> None:
    """Two drivers with pieces of different sizes, let loose at the same moment."""
    gate_out, gate_in = os.pipe()

    def drive(piece: int) -> None:
        os.close(gate_in)
        table = open_table(place)
        os.read(gate_out, 1)
        settle(table, piece=piece)

    pids = [in_child(lambda p=piece: drive(p)) for piece in (3, 4)]  # type: ignore[misc]
    os.close(gate_in)
    os.close(gate_out)
    assert [end_of(pid) for pid in pids] == [0, 0]


def races_won_once(folder: Path, *, count: int) -> None:
    for number in range(count):
        place = str(folder / f"race-{number}")
        race(place)
        seen = visible(place)
        # What both left over, since neither's pieces fitted any more, the next one settles.
        work(place)
        assert visible(place) == {"good": set(range(ROWS)) - BAD, "bad": BAD}
        assert seen["good"] | seen["bad"] <= set(range(ROWS))


def sleepers_refused(folder: Path, *, count: int) -> None:
    for number in range(count):
        place = str(folder / f"sleeper-{number}")

        def sleep(place: str = place, first: int = number % 20) -> None:
            table = open_table(place)
            written = propose(table, range(first, first + 4))
            os.kill(os.getpid(), signal.SIGSTOP)
            assert table.commit([written]) == []

        pid = in_child(sleep)
        os.waitpid(pid, os.WUNTRACED)
        work(place)
        os.kill(pid, signal.SIGCONT)
        assert end_of(pid) == 0
        assert visible(place) == {"good": set(range(ROWS)) - BAD, "bad": BAD}


def test_some_races(tmp_path: Path) -> None:
    races_won_once(tmp_path, count=10)
    sleepers_refused(tmp_path, count=5)


@pytest.mark.chaos
def test_a_hundred_races(tmp_path: Path, record: Record) -> None:
    races_won_once(tmp_path, count=100)
    sleepers_refused(tmp_path, count=100)
    record(
        "two drivers at once; a writer stopped by SIGSTOP that wakes after its rows were redone",
        "one commit a row, 100 of 100",
        "100 of 100 races, 100 of 100 sleepers refused",
    )
