"""A fitted clustering: all that assignment needs, and how it is built from training rows.

N: rows, P: dimensions of the space, K: clusters, M: micro-clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.hierarchy import Hierarchy, build_hierarchy
from clusterlib.clustering.kmeans import fit_kmeans, nearest, normalized
from clusterlib.clustering.silhouette import cluster_means
from clusterlib.clustering.space import Space

NOISE = -1
# Median absolute deviation to standard deviation of a normal distribution.
MAD_TO_SD = 1.4826


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
    micro_MP: NDArray[np.float32],
    micro_cluster_ids_M: NDArray[np.int32],
    space: Space,
    centroids_KP: NDArray[np.float32] | None = None,
    rows_per_sampled_row: float = 1.0,
) -> tuple[ClusterModel, Hierarchy]:
    """The model of clustered training rows and the tree of its micro-clusters.

    Args:
        z_NP: Training rows, of unit length in `space`.
        cluster_ids_N: The cluster of each, 0...K-1, none empty, or `NOISE`.
        micro_MP: Unit centroids of micro-clusters, ordered by cluster, noise last.
        micro_cluster_ids_M: The cluster of each; every cluster has one.
        centroids_KP: Those that rows go by; None to let them go by micro-clusters.
        rows_per_sampled_row: Rows of the catalogue that each training row stands for.
    """
    k = int(cluster_ids_N.max()) + 1
    is_clustered_N = cluster_ids_N != NOISE
    z_NP, cluster_ids_N = z_NP[is_clustered_N], cluster_ids_N[is_clustered_N]
    micro_N = nearest_micro(
        z_NP, cluster_ids_N, micro_MP=micro_MP, micro_cluster_ids_M=micro_cluster_ids_M
    )
    # A micro-cluster that got no row says nothing, and every cluster has at least one that did.
    used_U, leaf_N = np.unique(micro_N, return_inverse=True)
    noise = np.flatnonzero(micro_cluster_ids_M == NOISE)
    kept = np.concatenate([used_U, noise])
    sizes_U = np.bincount(leaf_N)
    leaf_means_UP = cluster_means(z_NP, leaf_N.astype(np.int32), k=len(sizes_U))
    means_KP = cluster_means(z_NP, cluster_ids_N, k=k)
    sizes_K = np.bincount(cluster_ids_N, minlength=k)
    by_centroid = centroids_KP is not None
    model = ClusterModel(
        space=space,
        centroids_KP=normalized(means_KP) if centroids_KP is None else centroids_KP,
        means_KP=means_KP,
        sizes_K=np.rint(sizes_K * rows_per_sampled_row).astype(np.int64),
        outlier_distance_K=np.zeros(k, dtype=np.float32),
        micro_MP=np.ascontiguousarray(micro_MP[kept]),
        micro_cluster_ids_M=micro_cluster_ids_M[kept],
        assign_by="centroid" if by_centroid else "micro",
    )
    distances_N = own_distances(z_NP, cluster_ids_N, micro_N=leaf_N, model=model)
    thresholds_K = robust_limits(distances_N, cluster_ids_N, k=k)
    model = replace(model, outlier_distance_K=thresholds_K)
    return model, build_hierarchy(leaf_means_UP, sizes_U, micro_cluster_ids_M[used_U])


def own_distances(
    z_NP: NDArray[np.float32],
    cluster_ids_N: NDArray[np.int32],
    *,
    micro_N: NDArray[np.integer],
    model: ClusterModel,
) -> NDArray[np.float64]:
    """Cosine distance of each row to the centroid or micro-cluster that it goes by."""
    if model.assign_by == "centroid":
        own_NP = model.centroids_KP[cluster_ids_N]
    else:
        own_NP = model.micro_MP[micro_N]
    distances_N: NDArray[np.float64] = 1 - np.einsum("np,np->n", z_NP, own_NP, dtype=np.float64)
    return distances_N


def micro_below_centroids(
    micro_MP: NDArray[np.float32], centroids_KP: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Micro-clusters by their nearest centroid; a centroid that has none becomes its own."""
    ids_M = nearest(micro_MP, centroids_KP)
    missing = np.setdiff1d(np.arange(len(centroids_KP), dtype=np.int32), ids_M)
    micro_MP = np.concatenate([micro_MP, centroids_KP[missing]])
    ids_M = np.concatenate([ids_M, missing]).astype(np.int32)
    order_M = np.argsort(ids_M, kind="stable")
    return np.ascontiguousarray(micro_MP[order_M]), ids_M[order_M]


def micro_inside_clusters(
    z_NP: NDArray[np.float32], cluster_ids_N: NDArray[np.int32], *, limit: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """About `limit` micro-clusters of the rows of each cluster alone, as its share of the rows."""
    parts, ids = [], []
    for cluster in [*range(int(cluster_ids_N.max()) + 1), NOISE]:
        own_NP = z_NP[cluster_ids_N == cluster]
        if len(own_NP) == 0:
            continue
        m = min(max(1, round(limit * len(own_NP) / len(z_NP))), len(own_NP))
        fit = fit_kmeans(own_NP, k=m, restarts=1, iterations=10, seed=seed)
        parts.append(fit.centroids_KP)
        ids.append(np.full(fit.k, cluster, dtype=np.int32))
    return np.concatenate(parts), np.concatenate(ids)


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
        if len(members) == 1:
            micro_N[rows] = members[0]
        else:
            micro_N[rows] = members[(z_NP[rows] @ micro_MP[members].T).argmax(axis=1)]
    return micro_N


def robust_limits(
    distances_N: NDArray[np.float64], cluster_ids_N: NDArray[np.int32], *, k: int
) -> NDArray[np.float32]:
    """Median + 3 robust standard deviations of each cluster's distances."""
    limits_K = np.zeros(k, dtype=np.float32)
    for cluster in range(k):
        own = distances_N[cluster_ids_N == cluster]
        if len(own):
            median = np.median(own)
            limits_K[cluster] = median + 3 * MAD_TO_SD * np.median(np.abs(own - median))
    return limits_K
