"""Sets of row ids behave as Python's sets do."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clusterlib.tables.ranges import RowSet, contains, ranges_of, rows_in, subtract

SPANS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 12)), min_size=1, max_size=30
)


def rows_of(ranges: tuple[tuple[int, int], ...]) -> list[int]:
    return [row for start, stop in ranges for row in range(start, stop)]


@given(st.sets(st.integers(0, 200)))
def test_ranges_cover_exactly_the_ids(ids: set[int]) -> None:
    ranges = ranges_of(np.array(sorted(ids, key=hash), dtype=np.int64))
    assert rows_of(ranges) == sorted(ids)
    assert rows_in(ranges) == len(ids)
    assert all(a < b < c for (_, a), (b, c) in zip(ranges, ranges[1:], strict=False))
    inside = contains(ranges, np.arange(201))
    assert np.flatnonzero(inside).tolist() == sorted(ids)


@given(SPANS)
def test_a_row_set_is_a_set(spans: list[tuple[bool, int, int]]) -> None:
    ours, model = RowSet(), set[int]()
    for adding, start, length in spans:
        span, rows = ((start, start + length),), set(range(start, start + length))
        assert ours.overlaps(span) == bool(model & rows)
        assert ours.covers(span) == (rows <= model) or not rows
        assert set(rows_of(ours.intersection(span))) == model & rows
        (ours.add if adding else ours.remove)(span)
        model = model | rows if adding else model - rows
        assert len(ours) == len(model)
        assert rows_of(ours.ranges) == sorted(model)
        assert rows_of(ours.missing(80)) == sorted(set(range(80)) - model)


@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_subtraction(left: set[int], right: set[int]) -> None:
    one, two = (ranges_of(np.array(sorted(ids), dtype=np.int64)) for ids in (left, right))
    assert rows_of(subtract(one, two)) == sorted(left - right)
