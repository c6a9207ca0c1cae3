"""Fold clusters that are too small into others and split those that are too large.

N: rows, P: dimensions, K: clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kmeans import KMeansFit, fit_kmeans, labelled, nearest, settle

# Folding makes large clusters and splitting small ones, so both are done in turns.
_ROUNDS = 8


@dataclass(frozen=True)
class Resized:
    """The fit with other clusters, and how many were folded away or split to get there."""

    fit: KMeansFit
    folded: int
    split: int


def resized(
    z_NP: NDArray[np.float32],
    fit: KMeansFit,
    *,
    smallest: float,
    largest: float,
    by_centroid: bool,
    seed: int,
) -> Resized:
    """Clusters of `smallest` to `largest` of these rows, as far as eight rounds get.

    Rows of a folded cluster go to their nearest other centroid; a split is a k-means fit of the
    cluster's own rows, and identical rows stay together. Noise stays noise.

    Args:
        z_NP: Unit rows.
        by_centroid: Whether every row then goes by its nearest centroid, or stays where it is.
    """
    folded = split = 0
    for _ in range(_ROUNDS):
        small_S = np.flatnonzero(fit.sizes_K < smallest)
        small_S = small_S[small_S > 0]  # clusters come by falling size; the first one stays
        if len(small_S):
            fit, folded = _folded(z_NP, fit, small_S, by_centroid), folded + len(small_S)
        parted = _split(z_NP, fit, largest=largest, by_centroid=by_centroid, seed=seed)
        if parted is None:
            break
        fit, split = parted[0], split + parted[1]
    return Resized(fit, folded, split)


def _folded(
    z_NP: NDArray[np.float32], fit: KMeansFit, small_S: NDArray[np.intp], by_centroid: bool
) -> KMeansFit:
    kept = np.setdiff1d(np.arange(fit.k), small_S)
    if by_centroid:
        return settle(z_NP, np.ascontiguousarray(fit.centroids_KP[kept]))
    ids_N = fit.cluster_ids_N.copy()
    moving = np.flatnonzero(np.isin(ids_N, small_S))
    ids_N[moving] = kept[nearest(z_NP[moving], np.ascontiguousarray(fit.centroids_KP[kept]))]
    return labelled(z_NP, ids_N)


def _split(
    z_NP: NDArray[np.float32], fit: KMeansFit, *, largest: float, by_centroid: bool, seed: int
) -> tuple[KMeansFit, int] | None:
    ids_N, centroids, count = fit.cluster_ids_N.copy(), [*fit.centroids_KP], 0
    for cluster in np.flatnonzero(fit.sizes_K > largest):
        own = np.flatnonzero(fit.cluster_ids_N == cluster)
        parts = min(int(np.ceil(len(own) / max(largest, 1))), len(own))
        found = fit_kmeans(z_NP[own], k=parts, restarts=3, iterations=10, seed=seed)
        if found.k == 1:
            continue
        ids_N[own] = np.where(
            found.cluster_ids_N == 0, cluster, len(centroids) - 1 + found.cluster_ids_N
        )
        centroids[cluster] = found.centroids_KP[0]
        centroids += [*found.centroids_KP[1:]]
        count += 1
    if count == 0:
        return None
    return (settle(z_NP, np.stack(centroids)) if by_centroid else labelled(z_NP, ids_N)), count
