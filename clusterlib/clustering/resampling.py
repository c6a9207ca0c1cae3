"""Scores of k that need other fits: the gap statistic and the stability between half-samples.

Both run the whole sweep on a bounded number of rows, so their cost does not grow with the sample.
N: rows, P: dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kmeans import KMeansFit, nearest, normalized, polish
from clusterlib.clustering.sweep import over_cluster

MAX_ROWS = 5_000
REFERENCES = 5
# Fewer rows a cluster than this say nothing about k.
_ROWS_PER_CLUSTER = 8
_POLISH = 2


@dataclass(frozen=True)
class Resampled:
    """Of one k: the gap and its standard error, and the stability (1 is perfect, 0 is chance)."""

    gap: float
    gap_se: float
    stability: float


def resampled_scores(
    z_NP: NDArray[np.float32], ks: Sequence[int], *, seed: int
) -> dict[int, Resampled]:
    """Gap and stability of k-means on unit rows, for those of `ks` that the rows suffice for.

    gap: mean over REFERENCES null sets of log W*, minus log W, and sd sqrt(1 + 1/B) (Tibshirani,
    Walther and Hastie 2001). A null set is Gaussian with the rows' mean and covariance, scaled to
    unit length like the rows.
    stability: adjusted Rand index of how the fits of two disjoint halves assign all rows (Ben-Hur,
    Elisseeff and Guyon 2002).
    """
    rng = np.random.default_rng(seed)
    rows_NP = z_NP[np.sort(rng.permutation(len(z_NP))[:MAX_ROWS])]
    half = len(rows_NP) // 2
    usable = [k for k in ks if 2 <= k <= half // _ROWS_PER_CLUSTER]
    if not usable:
        return {}
    logs_K = _log_inertias(rows_NP, usable, seed=seed)
    null_BK = np.array(
        [_log_inertias(_null_set(rows_NP, rng), usable, seed=seed) for _ in range(REFERENCES)]
    )
    gap_K = null_BK.mean(axis=0) - logs_K
    error_K = null_BK.std(axis=0) * np.sqrt(1 + 1 / REFERENCES)
    order = rng.permutation(len(rows_NP))
    halves = [
        _fits(rows_NP[np.sort(part)], usable, seed=seed) for part in (order[:half], order[half:])
    ]
    stability_K = [_stability(rows_NP, one, other) for one, other in zip(*halves, strict=True)]
    return {
        k: Resampled(float(gap_K[i]), float(error_K[i]), stability_K[i])
        for i, k in enumerate(usable)
    }


def _fits(z_NP: NDArray[np.float32], ks: Sequence[int], *, seed: int) -> list[KMeansFit]:
    micro = over_cluster(z_NP, k_max=max(ks), seed=seed)
    return [polish(z_NP, micro.starts(k), iterations=_POLISH) for k in ks]


def _log_inertias(
    z_NP: NDArray[np.float32], ks: Sequence[int], *, seed: int
) -> NDArray[np.float64]:
    floor = 1e-9 * len(z_NP)  # identical rows have no inertia at all
    return np.log([max(fit.inertia, floor) for fit in _fits(z_NP, ks, seed=seed)])


def _null_set(z_NP: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    mean_P = z_NP.mean(axis=0, dtype=np.float64)
    covariance_PP = np.atleast_2d(np.cov(z_NP.T.astype(np.float64), bias=True))
    variance_P, axes_PP = np.linalg.eigh(covariance_PP)
    normal_NP = rng.standard_normal(z_NP.shape) * np.sqrt(np.maximum(variance_P, 0))
    return normalized(mean_P + normal_NP @ axes_PP.T)


def _stability(z_NP: NDArray[np.float32], one: KMeansFit, other: KMeansFit) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(
        adjusted_rand_score(nearest(z_NP, one.centroids_KP), nearest(z_NP, other.centroids_KP))
    )
