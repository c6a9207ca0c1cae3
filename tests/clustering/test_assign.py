"""Assignment agrees with brute force in the fitted space."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from clusterlib.clustering.assign import assign
from clusterlib.clustering.kmeans import KMeansFit, fit_kmeans, settle
from clusterlib.clustering.model import ClusterModel, build_model, micro_below_centroids
from clusterlib.clustering.space import Space, fit_space


def embeddings(rows: int = 300, groups: int = 5) -> np.ndarray:
    rng = np.random.default_rng(11)
    centers = rng.normal(size=(groups, 16)) * 3
    return (centers[np.arange(rows) % groups] + rng.normal(size=(rows, 16))).astype(np.float32)


def model_of(x: np.ndarray, k: int) -> ClusterModel:
    space = fit_space(x, dim=10, scaling="whitened")
    z = space.transform(x)
    return built(z, fit_kmeans(z, k=k, restarts=3, iterations=10, seed=0), space)


def built(z: np.ndarray, fit: KMeansFit, space: Space) -> ClusterModel:
    micro = fit_kmeans(z, k=min(20, len(z)), restarts=1, iterations=5, seed=1)
    micro_MP, ids_M = micro_below_centroids(micro.centroids_KP, fit.centroids_KP)
    model, _ = build_model(
        z,
        fit.cluster_ids_N,
        micro_MP=micro_MP,
        micro_cluster_ids_M=ids_M,
        space=space,
        centroids_KP=fit.centroids_KP,
    )
    return model


@pytest.fixture(scope="module")
def model() -> ClusterModel:
    return model_of(embeddings(), 7)


def test_it_matches_brute_force(model: ClusterModel) -> None:
    x = embeddings()
    result = assign(x, model)
    distances = 1 - model.space.transform(x).astype(np.float64) @ model.centroids_KP.T
    order = distances.argsort(axis=1)
    ranked = np.take_along_axis(distances, order, axis=1)
    np.testing.assert_array_equal(result.cluster_ids_N, order[:, 0])
    np.testing.assert_array_equal(result.second_cluster_ids_N, order[:, 1])
    np.testing.assert_allclose(result.distances_N, ranked[:, 0], atol=1e-5)
    np.testing.assert_allclose(result.margins_N, ranked[:, 1] - ranked[:, 0], atol=1e-5)
    assert (result.margins_N >= 0).all()
    assert (result.second_cluster_ids_N != result.cluster_ids_N).all()


def test_the_training_rows_get_their_own_silhouette(model: ClusterModel) -> None:
    x = embeddings()
    result = assign(x, model)
    z = model.space.transform(x).astype(np.float64)
    expected = silhouette_samples(z, result.cluster_ids_N, metric="cosine")
    np.testing.assert_allclose(result.silhouettes_N, expected, atol=1e-4)


def test_the_model_describes_its_training_rows(model: ClusterModel) -> None:
    x = embeddings()
    ids = assign(x, model).cluster_ids_N
    np.testing.assert_array_equal(model.sizes_K, np.bincount(ids, minlength=model.k))
    z = model.space.transform(x)
    for cluster in range(model.k):
        own = z[ids == cluster]
        np.testing.assert_allclose(model.means_KP[cluster], own.mean(axis=0), atol=1e-5)
        distances = 1 - own @ model.centroids_KP[cluster]
        median = np.median(distances)
        limit = median + 3 * 1.4826 * np.median(np.abs(distances - median))
        assert model.outlier_distance_K[cluster] == pytest.approx(limit, abs=1e-5)


def test_a_row_far_from_its_group_is_an_outlier() -> None:
    rng = np.random.default_rng(2)
    x = np.zeros((200, 6), dtype=np.float32)
    x[:100, 0] = x[100:, 1] = 1
    x += (0.02 * rng.normal(size=x.shape)).astype(np.float32)
    space = fit_space(x, dim=6, scaling="centered")
    z = space.transform(x)
    model = built(z, fit_kmeans(z, k=2, restarts=2, iterations=5, seed=0), space)
    typical = assign(x, model)
    assert typical.is_outlier_N.mean() < 0.2
    strange = x[:1].copy()
    strange[0, 4] += 1.5
    flagged = assign(np.concatenate([x[:1], strange]), model)
    assert flagged.is_outlier_N.tolist() == [False, True]
    assert flagged.cluster_ids_N[0] == flagged.cluster_ids_N[1]


def test_identical_rows_are_no_outliers() -> None:
    x = np.tile(embeddings()[:1], (30, 1))
    result = assign(x, model_of(x, 3))
    assert not result.is_outlier_N.any()
    assert (result.cluster_ids_N == 0).all()


def test_rounding_makes_no_outliers_of_copies() -> None:
    rng = np.random.default_rng(4)
    x = np.repeat(embeddings()[:3], 40, axis=0)
    x *= (1 + 1e-6 * rng.normal(size=x.shape)).astype(np.float32)
    assert not assign(x, model_of(x, 3)).is_outlier_N.any()


def test_one_cluster_is_its_own_runner_up() -> None:
    x = embeddings()
    space = fit_space(x, dim=4, scaling="whitened")
    z = space.transform(x)
    model = built(z, settle(z, z[:1]), space)
    result = assign(x, model)
    assert model.k == 1
    for values in (result.cluster_ids_N, result.second_cluster_ids_N, result.margins_N):
        assert (values == 0).all()
    assert (result.silhouettes_N == 0).all()
    assert np.isfinite(result.distances_N).all()


def test_neighbors_do_not_change_a_row(model: ClusterModel) -> None:
    x = embeddings()
    together = assign(x, model)
    alone = [assign(x[i : i + 1], model) for i in range(20)]
    np.testing.assert_array_equal(
        together.cluster_ids_N[:20], [part.cluster_ids_N[0] for part in alone]
    )
    np.testing.assert_allclose(
        together.distances_N[:20], [part.distances_N[0] for part in alone], atol=1e-5
    )
    assert len(assign(x[:0], model).cluster_ids_N) == 0
