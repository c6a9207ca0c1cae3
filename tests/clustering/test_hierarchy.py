"""Weighted Ward merges are those of SciPy on the rows behind the points."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score

from clusterlib.clustering.hierarchy import Hierarchy, build_hierarchy, cut, ward_merges


def points(rows: int, dim: int = 5, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim))


@given(rows=st.integers(1, 60), dim=st.integers(1, 6), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_unit_weights_give_scipys_linkage(rows: int, dim: int, seed: int) -> None:
    x = points(rows, dim, seed=seed)
    ours = ward_merges(x, np.ones(rows, dtype=np.int64))
    assert ours.leaves == rows
    if rows > 1:
        theirs = linkage(x, method="ward")
        np.testing.assert_allclose(ours.height_S, theirs[:, 2], rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(
            np.sort(theirs[:, :2]), np.stack([ours.left_S, ours.right_S], 1)
        )


def test_a_weight_is_as_many_rows_in_one_place() -> None:
    x, weights = points(25), np.random.default_rng(1).integers(1, 9, 25)
    theirs = linkage(np.repeat(x, weights, axis=0), method="ward")
    ours = ward_merges(x, weights)
    np.testing.assert_allclose(ours.height_S, theirs[-24:, 2], rtol=1e-9, atol=1e-12)
    for k in (1, 2, 5, 13, 25):
        expected = fcluster(theirs, k, "maxclust")
        assert adjusted_rand_score(np.repeat(cut(ours, k), weights), expected) == 1


@given(rows=st.integers(2, 40), places=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_ties_and_copies_end(rows: int, places: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 2, size=(places, 3))[rng.integers(0, places, rows)].astype(float)
    merges = ward_merges(x, rng.integers(1, 3, rows))
    assert (np.diff(merges.height_S) >= 0).all()
    distinct = len(np.unique(x, axis=0))
    groups = cut(merges, distinct)
    assert len(np.unique(np.column_stack([x, groups]), axis=0)) == distinct


def test_a_cut_numbers_its_groups_by_first_leaf() -> None:
    merges = ward_merges(np.array([[0.0], [9.0], [0.1], [9.2], [30.0]]), np.ones(5, np.int64))
    assert cut(merges, 3).tolist() == [0, 1, 0, 1, 2]
    assert cut(merges, 1).tolist() == [0] * 5
    assert cut(merges, 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="k=6 is outside 1...5"):
        cut(merges, 6)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        ward_merges(np.empty((0, 2)), np.empty(0, np.int64))


@pytest.fixture
def tree() -> Hierarchy:
    x = points(40)
    return build_hierarchy(x, np.arange(40), (x[:, 0] > 0) + 2 * (x[:, 1] > 0))


def test_the_cut_at_k_is_the_clusters(tree: Hierarchy) -> None:
    assert adjusted_rand_score(tree.cut(4), tree.micro_cluster_ids_M) == 1
    assert tree.size_V[-1] == np.arange(40).sum()
    assert tree.cut(1).max() == 0
    assert tree.cluster_id_V[-1] == -1


def test_deeper_cuts_split_clusters_and_shallower_ones_join_them(tree: Hierarchy) -> None:
    for k in range(1, 40):
        coarse, fine = tree.cut(k), tree.cut(k + 1)
        assert len({*zip(fine, coarse, strict=True)}) == k + 1
    for cluster in range(4):
        node = tree.cluster_node(cluster)
        leaves = np.flatnonzero(tree.micro_cluster_ids_M == cluster)
        np.testing.assert_array_equal(tree.leaves_of(node), leaves)
        parts = tree.split(node, parts=3)
        np.testing.assert_array_equal(np.sort(np.concatenate([p for _, p in parts])), leaves)
        assert len(parts) == 3
        assert tree.size_V[node] == sum(tree.size_V[n] for n, _ in parts)


def test_a_micro_cluster_cannot_be_split(tree: Hierarchy) -> None:
    assert [node for node, _ in tree.split(7)] == [7]
    with pytest.raises(ValueError, match="no cluster 4"):
        tree.cluster_node(4)
