"""Exact cosine silhouette from cluster means, without a pairwise distance.

Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis",
1987. For unit rows the mean cosine distance from x to a cluster with (unnormalised) mean m is
1 - x.m, so one matrix product gives a(i) and b(i) for all rows; cosine and squared-Euclidean
silhouette are then equal.

N: rows, P: dimensions, K: clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PROFILE_BINS = 64
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BLOCK_ROWS = 8192
_CLOSE = 0.05


def cluster_means(
    z_NP: NDArray[np.float32], cluster_ids_N: NDArray[np.int32], *, k: int
) -> NDArray[np.float64]:
    """Unnormalised mean of each cluster's rows, float64 (K, P); zero for an empty cluster."""
    sums_KP = np.zeros((k, z_NP.shape[1]))
    order_N = np.argsort(cluster_ids_N, kind="stable")
    counts_K = np.bincount(cluster_ids_N, minlength=k)
    starts_K = np.concatenate([[0], np.cumsum(counts_K)[:-1]])
    for cluster in np.flatnonzero(counts_K):
        rows = order_N[starts_K[cluster] : starts_K[cluster] + counts_K[cluster]]
        sums_KP[cluster] = z_NP[rows].sum(axis=0, dtype=np.float64)
    means_KP: NDArray[np.float64] = sums_KP / np.maximum(counts_K, 1)[:, None]
    return means_KP


def silhouette_rows(
    z_NP: NDArray[np.float32],
    cluster_ids_N: NDArray[np.int32],
    *,
    means_KP: NDArray[np.float64],
    sizes_K: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Silhouette of each row, float32 (N,), in -1...1.

    0 where the row is alone in its cluster, or where there is no other cluster.

    Args:
        z_NP: Unit rows.
        cluster_ids_N: The cluster of each row, 0...K-1.
        means_KP: Mean of every cluster, the row itself included.
        sizes_K: Rows behind each mean.
    """
    if len(means_KP) < 2:
        return np.zeros(len(z_NP), dtype=np.float32)
    result_N = np.empty(len(z_NP), dtype=np.float32)
    means32_KP = means_KP.astype(np.float32)
    for start in range(0, len(z_NP), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        own_N = cluster_ids_N[part]
        s_N, larger_N = _block(z_NP[part] @ means32_KP.T, own_N, sizes_K)
        # A ratio of small distances needs more digits than float32 has.
        close_C = np.flatnonzero(larger_N < _CLOSE)
        if len(close_C):
            similarity_CK = z_NP[part][close_C].astype(np.float64) @ means_KP.T
            s_N[close_C], _ = _block(similarity_CK, own_N[close_C], sizes_K)
        result_N[part] = s_N
    return result_N


def _block(
    similarity_NK: NDArray[np.floating], own_N: NDArray[np.int32], sizes_K: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Silhouettes, and max(a, b), of rows with these products with the means; overwrites them."""
    rows = np.arange(len(own_N))
    n_N = sizes_K[own_N]
    a_N = (1 - similarity_NK[rows, own_N]) * (n_N / np.maximum(n_N - 1, 1))
    similarity_NK[:, sizes_K == 0] = -np.inf
    similarity_NK[rows, own_N] = -np.inf
    b_N = 1 - similarity_NK.max(axis=1)
    larger_N = np.maximum(a_N, b_N)
    defined_N = (n_N > 1) & (larger_N > 1e-12) & np.isfinite(b_N)
    return np.where(defined_N, (b_N - a_N) / np.where(defined_N, larger_N, 1), 0), larger_N


def silhouette_profile(
    silhouettes_N: NDArray[np.float32], cluster_ids_N: NDArray[np.int32], *, k: int
) -> NDArray[np.int64]:
    """Rows of each cluster in PROFILE_BINS equal bins of -1...1, (K, B); profiles add up.

    The bins are the thickness of the cluster's bar in a silhouette plot; noise is in none.
    """
    inside_N = cluster_ids_N >= 0
    scaled_N = (silhouettes_N[inside_N].astype(np.float64) + 1) * (PROFILE_BINS / 2)
    bins_N = np.clip(scaled_N.astype(np.int64), 0, PROFILE_BINS - 1)
    flat_N = cluster_ids_N[inside_N].astype(np.int64) * PROFILE_BINS + bins_N
    return np.bincount(flat_N, minlength=k * PROFILE_BINS).reshape(k, PROFILE_BINS)


def profile_quantiles(profile_KB: NDArray[np.int64]) -> NDArray[np.float64]:
    """The silhouette at each of QUANTILES of a cluster's rows, (K, Q): the middle of its bin.

    An empty cluster has zeros.
    """
    middles_B = (np.arange(PROFILE_BINS) + 0.5) * (2 / PROFILE_BINS) - 1
    cumulative_KB = np.cumsum(profile_KB, axis=1)
    result_KQ = np.zeros((len(profile_KB), len(QUANTILES)))
    for cluster in np.flatnonzero(cumulative_KB[:, -1]):
        wanted_Q = np.array(QUANTILES) * cumulative_KB[cluster, -1]
        result_KQ[cluster] = middles_B[np.searchsorted(cumulative_KB[cluster], wanted_Q)]
    return result_KQ
