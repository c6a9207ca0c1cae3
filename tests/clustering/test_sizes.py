"""Small clusters are folded, large ones split, and the model still assigns what it reports."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from clusterlib.clustering.kmeans import KMeansFit, labelled, nearest, normalized
from clusterlib.clustering.sizes import resized


def fitted(sizes: tuple[int, ...], *, noise: int = 0) -> tuple[np.ndarray, KMeansFit, np.ndarray]:
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(len(sizes)), sizes)
    z = normalized(6 * rng.normal(size=(len(sizes), 16))[y] + rng.normal(size=(len(y), 16)))
    ids = y.astype(np.int32)
    ids[:noise] = -1
    return z, labelled(z, ids), y


@pytest.mark.parametrize("by_centroid", [True, False])
def test_small_ones_are_folded_and_large_ones_split(by_centroid: bool) -> None:
    z, fit, y = fitted((400, 100, 90, 6, 4))
    found = resized(z, fit, smallest=20, largest=150, by_centroid=by_centroid, seed=0)
    assert (found.folded, found.split) == (2, 1)
    assert found.fit.k == 3 - 1 + 3  # 400 rows in three parts
    assert found.fit.sizes_K.min() >= 20
    assert found.fit.sizes_K.sum() == len(z)
    if by_centroid:
        np.testing.assert_array_equal(nearest(z, found.fit.centroids_KP), found.fit.cluster_ids_N)
    for cluster in range(found.fit.k):  # a part holds rows of one large group
        groups = y[(found.fit.cluster_ids_N == cluster) & (y < 3)]
        assert len(np.unique(groups)) == 1


def test_sizes_that_fit_change_nothing_and_noise_stays() -> None:
    z, fit, y = fitted((60, 50, 40), noise=7)
    same = resized(z, fit, smallest=10, largest=100, by_centroid=False, seed=0)
    assert (same.folded, same.split) == (0, 0)
    assert adjusted_rand_score(y[7:], same.fit.cluster_ids_N[7:]) == 1
    one = resized(z, fit, smallest=1000, largest=np.inf, by_centroid=False, seed=0)
    assert (one.fit.k, one.folded) == (1, 2)
    np.testing.assert_array_equal(one.fit.cluster_ids_N, np.repeat([-1, 0], [7, 143]))


def test_identical_rows_cannot_be_split() -> None:
    z = np.tile(normalized(np.ones((1, 4))), (30, 1))
    fit = labelled(z, np.zeros(30, dtype=np.int32))
    found = resized(z, fit, smallest=0, largest=5, by_centroid=True, seed=0)
    assert (found.fit.k, found.split) == (1, 0)
