"""The exactly-once protocol, pure: what is committed, what may be committed, what is missing.

Workers propose files that cover ranges of row ids; the driver accepts a proposal only when none of
its rows is committed yet. The state is the fold of the commit log, so any two readers of the same
log agree. No I/O happens here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class FileEntry:
    """One data file of a proposal."""

    dataset: str
    path: str  # relative to the table's root
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Proposal:
    """What one worker call has written and not yet made visible.

    `ranges` are the half-open row-id ranges it settles, whichever dataset each row went to.
    """

    files: tuple[FileEntry, ...]
    ranges: Ranges
    started_at: float

    @property
    def rows(self) -> int:
        return sum(stop - start for start, stop in self.ranges)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Proposal:
        return Proposal(
            files=tuple(FileEntry(**file) for file in data["files"]),
            ranges=tuple((int(start), int(stop)) for start, stop in data["ranges"]),
            started_at=float(data["started_at"]),
        )


def ranges_of(row_ids: NDArray[np.int64]) -> Ranges:
    """Half-open ranges that cover exactly the given row ids (any order, no duplicates)."""
    if len(row_ids) == 0:
        return ()
    ids = np.sort(row_ids)
    breaks = np.flatnonzero(np.diff(ids) != 1)
    starts = ids[np.concatenate([[0], breaks + 1])]
    stops = ids[np.concatenate([breaks, [len(ids) - 1]])] + 1
    return tuple((int(a), int(b)) for a, b in zip(starts, stops, strict=True))


class RowSet:
    """A set of row ids out of 0...rows-1, one bit each."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._bits = np.zeros((rows + 7) // 8, dtype=np.uint8)

    def overlaps(self, ranges: Ranges) -> bool:
        """Whether any row of `ranges` is in the set."""
        return any(self._slice(start, stop).any() for start, stop in ranges)

    def add(self, ranges: Ranges) -> None:
        """Add every row of `ranges`."""
        for start, stop in ranges:
            first, last = start // 8, (stop + 7) // 8
            window = np.unpackbits(self._bits[first:last])
            window[start - 8 * first : stop - 8 * first] = 1
            self._bits[first:last] = np.packbits(window)

    def __len__(self) -> int:
        return int(np.unpackbits(self._bits).sum(dtype=np.int64)) if self.rows else 0

    def missing(self) -> Ranges:
        """The ranges of rows that are not in the set."""
        bits = np.unpackbits(self._bits)[: self.rows]
        edges = np.flatnonzero(np.diff(np.concatenate([[1], bits, [1]]).astype(np.int8)))
        return tuple((int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True))

    def _slice(self, start: int, stop: int) -> NDArray[np.uint8]:
        first, last = start // 8, (stop + 7) // 8
        bits: NDArray[np.uint8] = np.unpackbits(self._bits[first:last])
        return bits[start - 8 * first : stop - 8 * first]


@dataclass
class LogState:
    """The fold of a commit log: committed rows and the files that hold them."""

    rows: int
    committed: RowSet = field(init=False)
    proposals: list[Proposal] = field(default_factory=list)
    last_commit: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # committed rows of each dataset

    def __post_init__(self) -> None:
        self.committed = RowSet(self.rows)

    def admissible(self, proposals: Iterable[Proposal]) -> list[Proposal]:
        """The proposals that settle only rows nobody has settled, in order, pairwise disjoint."""
        taken = RowSet(self.rows)
        accepted = []
        for proposal in proposals:
            in_bounds = all(0 <= a < b <= self.rows for a, b in proposal.ranges)
            disjoint = sum(b - a for a, b in _merged(proposal.ranges)) == proposal.rows
            if not (in_bounds and disjoint) or not proposal.ranges:
                continue
            if self.committed.overlaps(proposal.ranges) or taken.overlaps(proposal.ranges):
                continue
            taken.add(proposal.ranges)
            accepted.append(proposal)
        return accepted

    def apply(self, number: int, entry: Sequence[Proposal] | None) -> None:
        """Take commit `number` into the state; `None` is a void (torn) entry."""
        if number != self.last_commit + 1:
            raise ValueError(f"commit {number} does not follow {self.last_commit}")
        self.last_commit = number
        for proposal in self.admissible(entry or ()):
            self.committed.add(proposal.ranges)
            self.proposals.append(proposal)
            for file in proposal.files:
                self.counts[file.dataset] += file.rows


def encode_entry(proposals: Sequence[Proposal], *, writer: str) -> bytes:
    """A commit entry as JSON. `writer` is unique to the writing process."""
    body = {"writer": writer, "add": [proposal.to_json() for proposal in proposals]}
    return json.dumps(body, separators=(",", ":")).encode()


def decode_entry(data: bytes) -> list[Proposal] | None:
    """The proposals of a commit entry, or None when the file is torn and therefore void."""
    try:
        return [Proposal.from_json(item) for item in json.loads(data)["add"]]
    except (ValueError, KeyError, TypeError):
        return None


def _merged(ranges: Ranges) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
