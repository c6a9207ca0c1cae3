"""The silhouette from cluster means is the one from all pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples

from clusterlib.clustering.scores import internal_scores
from clusterlib.clustering.silhouette import (
    QUANTILES,
    cluster_means,
    profile_quantiles,
    silhouette_profile,
    silhouette_rows,
)


def unit_rows(rows: int, dim: int, *, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, dim)) + 0.5
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def ours(z: np.ndarray, ids: np.ndarray, k: int) -> np.ndarray:
    sizes = np.bincount(ids, minlength=k)
    return silhouette_rows(z, ids, means_KP=cluster_means(z, ids, k=k), sizes_K=sizes)


@given(
    rows=st.integers(6, 80),
    dim=st.integers(8, 16),
    k=st.integers(2, 5),
    seed=st.integers(0, 999),
)
@settings(max_examples=60, deadline=None)
def test_it_equals_the_cosine_silhouette_of_all_pairs(
    rows: int, dim: int, k: int, seed: int
) -> None:
    z = unit_rows(rows, dim, seed=seed)
    ids = np.random.default_rng(seed).integers(0, k, rows).astype(np.int32)
    ids[:k] = np.arange(k)
    expected = silhouette_samples(z.astype(np.float64), ids, metric="cosine")
    np.testing.assert_allclose(ours(z, ids, k), expected, atol=1e-5)
    assert internal_scores(z, ids, k=k).silhouette == pytest.approx(expected.mean(), abs=1e-5)


def test_a_cluster_of_one_scores_zero() -> None:
    z = unit_rows(20, 4)
    ids = np.array([0] * 10 + [1] * 9 + [2], dtype=np.int32)
    expected = silhouette_samples(z.astype(np.float64), ids, metric="cosine")
    assert expected[-1] == 0
    np.testing.assert_allclose(ours(z, ids, 3), expected, atol=1e-5)


def test_an_empty_cluster_is_nobodys_neighbor() -> None:
    z = unit_rows(20, 4)
    ids = np.array([0] * 10 + [1] * 10, dtype=np.int32)
    np.testing.assert_array_equal(ours(z, ids, 5), ours(z, ids, 2))


def test_identical_rows_in_two_clusters_score_zero() -> None:
    z = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (6, 1))
    np.testing.assert_allclose(ours(z, np.array([0, 0, 0, 1, 1, 1], np.int32), 2), 0, atol=1e-6)


def test_one_cluster_has_no_silhouette() -> None:
    z, ids = unit_rows(9, 3), np.zeros(9, dtype=np.int32)
    assert (ours(z, ids, 1) == 0).all()
    assert internal_scores(z, ids, k=1).silhouette is None
    assert internal_scores(z, np.arange(9, dtype=np.int32), k=9).silhouette is None


def test_means_are_those_of_each_cluster() -> None:
    z = unit_rows(30, 5)
    ids = np.random.default_rng(1).integers(0, 3, 30).astype(np.int32)
    means = cluster_means(z, ids, k=4)
    for cluster in range(3):
        np.testing.assert_allclose(means[cluster], z[ids == cluster].mean(axis=0), atol=1e-6)
    assert (means[3] == 0).all()


def test_profiles_add_up_and_hold_the_quantiles() -> None:
    rng = np.random.default_rng(0)
    values = np.clip(rng.normal(0.3, 0.3, 5000), -1, 1).astype(np.float32)
    ids = rng.integers(-1, 3, 5000).astype(np.int32)
    whole = silhouette_profile(values, ids, k=4)
    parts = silhouette_profile(values[:1234], ids[:1234], k=4)
    parts = parts + silhouette_profile(values[1234:], ids[1234:], k=4)
    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(whole.sum(axis=1), [*np.bincount(ids[ids >= 0]), 0])
    for cluster in range(3):
        expected = np.quantile(values[ids == cluster], QUANTILES)
        np.testing.assert_allclose(profile_quantiles(whole)[cluster], expected, atol=0.02)
    assert not profile_quantiles(whole)[3].any()


def test_the_ends_of_the_silhouette_are_in_the_outer_bins() -> None:
    profile = silhouette_profile(np.array([-1, 1], np.float32), np.zeros(2, np.int32), k=1)
    assert profile[0, 0] == profile[0, -1] == 1
