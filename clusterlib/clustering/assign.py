"""Assign rows to the clusters of a fitted model.

N: rows, D: embedding dimensions, P: dimensions of the space, K: clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kmeans import KMeansFit
from clusterlib.clustering.silhouette import cluster_means, silhouette_rows
from clusterlib.clustering.space import Space

# Median absolute deviation to standard deviation of a normal distribution.
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class ClusterModel:
    """All that assignment needs: the space, the centroids, and the clusters' own statistics.

    `means_KP` are the training rows' means and `sizes_K` the expected sizes in the whole catalogue,
    both for the silhouette, which is exact when every row was a training row; a row farther from
    its centroid than `outlier_distance_K` is an outlier.
    """

    space: Space
    centroids_KP: NDArray[np.float32]
    means_KP: NDArray[np.float64]
    sizes_K: NDArray[np.int64]
    outlier_distance_K: NDArray[np.float32]

    @property
    def k(self) -> int:
        return len(self.centroids_KP)


@dataclass(frozen=True)
class Assignment:
    """Clusters of N rows. Distances are cosine distances, 0...2, float32."""

    cluster_ids_N: NDArray[np.int32]
    distances_N: NDArray[np.float32]
    second_cluster_ids_N: NDArray[np.int32]
    margins_N: NDArray[np.float32]
    silhouettes_N: NDArray[np.float32]
    is_outlier_N: NDArray[np.bool_]


def build_model(
    z_NP: NDArray[np.float32], fit: KMeansFit, *, space: Space, rows_per_sampled_row: float = 1.0
) -> ClusterModel:
    """The model of a fit, with statistics of its training rows (unit rows in `space`).

    `rows_per_sampled_row` says how many rows of the catalogue each training row stands for.
    """
    distances_N = _cosine_distances(z_NP, fit.centroids_KP[fit.cluster_ids_N])
    thresholds_K = np.empty(fit.k, dtype=np.float32)
    for cluster in range(fit.k):
        own = distances_N[fit.cluster_ids_N == cluster].astype(np.float64)
        median = np.median(own)
        deviation = _MAD_TO_SD * np.median(np.abs(own - median))
        thresholds_K[cluster] = median + 3 * deviation
    return ClusterModel(
        space=space,
        centroids_KP=fit.centroids_KP,
        means_KP=cluster_means(z_NP, fit.cluster_ids_N, k=fit.k),
        sizes_K=np.rint(fit.sizes_K * rows_per_sampled_row).astype(np.int64),
        outlier_distance_K=thresholds_K,
    )


def assign(x_ND: NDArray[np.float32], model: ClusterModel) -> Assignment:
    """Cluster, distance, runner-up, margin, silhouette and outlier flag of each row of `x_ND`.

    With a single cluster the runner-up is the cluster itself and the margin 0.
    """
    z_NP = model.space.transform(x_ND)
    similarity_NK = z_NP @ model.centroids_KP.T
    rows = np.arange(len(z_NP))
    ids_N = similarity_NK.argmax(axis=1).astype(np.int32)
    own_N = similarity_NK[rows, ids_N].copy()
    if model.k > 1:
        similarity_NK[rows, ids_N] = -np.inf
    second_N = similarity_NK.argmax(axis=1).astype(np.int32)
    margins_N = (own_N - similarity_NK[rows, second_N]).astype(np.float32)
    distances_N = np.clip(1 - own_N, 0, 2).astype(np.float32)
    return Assignment(
        cluster_ids_N=ids_N,
        distances_N=distances_N,
        second_cluster_ids_N=second_N,
        margins_N=np.maximum(margins_N, 0),
        silhouettes_N=silhouette_rows(z_NP, ids_N, means_KP=model.means_KP, sizes_K=model.sizes_K),
        # The tolerance keeps clusters of identical images, whose threshold is their distance.
        is_outlier_N=distances_N > model.outlier_distance_K[ids_N] + 1e-5,
    )


def _cosine_distances(
    z_NP: NDArray[np.float32], centroids_NP: NDArray[np.float32]
) -> NDArray[np.float32]:
    distances: NDArray[np.float32] = 1 - np.einsum("np,np->n", z_NP, centroids_NP)
    return distances
