"""The exactly-once protocol: whatever crashes, races and repeats, a row settles once."""

from __future__ import annotations

import pytest

from clusterlib.tables.protocol import (
    FileEntry,
    LogState,
    Proposal,
    Replacement,
    decode_entry,
    decode_segment,
    encode_entry,
    encode_segment,
)
from tests.chaos.simulator import run_schedules


def proposal(*ranges: tuple[int, int], name: str = "a") -> Proposal:
    rows = sum(stop - start for start, stop in ranges)
    return Proposal((FileEntry("embeddings", f"{name}.parquet", rows, 10, "00"),), ranges, 0.0)


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


def test_a_replacement_accounts_for_every_row() -> None:
    state = LogState(10)
    state.apply(1, [proposal((0, 4), name="a"), proposal((4, 6), name="b")])
    both = FileEntry("embeddings", "c.parquet", 6, 10, "00")
    short = FileEntry("embeddings", "c.parquet", 5, 10, "00")
    other = FileEntry("quarantine", "c.parquet", 6, 10, "00")
    names = ("a.parquet", "b.parquet")
    refused = [
        Replacement(names, (short,), (), 0.0),  # a row less
        Replacement(names, (other,), (), 0.0),  # another dataset
        Replacement((*names, "a.parquet"), (both,), (), 0.0),
        Replacement(("gone.parquet",), (both,), (), 0.0),
        Replacement(names, (both,), ((0, 1),), 0.0),  # releases a row that it keeps
        Replacement(names, (short,), ((7, 8),), 0.0),  # releases a row that is not settled
        Replacement((), (), (), 0.0),
    ]
    assert state.admissible(refused) == []
    compaction = Replacement(names, (both,), (), 0.0)
    assert state.admissible([compaction, compaction]) == [compaction]
    state.apply(2, [compaction])
    assert list(state.files) == ["c.parquet"]
    assert state.files["c.parquet"].ranges == ((0, 6),)
    assert state.counts["embeddings"] == 6
    assert state.missing() == ((6, 10),)


def test_released_rows_are_missing_again_and_nobody_claims_them() -> None:
    state = LogState(4)
    block = Proposal(
        (
            FileEntry("embeddings", "e", 2, 10, "00"),
            FileEntry("quarantine", "q", 2, 10, "00"),
        ),
        ((0, 4),),
        0.0,
    )
    state.apply(1, [block])
    rest = FileEntry("quarantine", "q2", 1, 10, "00")
    state.apply(2, [Replacement(("q",), (rest,), ((1, 2),), 0.0)])
    assert state.missing() == ((1, 2),)
    assert state.releases == 1
    assert {path: file.ranges for path, file in state.files.items()} == {
        "e": ((0, 1), (2, 4)),
        "q2": ((0, 1), (2, 4)),
    }
    assert state.counts == {"embeddings": 2, "quarantine": 1}


def test_segments_are_the_entries() -> None:
    entries = [
        encode_entry([proposal((0, 2))], writer="w"),
        b'{"torn',
        encode_entry([], writer="v"),
    ]
    packed = encode_segment(entries)
    assert decode_segment(packed) == [[proposal((0, 2))], None, []]
    assert decode_segment(packed[:-3]) is None


def test_thousands_of_schedules_settle_every_row_once() -> None:
    assert run_schedules(range(2_000)) == 2_000
