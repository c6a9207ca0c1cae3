"""The exactly-once protocol: whatever crashes, races and repeats, a row settles once."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterlib.tables.protocol import (
    FileEntry,
    LogState,
    Proposal,
    RowSet,
    decode_entry,
    encode_entry,
    ranges_of,
)


def proposal(*ranges: tuple[int, int], name: str = "a") -> Proposal:
    rows = sum(stop - start for start, stop in ranges)
    return Proposal((FileEntry("embeddings", f"{name}.parquet", rows, 10, "00"),), ranges, 0.0)


@given(st.sets(st.integers(0, 200)))
def test_ranges_cover_exactly_the_ids(ids: set[int]) -> None:
    ranges = ranges_of(np.array(sorted(ids, key=hash), dtype=np.int64))
    assert [i for start, stop in ranges for i in range(start, stop)] == sorted(ids)


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30))))
def test_row_set_is_a_set(rows: int, spans: list[tuple[int, int]]) -> None:
    ours, model = RowSet(rows), set[int]()
    for start, length in spans:
        span = ((min(start, rows), min(start + length, rows)),)
        assert ours.overlaps(span) == bool(model & set(range(*span[0])))
        ours.add(span)
        model |= set(range(*span[0]))
        assert len(ours) == len(model)
    assert [i for a, b in ours.missing() for i in range(a, b)] == sorted(set(range(rows)) - model)


def test_overlapping_proposals_are_left_out_whole() -> None:
    state = LogState(10)
    state.apply(1, [proposal((0, 4))])
    kept = state.admissible([proposal((3, 6)), proposal((4, 6)), proposal((5, 8))])
    assert [p.ranges for p in kept] == [((4, 6),)]


@pytest.mark.parametrize("ranges", [((8, 12),), ((-1, 2),), ((3, 3),), (), ((0, 3), (2, 4))])
def test_impossible_ranges_are_refused(ranges: tuple[tuple[int, int], ...]) -> None:
    assert LogState(10).admissible([Proposal((), ranges, 0.0)]) == []


def test_entries_survive_json_and_torn_ones_are_void() -> None:
    data = encode_entry([proposal((0, 2), (5, 6))], writer="w")
    assert decode_entry(data) == [proposal((0, 2), (5, 6))]
    assert [decode_entry(data[:cut]) for cut in range(len(data))] == [None] * len(data)


def test_commits_are_taken_in_order_only() -> None:
    with pytest.raises(ValueError, match="does not follow"):
        LogState(4).apply(2, [])


class Driver:
    """A driver as the table runs it, cut at every step that touches the store."""

    def __init__(self, rows: int, store: dict[int, bytes], name: str) -> None:
        self.state, self.store, self.name = LogState(rows), store, name

    def read_log(self) -> None:
        while self.state.last_commit + 1 in self.store:
            number = self.state.last_commit + 1
            self.state.apply(number, decode_entry(self.store[number]))

    def commit(self, proposals: list[Proposal], *, tear: bool) -> None:
        accepted = self.state.admissible(proposals)
        if not accepted:
            return None
        number = self.state.last_commit + 1
        entry = encode_entry(accepted, writer=self.name)
        if number in self.store:  # somebody else was first
            self.state.apply(number, decode_entry(self.store[number]))
            return self.commit(proposals, tear=tear)
        self.store[number] = entry[: len(entry) // 2] if tear else entry
        if not tear:
            self.state.apply(number, accepted)
        return None


def run_schedule(seed: int) -> None:
    """Two drivers, workers that repeat themselves, crashes, torn commits, late zombies."""
    rng = random.Random(seed)
    rows = rng.randint(1, 40)
    store: dict[int, bytes] = {}
    drivers = [Driver(rows, store, "a"), Driver(rows, store, "b")]
    late: list[Proposal] = []
    for step in range(rng.randint(1, 25)):
        index = rng.randrange(2)
        if rng.random() < 0.25:  # killed and started again
            drivers[index] = Driver(rows, store, f"{index}-{step}")
            drivers[index].read_log()
        driver = drivers[index]
        start = rng.randrange(rows)
        fresh = proposal((start, rng.randint(start + 1, rows)), name=f"f{step}")
        late.append(fresh)
        offered = [fresh, *rng.sample(late, rng.randint(0, len(late)))]
        tear = rng.random() < 0.1
        driver.commit(offered, tear=tear)
        if tear:  # a torn write is a crash
            drivers[index] = Driver(rows, store, f"{index}-{step}t")
            drivers[index].read_log()
    reader = Driver(rows, store, "reader")
    reader.read_log()
    visible = [row for p in reader.state.proposals for a, b in p.ranges for row in range(a, b)]
    assert len(visible) == len(set(visible)) == len(reader.state.committed)
    for driver in drivers:  # both drivers believe only what the log says
        mine = [p.files[0].path for p in driver.state.proposals]
        log = [p.files[0].path for p in reader.state.proposals]
        assert mine == log[: len(mine)]


def test_thousands_of_schedules_settle_every_row_once() -> None:
    for seed in range(3_000):
        run_schedule(seed)
