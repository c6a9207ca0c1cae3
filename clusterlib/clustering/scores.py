"""Internal scores of clustered unit rows, each from sums per cluster in one pass.

N: rows, P: dimensions, K: clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.silhouette import cluster_means, silhouette_rows


@dataclass(frozen=True)
class InternalScores:
    """Exact over all rows; None where a score is not defined (k < 2 or k >= N).

    silhouette: Rousseeuw 1987, cosine distance, which on unit rows equals squared Euclidean.
    davies_bouldin: Davies and Bouldin 1979, Euclidean distance; lower is better.
    calinski_harabasz: Calinski and Harabasz 1974; None too when clusters have no spread at all.
    """

    silhouette: float | None
    davies_bouldin: float | None
    calinski_harabasz: float | None


def internal_scores(
    z_NP: NDArray[np.float32], cluster_ids_N: NDArray[np.int32], *, k: int
) -> InternalScores:
    """Scores of unit rows (N, P) in clusters 0...k-1, none of them empty."""
    rows = len(z_NP)
    if k < 2 or k >= rows:
        return InternalScores(None, None, None)
    means_KP = cluster_means(z_NP, cluster_ids_N, k=k)
    sizes_K = np.bincount(cluster_ids_N, minlength=k)
    silhouette_N = silhouette_rows(z_NP, cluster_ids_N, means_KP=means_KP, sizes_K=sizes_K)
    norms_K = np.einsum("kp,kp->k", means_KP, means_KP)
    own_N = np.einsum("np,np->n", z_NP, means_KP.astype(np.float32)[cluster_ids_N])
    # ||x - m||^2 of a unit row
    spread_N = np.sqrt(np.maximum(1 - 2 * own_N.astype(np.float64) + norms_K[cluster_ids_N], 0))
    spread_K = np.bincount(cluster_ids_N, spread_N, minlength=k) / sizes_K
    overall_P = sizes_K @ means_KP / rows
    within = max(float(rows - sizes_K @ norms_K), 0.0)
    total = max(float(rows - rows * overall_P @ overall_P), 0.0)
    ch = (total - within) / (k - 1) / (within / (rows - k)) if within > 1e-6 * rows else None
    return InternalScores(
        float(silhouette_N.mean(dtype=np.float64)), _davies_bouldin(means_KP, norms_K, spread_K), ch
    )


def _davies_bouldin(
    means_KP: NDArray[np.float64], norms_K: NDArray[np.float64], spread_K: NDArray[np.float64]
) -> float | None:
    squared_KK = norms_K[:, None] + norms_K - 2 * means_KP @ means_KP.T
    distance_KK = np.sqrt(np.maximum(squared_KK, 0))
    np.fill_diagonal(distance_KK, np.inf)
    if distance_KK.min() < 1e-9:
        return None  # two clusters with one mean
    return float(((spread_K[:, None] + spread_K) / distance_KK).max(axis=1).mean())
