"""Sums of parts are the statistics of the whole, and the silhouette is then exact."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import silhouette_samples

from clusterlib.clustering.assign import assign
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.statistics import ClusterSums, cluster_sums, empty_sums, refined
from tests.clustering.test_assign import embeddings, model_of


@pytest.fixture(scope="module")
def model() -> ClusterModel:
    """Fitted on every fifth row only."""
    return model_of(embeddings()[::5], 7)


def gathered(x: np.ndarray, model: ClusterModel, *, parts: int) -> ClusterModel:
    total = empty_sums(model)
    for part in np.array_split(x, parts):
        total.add(ClusterSums.from_bytes(cluster_sums(part, model).to_bytes()))
    return refined(model, total)


def test_all_rows_get_the_exact_silhouette(model: ClusterModel) -> None:
    x = embeddings()
    exact = gathered(x, model, parts=4)
    result = assign(x, exact)
    z = model.space.transform(x).astype(np.float64)
    expected = silhouette_samples(z, result.cluster_ids_N, metric="cosine")
    np.testing.assert_allclose(result.silhouettes_N, expected, atol=1e-5)
    assert np.abs(assign(x, model).silhouettes_N - expected).max() > 1e-3  # the sample's are not


def test_parts_do_not_matter(model: ClusterModel) -> None:
    x = embeddings()
    one, many = gathered(x, model, parts=1), gathered(x, model, parts=9)
    np.testing.assert_array_equal(one.sizes_K, many.sizes_K)
    np.testing.assert_allclose(one.means_KP, many.means_KP, atol=1e-6)
    np.testing.assert_array_equal(one.outlier_distance_K, many.outlier_distance_K)
    assert one.sizes_K.sum() == len(x)


def test_limits_are_median_plus_three_robust_deviations(model: ClusterModel) -> None:
    x = embeddings(3000)
    exact = gathered(x, model, parts=2)
    found = assign(x, model)
    for cluster in range(model.k):
        own = found.distances_N[found.cluster_ids_N == cluster].astype(np.float64)
        median = np.median(own)
        limit = median + 3 * 1.4826 * np.median(np.abs(own - median))
        assert exact.outlier_distance_K[cluster] == pytest.approx(limit, abs=0.03)


def test_a_cluster_that_no_row_reaches_keeps_its_limit(model: ClusterModel) -> None:
    empty = refined(model, empty_sums(model))
    np.testing.assert_array_equal(empty.outlier_distance_K, model.outlier_distance_K)
    assert (empty.sizes_K == 0).all()


def test_noise_counts_in_no_cluster(model: ClusterModel) -> None:
    x = embeddings()
    ids_M = np.where(model.micro_cluster_ids_M == model.k - 1, -1, model.micro_cluster_ids_M)
    noisy = replace(
        model,
        centroids_KP=model.centroids_KP[:-1],
        means_KP=model.means_KP[:-1],
        sizes_K=model.sizes_K[:-1],
        outlier_distance_K=model.outlier_distance_K[:-1],
        micro_cluster_ids_M=ids_M.astype(np.int32),
        assign_by="micro",
    )
    result = assign(x, noisy)
    is_noise = result.cluster_ids_N == -1
    assert 0 < is_noise.sum() < len(x)
    assert cluster_sums(x, noisy).histogram_KB.sum() == (~is_noise).sum()
    assert (result.micro_ids_N[is_noise] == -1).all()
    assert (result.silhouettes_N[is_noise] == 0).all()
    assert result.is_outlier_N[is_noise].all()
    assert (result.second_cluster_ids_N >= 0).all()
    assert (result.second_cluster_ids_N != result.cluster_ids_N).all()
