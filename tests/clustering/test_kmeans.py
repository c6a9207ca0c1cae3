"""k-means is reproducible, ordered, and honest about empty clusters."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from clusterlib.clustering.kmeans import check_faiss, fit_kmeans, nearest, settle
from clusterlib.errors import ConfigError


def blobs(sizes: tuple[int, ...], *, dim: int = 8, spread: float = 0.05) -> np.ndarray:
    """Unit rows around as many orthogonal directions as there are sizes."""
    rng = np.random.default_rng(5)
    centers = np.repeat(np.eye(dim)[: len(sizes)], sizes, axis=0)
    x = centers + spread * rng.normal(size=centers.shape)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def test_separate_groups_are_found_largest_first() -> None:
    sizes = (30, 120, 70)
    fit = fit_kmeans(blobs(sizes), k=3, restarts=10, iterations=20, seed=1)
    assert fit.sizes_K.tolist() == [120, 70, 30]
    truth = np.repeat([2, 0, 1], sizes)
    np.testing.assert_array_equal(fit.cluster_ids_N, truth)
    np.testing.assert_allclose(np.linalg.norm(fit.centroids_KP, axis=1), 1, atol=1e-5)
    assert fit.cluster_ids_N.dtype == np.int32


def test_a_seed_decides_everything() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 6)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    first, again, other = (
        fit_kmeans(z, k=12, restarts=1, iterations=5, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.centroids_KP, again.centroids_KP)
    np.testing.assert_array_equal(first.cluster_ids_N, again.cluster_ids_N)
    assert first.inertia == again.inertia
    assert not np.array_equal(first.cluster_ids_N, other.cluster_ids_N)


def test_the_best_of_many_starts_is_kept() -> None:
    # A single start leaves some group without a centroid; twenty find all eight.
    z = blobs((40,) * 8)
    one, many = (fit_kmeans(z, k=8, restarts=starts, iterations=10, seed=2) for starts in (1, 20))
    assert many.inertia < 0.5 * one.inertia
    assert many.sizes_K.tolist() == [40] * 8


def test_all_rows_are_used_for_training() -> None:
    # faiss would otherwise train on 256 rows a cluster.
    z = blobs((3000, 600))
    fit = fit_kmeans(z, k=2, restarts=3, iterations=10, seed=0)
    means = np.stack([z[fit.cluster_ids_N == c].mean(axis=0) for c in range(2)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(fit.centroids_KP, means, atol=1e-5)


def test_identical_rows_make_one_cluster() -> None:
    z = np.tile(blobs((1,)), (40, 1))
    fit = fit_kmeans(z, k=4, restarts=2, iterations=5, seed=0)
    assert (fit.k, fit.sizes_K.tolist()) == (1, [40])
    assert fit.inertia == pytest.approx(0, abs=1e-3)


def test_as_many_clusters_as_rows() -> None:
    z = np.eye(5, dtype=np.float32)
    fit = fit_kmeans(z, k=5, restarts=1, iterations=3, seed=0)
    assert sorted(fit.cluster_ids_N) == list(range(5))
    assert fit.inertia == pytest.approx(0, abs=1e-6)


def test_more_clusters_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows cannot make 4 clusters"):
        fit_kmeans(np.eye(3, dtype=np.float32), k=4, restarts=1, iterations=1, seed=0)


def test_settling_drops_empty_clusters_and_orders_the_rest() -> None:
    z = np.array([[0, 1], [1, 0], [1, 0], [0, 1], [-1, 0], [1, 0]], dtype=np.float32)
    centroids = np.array([[-1, 0], [0, -1], [0, 1], [1, 0]], dtype=np.float32)
    fit = settle(z, centroids)
    assert fit.centroids_KP.tolist() == [[1, 0], [0, 1], [-1, 0]]
    assert fit.cluster_ids_N.tolist() == [1, 0, 0, 1, 2, 0]
    assert fit.sizes_K.tolist() == [3, 2, 1]
    assert fit.inertia == 0


def test_settling_does_not_depend_on_the_order_of_centroids() -> None:
    z = blobs((20, 20, 9))
    centroids = np.eye(8, dtype=np.float32)[:3]
    one, other = settle(z, centroids), settle(z, centroids[[2, 1, 0]])
    np.testing.assert_array_equal(one.cluster_ids_N, other.cluster_ids_N)
    np.testing.assert_array_equal(one.centroids_KP, other.centroids_KP)
    assert one.cluster_ids_N[0] == 0  # of two equal sizes the one with the first row


def test_inertia_is_the_sum_of_squared_distances() -> None:
    z = blobs((30, 30), spread=0.4)
    fit = settle(z, np.eye(8, dtype=np.float32)[:2])
    squared = ((z - fit.centroids_KP[fit.cluster_ids_N]) ** 2).sum()
    assert fit.inertia == pytest.approx(float(squared), rel=1e-5)


def test_nearest_is_the_most_similar() -> None:
    z = blobs((30, 30, 30), spread=0.5)
    centroids = blobs((2, 2, 2), spread=0.5)
    distances = np.linalg.norm(z[:, None] - centroids[None], axis=2)
    np.testing.assert_array_equal(nearest(z, centroids), distances.argmin(axis=1))
    assert nearest(z[:0], centroids).shape == (0,)


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    found = [SimpleNamespace(metadata={"Name": name}) for name in ("numpy", *names)]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)


def test_the_installed_faiss_is_accepted() -> None:
    check_faiss()


def test_two_faiss_wheels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "faiss-cpu", "faiss-gpu-cu12")
    with pytest.raises(ConfigError, match="faiss-cpu and faiss-gpu-cu12 are both installed"):
        check_faiss()


def test_a_missing_faiss_names_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"clusterlib\[cpu\]"):
        check_faiss()
