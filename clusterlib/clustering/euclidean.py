"""Mean silhouette by plain Euclidean distance, which has no closed form, from sampled rows.

N: rows, P: dimensions, K: clusters, S: sampled rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

SAMPLED_ROWS = 2_000
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Estimate:
    """An unbiased estimate from `rows` sampled rows and its 95 % confidence interval."""

    value: float
    low: float
    high: float
    rows: int


def euclidean_silhouette(
    z_NP: NDArray[np.float32], cluster_ids_N: NDArray[np.int32], *, seed: int
) -> Estimate | None:
    """The mean Euclidean silhouette of rows in clusters 0...K-1; None with fewer than 2 clusters.

    Only the rows that are scored are sampled, at least two of every cluster, and each is compared
    with all rows; so the estimate is unbiased, while scores within a sample are too low (Cochran,
    "Sampling techniques", 1977, chapter 5, has the stratified mean and its variance). Noise, -1,
    is left out.

    Args:
        z_NP: Unit rows.
    """
    inside_N = cluster_ids_N >= 0
    z_NP, cluster_ids_N = z_NP[inside_N], cluster_ids_N[inside_N]
    sizes_K = np.bincount(cluster_ids_N)
    if len(sizes_K) < 2:
        return None
    chosen = _stratified(cluster_ids_N, sizes_K, np.random.default_rng(seed))
    shape = (len(z_NP), len(sizes_K))
    ones_N, places_N = np.ones(len(z_NP), np.float32), np.arange(len(z_NP) + 1)
    member_NK = sp.csr_matrix((ones_N, cluster_ids_N, places_N), shape=shape)
    scores = []
    for start in range(0, len(chosen), _BLOCK_ROWS):
        part_S = chosen[start : start + _BLOCK_ROWS]
        distance_SN = np.sqrt(np.maximum(2 - 2 * (z_NP[part_S] @ z_NP.T), 0))
        distance_SN[np.arange(len(part_S)), part_S] = 0  # not the root of a rounding error
        totals_SK = np.asarray((member_NK.T @ distance_SN.T).T, dtype=np.float64)
        scores.append(_scores(totals_SK, cluster_ids_N[part_S], sizes_K))
    return _estimate(np.concatenate(scores), cluster_ids_N[chosen], sizes_K)


def _stratified(
    cluster_ids_N: NDArray[np.int32], sizes_K: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.intp]:
    share = SAMPLED_ROWS / len(cluster_ids_N)
    wanted_K = np.minimum(sizes_K, np.maximum(2, np.rint(sizes_K * share).astype(np.int64)))
    order_N = np.lexsort((rng.random(len(cluster_ids_N)), cluster_ids_N))
    starts_K = np.concatenate([[0], np.cumsum(sizes_K)[:-1]])
    return np.concatenate(
        [order_N[s : s + wanted] for s, wanted in zip(starts_K, wanted_K, strict=True)]
    )


def _scores(
    totals_SK: NDArray[np.float64], own_S: NDArray[np.int32], sizes_K: NDArray[np.int64]
) -> NDArray[np.float64]:
    rows = np.arange(len(own_S))
    a_S = totals_SK[rows, own_S] / np.maximum(sizes_K[own_S] - 1, 1)
    means_SK = totals_SK / np.maximum(sizes_K, 1)
    means_SK[:, sizes_K == 0] = np.inf
    means_SK[rows, own_S] = np.inf
    b_S = means_SK.min(axis=1)
    larger_S = np.maximum(a_S, b_S)
    return np.where(
        (sizes_K[own_S] > 1) & (larger_S > 0), (b_S - a_S) / np.maximum(larger_S, 1e-12), 0
    )


def _estimate(
    scores_S: NDArray[np.float64], own_S: NDArray[np.int32], sizes_K: NDArray[np.int64]
) -> Estimate:
    taken_K = np.bincount(own_S, minlength=len(sizes_K))
    mean_K = np.bincount(own_S, scores_S, minlength=len(sizes_K)) / np.maximum(taken_K, 1)
    squares_K = np.bincount(own_S, (scores_S - mean_K[own_S]) ** 2, minlength=len(sizes_K))
    variance_K = squares_K / np.maximum(taken_K - 1, 1) / np.maximum(taken_K, 1)
    share_K = sizes_K / sizes_K.sum()
    value = float(share_K @ mean_K)
    left_K = 1 - taken_K / np.maximum(sizes_K, 1)  # nothing is uncertain of a cluster seen whole
    error = 1.96 * float(np.sqrt((share_K**2 * left_K * variance_K).sum()))
    return Estimate(value, value - error, value + error, len(scores_S))
