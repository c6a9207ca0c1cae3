"""Sets of row ids as sorted, disjoint, half-open ranges.

Work is handed out in consecutive rows, so a table of a hundred million rows is a handful of ranges
while it grows and a single one when it is complete.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ranges = tuple[tuple[int, int], ...]


def ranges_of(row_ids: NDArray[np.int64]) -> Ranges:
    """Half-open ranges that cover exactly the given row ids (any order, no duplicates)."""
    if len(row_ids) == 0:
        return ()
    ids = np.sort(row_ids)
    breaks = np.flatnonzero(np.diff(ids) != 1)
    starts = ids[np.concatenate([[0], breaks + 1])]
    stops = ids[np.concatenate([breaks, [len(ids) - 1]])] + 1
    return tuple((int(a), int(b)) for a, b in zip(starts, stops, strict=True))


def rows_in(ranges: Ranges) -> int:
    """How many rows `ranges` hold, which must be disjoint."""
    return sum(stop - start for start, stop in ranges)


def contains(ranges: Ranges, row_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each row id whether it lies in `ranges`, which must be sorted and disjoint."""
    if not ranges:
        return np.zeros(len(row_ids), dtype=bool)
    starts, stops = np.array(ranges, dtype=np.int64).T
    found = np.searchsorted(starts, row_ids, side="right") - 1
    inside: NDArray[np.bool_] = (found >= 0) & (row_ids < stops[np.maximum(found, 0)])
    return inside


class RowSet:
    """A mutable set of row ids; every operation is logarithmic in the number of ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._rows = 0
        self.add(ranges)

    def __len__(self) -> int:
        return self._rows

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowSet) and self.ranges == other.ranges

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def ranges(self) -> Ranges:
        """The set as ranges, none of which touch."""
        return tuple(zip(self._starts, self._stops, strict=True))

    def overlaps(self, ranges: Iterable[tuple[int, int]]) -> bool:
        """Whether any row of `ranges` is in the set."""
        for start, stop in ranges:
            at = bisect_right(self._stops, start)
            if start < stop and at < len(self._starts) and self._starts[at] < stop:
                return True
        return False

    def covers(self, ranges: Iterable[tuple[int, int]]) -> bool:
        """Whether every row of `ranges` is in the set."""
        for start, stop in ranges:
            at = bisect_right(self._starts, start) - 1
            if at < 0 or self._stops[at] < stop:
                return False
        return True

    def intersection(self, ranges: Iterable[tuple[int, int]]) -> Ranges:
        """The rows of `ranges`, which must be disjoint, that are in the set."""
        found: list[tuple[int, int]] = []
        for start, stop in ranges:
            first, last = bisect_right(self._stops, start), bisect_left(self._starts, stop)
            for at in range(first, last):
                found.append((max(start, self._starts[at]), min(stop, self._stops[at])))
        return tuple(found)

    def add(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Add every row of `ranges`; those that are in the set already stay in it once."""
        for start, stop in ranges:
            first, last = bisect_left(self._stops, start), bisect_right(self._starts, stop)
            if first < last:
                start = min(start, self._starts[first])
                stop = max(stop, self._stops[last - 1])
            self._replace(first, last, [start] if start < stop else [], [stop])

    def remove(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take out every row of `ranges`; those that are not in the set are no matter."""
        for start, stop in ranges:
            first, last = bisect_right(self._stops, start), bisect_left(self._starts, stop)
            if first >= last or start >= stop:
                continue
            left, right = (self._starts[first], start), (stop, self._stops[last - 1])
            kept = [(a, b) for a, b in (left, right) if a < b]
            self._replace(first, last, [a for a, _ in kept], [b for _, b in kept])

    def missing(self, rows: int) -> Ranges:
        """The ranges of 0...rows-1 that are not in the set."""
        edges = [0, *(edge for pair in self.ranges for edge in pair), rows]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return tuple((start, stop) for start, stop in pairs if start < stop)

    def _replace(self, first: int, last: int, starts: list[int], stops: list[int]) -> None:
        old = sum(self._stops[first:last]) - sum(self._starts[first:last])
        self._starts[first:last] = starts
        self._stops[first:last] = stops[: len(starts)]
        self._rows += sum(stops[: len(starts)]) - sum(starts) - old


def subtract(ranges: Ranges, removed: Ranges) -> Ranges:
    """The rows of `ranges` that are not in `removed`."""
    left = RowSet(ranges)
    left.remove(removed)
    return left.ranges
