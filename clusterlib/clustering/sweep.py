"""Every k for about the price of one: over-cluster once, merge by Ward, polish each cut.

N: rows, P: dimensions, M: micro-clusters, K: clusters. Rows and centroids have unit length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.hierarchy import Merges, cut, ward_merges
from clusterlib.clustering.kmeans import KMeansFit, fit_kmeans, normalized
from clusterlib.clustering.scores import internal_scores
from clusterlib.clustering.silhouette import cluster_means

# Micro-clusters per cluster of the largest k; more cost more and lower the inertia little.
OVER = 1.3
OVER_ITERATIONS = 5
MIN_MICRO_CLUSTERS = 256
ROWS_PER_MICRO_CLUSTER = 8


@dataclass(frozen=True)
class MicroClusters:
    """Many small clusters of the training rows, and the Ward merges of their means."""

    fit: KMeansFit
    means_MP: NDArray[np.float64]
    merges: Merges

    def starts(self, k: int) -> NDArray[np.float32]:
        """Unit centroids (K, P) of the cut at k."""
        # Identical rows make fewer micro-clusters than asked for, and so fewer clusters.
        k = min(k, self.merges.leaves)
        groups_M = cut(self.merges, k)
        sums_KP = np.zeros((k, self.means_MP.shape[1]))
        np.add.at(sums_KP, groups_M, self.means_MP * self.fit.sizes_K[:, None])
        return normalized(sums_KP)


@dataclass(frozen=True)
class KScore:
    """How one value of k did on the training rows; `k` clusters came of the `asked` ones."""

    asked: int
    k: int
    inertia: float
    silhouette: float | None
    smallest: int
    largest: int
    davies_bouldin: float | None = None
    calinski_harabasz: float | None = None
    gap: float | None = None
    gap_se: float | None = None
    stability: float | None = None


def k_grid(k_min: int, k_max: int, *, count: int, rows: int) -> list[int]:
    """At most `count` values from k_min to k_max in equal ratios, none above half the rows."""
    top = max(1, min(k_max, rows // 2))
    low = min(k_min, top)
    return sorted({round(k) for k in np.geomspace(low, top, count)})


def over_cluster(z_NP: NDArray[np.float32], *, k_max: int, seed: int) -> MicroClusters:
    """Micro-clusters for cuts up to `k_max`; their number follows from it and from the rows."""
    wanted = max(round(OVER * k_max), MIN_MICRO_CLUSTERS)
    m = min(max(min(wanted, len(z_NP) // ROWS_PER_MICRO_CLUSTER), k_max), len(z_NP))
    fit = fit_kmeans(z_NP, k=m, restarts=1, iterations=OVER_ITERATIONS, seed=seed)
    means_MP = cluster_means(z_NP, fit.cluster_ids_N, k=fit.k)
    return MicroClusters(fit, means_MP, ward_merges(means_MP, fit.sizes_K))


def sweep(
    rows_NP: NDArray[np.float32],
    ks: Sequence[int],
    *,
    fit_at: Callable[[int], KMeansFit],
    on_score: Callable[[KScore], None] = lambda score: None,
) -> dict[int, tuple[KScore, KMeansFit]]:
    """Cut and score at every k of `ks` in unit rows (N, P); keyed by the k asked for."""
    results = {}
    for k in ks:
        fit = fit_at(k)
        sizes_K = fit.sizes_K
        inside_N = slice(None) if fit.cluster_ids_N.min() >= 0 else fit.cluster_ids_N >= 0
        scores = internal_scores(rows_NP[inside_N], fit.cluster_ids_N[inside_N], k=fit.k)
        score = KScore(
            asked=k,
            k=fit.k,
            inertia=fit.inertia,
            silhouette=scores.silhouette,
            smallest=int(sizes_K.min()),
            largest=int(sizes_K.max()),
            davies_bouldin=scores.davies_bouldin,
            calinski_harabasz=scores.calinski_harabasz,
        )
        results[k] = (score, fit)
        on_score(score)
    return results
