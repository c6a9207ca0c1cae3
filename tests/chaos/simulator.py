"""Schedules of crashes, retries, zombies and two drivers on the pure protocol, replayable by seed.

No process, file or clock: a schedule is a sequence of random steps on a dictionary that stands for
the store, so that a hundred thousand of them run in a minute.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from clusterlib.tables.protocol import (
    Change,
    FileEntry,
    LogState,
    Proposal,
    Replacement,
    decode_entry,
    decode_segment,
    encode_entry,
    encode_segment,
)
from clusterlib.tables.ranges import Ranges, RowSet

GOOD, BAD = "embeddings", "quarantine"


@dataclass
class Store:
    """What outlives a crash: commits, and the rows that are really in each data file."""

    log: dict[int, bytes] = field(default_factory=dict)
    data: dict[str, frozenset[int]] = field(default_factory=dict)

    def write(self, dataset: str, rows: frozenset[int]) -> FileEntry:
        path = f"{dataset}/{len(self.data)}"
        self.data[path] = rows
        return FileEntry(dataset, path, len(rows), 1, "0")


class Driver:
    """A driver as CommittedTable runs it, cut at every step that touches the store."""

    def __init__(self, rows: int, store: Store, name: str) -> None:
        self.state, self.store, self.name = LogState(rows), store, name
        self.read_log()

    def read_log(self) -> None:
        while self.state.last_commit + 1 in self.store.log:
            number = self.state.last_commit + 1
            self.state.apply(number, decode_entry(self.store.log[number]))

    def commit(self, changes: list[Change], *, tear: bool) -> None:
        while accepted := self.state.admissible(changes):
            number = self.state.last_commit + 1
            if number in self.store.log:  # somebody else was first
                self.state.apply(number, decode_entry(self.store.log[number]))
                continue
            entry = encode_entry(accepted, writer=self.name)
            self.store.log[number] = entry[: len(entry) // 2] if tear else entry
            if not tear:
                self.state.apply(number, accepted)
            return


def ranges_of_set(rows: Iterable[int]) -> Ranges:
    return RowSet((row, row + 1) for row in sorted(rows)).ranges


def fresh_proposal(rng: random.Random, store: Store, rows: int) -> Proposal:
    """A worker's call: some rows, a few of them scattered, part of them quarantined."""
    start = rng.randrange(rows)
    ids = set(range(start, rng.randint(start + 1, min(rows, start + 12))))
    ids = {row for row in ids if rng.random() < 0.9} or {start}
    bad = frozenset(row for row in ids if rng.random() < 0.2)
    files = [store.write(name, part) for name, part in ((GOOD, ids - bad), (BAD, bad)) if part]
    return Proposal(tuple(files), ranges_of_set(ids), 0.0)


def fresh_replacement(rng: random.Random, driver: Driver) -> Replacement | None:
    """A compaction, or a release of quarantined rows."""
    dataset = rng.choice((GOOD, BAD))
    files = [f.entry.path for f in driver.state.files.values() if f.entry.dataset == dataset]
    if not files:
        return None
    chosen = tuple(rng.sample(files, rng.randint(1, len(files))))
    held = frozenset().union(*(driver.store.data[path] for path in chosen))
    freed = frozenset(row for row in held if dataset == BAD and rng.random() < 0.5)
    kept = held - freed
    written = (driver.store.write(dataset, kept),) if kept else ()
    return Replacement(chosen, written, ranges_of_set(freed), 0.0)


def run_schedule(seed: int) -> None:
    """One schedule; raises AssertionError, naming the seed, when a promise is broken."""
    rng = random.Random(seed)
    rows = rng.randint(1, 40)
    store = Store()
    drivers = [Driver(rows, store, "a"), Driver(rows, store, "b")]
    late: list[Change] = []  # whatever was ever written may be offered again by a zombie
    for step in range(rng.randint(1, 12)):
        index = rng.randrange(2)
        if rng.random() < 0.2:  # killed and started again
            drivers[index] = Driver(rows, store, f"{index}-{step}")
        driver = drivers[index]
        change: Change | None = fresh_proposal(rng, store, rows)
        if rng.random() < 0.3:
            change = fresh_replacement(rng, driver)
        if change is not None:
            late.append(change)
        offered = rng.sample(late, rng.randint(0, len(late)))
        tear = rng.random() < 0.1
        driver.commit(offered, tear=tear)
        if tear:  # a torn write is a crash
            drivers[index] = Driver(rows, store, f"{index}-{step}t")
    check_promises(seed, rows, store, drivers)


def check_promises(seed: int, rows: int, store: Store, drivers: list[Driver]) -> None:
    """No row lost, doubled or visible without a commit, whoever reads the log, however."""
    entries = [decode_entry(store.log[number]) for number in range(1, len(store.log) + 1)]
    packed = encode_segment([store.log[number] for number in range(1, len(store.log) + 1)])
    assert decode_segment(packed) == entries, f"seed {seed}: a segment says something else"
    reader = LogState(rows)
    for number in range(len(entries) + 1):
        if number:
            reader.apply(number, entries[number - 1])
        for driver in drivers:  # each believes what the log said when it last looked
            same = driver.state.last_commit != number or driver.state == reader
            assert same, f"seed {seed}: a driver departs from the log"
    visible = sorted(row for path in reader.files for row in store.data[path])
    settled = [row for start, stop in reader.committed.ranges for row in range(start, stop)]
    assert visible == settled, f"seed {seed}: visible {visible}, settled {settled}"
    for path, file in reader.files.items():
        covered = {row for start, stop in file.ranges for row in range(start, stop)}
        assert store.data[path] <= covered, f"seed {seed}: {path} reaches beyond its ranges"
    counts = {
        name: sum(len(store.data[path]) for path in reader.files if path.startswith(name))
        for name in (GOOD, BAD)
    }
    assert all(reader.counts[name] == counts[name] for name in counts), f"seed {seed}: counts"


def run_schedules(seeds: range) -> int:
    """Run many; returns how many."""
    for seed in seeds:
        run_schedule(seed)
    return len(seeds)


def simulate(count: int, *, processes: int) -> float:
    """Run schedules 0...count-1 in parallel; returns the seconds it took."""
    started = time.monotonic()
    parts = [range(first, min(first + 1000, count)) for first in range(0, count, 1000)]
    with ProcessPoolExecutor(processes) as pool:
        assert sum(pool.map(run_schedules, parts)) == count
    return time.monotonic() - started


if __name__ == "__main__":  # python -m tests.chaos.simulator SEED replays one
    run_schedule(int(sys.argv[1]))
