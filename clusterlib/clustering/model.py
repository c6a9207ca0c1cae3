"""A fitted clustering: all that assignment needs, and how it is built from training rows.

N: rows, P: dimensions of the space, K: clusters, M: micro-clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.hierarchy import Hierarchy, build_hierarchy
from clusterlib.clustering.kmeans import nearest
from clusterlib.clustering.silhouette import cluster_means
from clusterlib.clustering.space import Space

NOISE = -1
# Median absolute deviation to standard deviation of a normal distribution.
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class ClusterModel:
    """The space, the centroids, the micro-clusters below them, and the clusters' own statistics.

    A row belongs to the cluster of its nearest centroid (`assign_by` is "centroid", k-means) or to
    that of its nearest micro-cluster ("micro", clusters of any shape; those of `NOISE` come last).

    `means_KP` are the rows' means and `sizes_K` their number in the whole catalogue, both for the
    silhouette; a row farther from its centroid than `outlier_distance_K` is an outlier.
    """

    space: Space
    centroids_KP: NDArray[np.float32]
    means_KP: NDArray[np.float64]
    sizes_K: NDArray[np.int64]
    outlier_distance_K: NDArray[np.float32]
    micro_MP: NDArray[np.float32]
    micro_cluster_ids_M: NDArray[np.int32]
    assign_by: Literal["centroid", "micro"] = "centroid"

    @property
    def k(self) -> int:
        return len(self.centroids_KP)


def build_model(
    z_NP: NDArray[np.float32],
    cluster_ids_N: NDArray[np.int32],
    *,
    centroids_KP: NDArray[np.float32],
    micro_MP: NDArray[np.float32],
    space: Space,
    rows_per_sampled_row: float = 1.0,
) -> tuple[ClusterModel, Hierarchy]:
    """The model of a k-means fit and the tree of its micro-clusters.

    Args:
        z_NP: Training rows, of unit length in `space`.
        cluster_ids_N: The cluster of each, 0...K-1, none empty.
        centroids_KP: Unit centroids.
        micro_MP: Unit centroids of micro-clusters found without regard to the clusters.
        rows_per_sampled_row: Rows of the catalogue that each training row stands for.
    """
    k = len(centroids_KP)
    micro_MP, micro_ids_M = _below_clusters(micro_MP, centroids_KP)
    micro_N = nearest_micro(z_NP, cluster_ids_N, micro_MP=micro_MP, micro_cluster_ids_M=micro_ids_M)
    # A micro-cluster that got no row says nothing, and every cluster has at least one that did.
    used_U, inverse_N = np.unique(micro_N, return_inverse=True)
    micro_MP, micro_ids_M = micro_MP[used_U], micro_ids_M[used_U]
    sizes_M = np.bincount(inverse_N)
    means_MP = cluster_means(z_NP, inverse_N.astype(np.int32), k=len(sizes_M))
    sizes_K = np.bincount(cluster_ids_N, minlength=k)
    model = ClusterModel(
        space=space,
        centroids_KP=centroids_KP,
        means_KP=cluster_means(z_NP, cluster_ids_N, k=k),
        sizes_K=np.rint(sizes_K * rows_per_sampled_row).astype(np.int64),
        outlier_distance_K=_outlier_distances(z_NP, cluster_ids_N, centroids_KP),
        micro_MP=micro_MP,
        micro_cluster_ids_M=micro_ids_M,
    )
    return model, build_hierarchy(means_MP, sizes_M, micro_ids_M)


def _below_clusters(
    micro_MP: NDArray[np.float32], centroids_KP: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Micro-clusters with the cluster of each, ordered by it; one that has none becomes its own."""
    ids_M = nearest(micro_MP, centroids_KP)
    missing = np.setdiff1d(np.arange(len(centroids_KP), dtype=np.int32), ids_M)
    micro_MP = np.concatenate([micro_MP, centroids_KP[missing]])
    ids_M = np.concatenate([ids_M, missing]).astype(np.int32)
    order_M = np.argsort(ids_M, kind="stable")
    return np.ascontiguousarray(micro_MP[order_M]), ids_M[order_M]


def nearest_micro(
    z_NP: NDArray[np.float32],
    cluster_ids_N: NDArray[np.int32],
    *,
    micro_MP: NDArray[np.float32],
    micro_cluster_ids_M: NDArray[np.int32],
) -> NDArray[np.int32]:
    """The most similar micro-cluster of each row's own cluster, int32 (N,); -1 for noise."""
    micro_N = np.full(len(z_NP), -1, dtype=np.int32)
    order_N = np.argsort(cluster_ids_N, kind="stable")
    clusters, starts = np.unique(cluster_ids_N[order_N], return_index=True)
    for cluster, start, stop in zip(
        clusters, starts, np.append(starts, len(order_N))[1:], strict=True
    ):
        if cluster == NOISE:
            continue
        rows = order_N[start:stop]
        members = np.flatnonzero(micro_cluster_ids_M == cluster)
        micro_N[rows] = members[nearest(z_NP[rows], micro_MP[members])]
    return micro_N


def _outlier_distances(
    z_NP: NDArray[np.float32], cluster_ids_N: NDArray[np.int32], centroids_KP: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Median + 3 robust standard deviations of each cluster's cosine distances."""
    distances_N = 1 - np.einsum("np,np->n", z_NP, centroids_KP[cluster_ids_N], dtype=np.float64)
    thresholds_K = np.empty(len(centroids_KP), dtype=np.float32)
    for cluster in range(len(centroids_KP)):
        own = distances_N[cluster_ids_N == cluster]
        median = np.median(own)
        thresholds_K[cluster] = median + 3 * _MAD_TO_SD * np.median(np.abs(own - median))
    return thresholds_K
