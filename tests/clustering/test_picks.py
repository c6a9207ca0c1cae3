"""Picks merge, and hashes are uniform."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterlib.clustering.picks import (
    diverse_rows,
    lowest_hashes,
    row_hash,
    top_per_cluster,
)

# Few values, so that ties are common.
rows = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0])), max_size=40)


def arrays(pairs: list[tuple[int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids = np.array([pair[0] for pair in pairs], dtype=np.int32)
    values = np.array([pair[1] for pair in pairs], dtype=np.float64)
    return ids, values, np.arange(len(pairs), dtype=np.int64)[::-1] * 7


@given(rows, st.integers(1, 5))
def test_the_lowest_of_each_cluster_are_chosen(pairs: list[tuple[int, float]], limit: int) -> None:
    ids, values, row_ids = arrays(pairs)
    expected = []
    for cluster in sorted(set(ids.tolist())):
        own = np.flatnonzero(ids == cluster)
        expected += sorted(own, key=lambda i: (values[i], row_ids[i]))[:limit]
    assert top_per_cluster(ids, values, row_ids, limit=limit).tolist() == expected


@given(rows, st.integers(1, 4), st.integers(1, 5), st.randoms())
@settings(deadline=None)
def test_the_top_of_parts_is_the_top_of_the_whole(
    pairs: list[tuple[int, float]], limit: int, parts: int, random: object
) -> None:
    ids, values, row_ids = arrays(pairs)
    whole = top_per_cluster(ids, values, row_ids, limit=limit)
    part_of = np.array([random.randrange(parts) for _ in pairs], dtype=int)  # type: ignore[attr-defined]
    kept = np.concatenate(
        [
            members[top_per_cluster(ids[members], values[members], row_ids[members], limit=limit)]
            for members in (np.flatnonzero(part_of == part) for part in range(parts))
        ]
    )
    merged = kept[top_per_cluster(ids[kept], values[kept], row_ids[kept], limit=limit)]
    np.testing.assert_array_equal(merged, whole)


def test_hashes_are_uniform_and_reproducible() -> None:
    ids = np.arange(200_000, dtype=np.int64)
    hashes = row_hash(ids, seed=1)
    assert (hashes.min() >= 0, hashes.max() < 1) == (True, True)
    assert len(np.unique(hashes)) == len(ids)
    counts, _ = np.histogram(hashes, bins=100, range=(0, 1))
    # Pearson's statistic has mean 99 and standard deviation 14.
    assert ((counts - 2000) ** 2 / 2000).sum() < 180
    assert abs(np.corrcoef(hashes[1:], hashes[:-1])[0, 1]) < 0.01
    np.testing.assert_array_equal(row_hash(ids[5:9], seed=1), hashes[5:9])


def test_seeds_give_independent_samples() -> None:
    ids = np.arange(50_000, dtype=np.int64)
    first, second = row_hash(ids, seed=0), row_hash(ids, seed=1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    # Not the same numbers for other rows either, as a plain sum of id and seed would give.
    assert len(np.intersect1d(first, second)) == 0


def test_a_hash_never_changes() -> None:
    # The sample of a stored run depends on these.
    stored = [0.4586484713125917, 0.38860209574105653, 0.4393127789897583]
    assert row_hash(np.array([0, 1, 2**40]), seed=0).tolist() == stored


def test_lowest_hashes_are_those_of_a_full_sort_whatever_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = np.sort(np.argsort(row_hash(np.arange(1000), seed=3))[:70])
    monkeypatch.setattr("clusterlib.clustering.picks._HASH_BLOCK", 64)
    assert lowest_hashes(1000, 70, seed=3).tolist() == expected.tolist()
    assert lowest_hashes(5, 70, seed=3).tolist() == [0, 1, 2, 3, 4]


def test_diverse_rows_are_far_from_each_other_and_never_outliers() -> None:
    angles = np.deg2rad([0, 1, 2, 45, 46, 90, 90, 200])
    z = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ids = np.array([0, 0, 0, 0, 0, 0, 0, 0], dtype=np.int32)
    known = {
        "distances_N": np.array([5, 5, 1, 5, 5, 5, 5, 9], dtype=np.float32),
        "is_outlier_N": np.array([False] * 7 + [True]),
        "row_ids_N": np.arange(100, 108),
    }
    (found,) = diverse_rows(z, ids, seed=0, limit=3, **known)
    assert found[0] == 102  # the nearest
    assert found[1] in (105, 106)  # the farthest from it, once
    assert found[2] in (103, 104)
    (everything,) = diverse_rows(z, ids, seed=0, **known)
    assert len(everything) == 6  # the two equal rows are one picture
    assert 107 not in everything


def test_diverse_rows_do_not_depend_on_order_and_pass_noise_over() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2000, 5)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    ids = rng.integers(-1, 3, 2000).astype(np.int32)
    known = {
        "distances_N": rng.random(2000, dtype=np.float32),
        "is_outlier_N": rng.random(2000) < 0.1,
        "row_ids_N": np.arange(2000),
    }
    one = diverse_rows(z, ids, seed=1, **known)
    turn = rng.permutation(2000)
    other = diverse_rows(z[turn], ids[turn], seed=1, **{n: v[turn] for n, v in known.items()})
    assert [rows.tolist() for rows in one] == [rows.tolist() for rows in other]
    assert [set(ids[rows]) for rows in one] == [{0}, {1}, {2}]
    spread = [1 - z[rows] @ z[rows].T for rows in one]
    assert all(s[np.triu_indices(8, 1)].min() > 0.2 for s in spread)
    assert diverse_rows(z[:0], ids[:0], seed=0, **{n: v[:0] for n, v in known.items()}) == []
