"""Ways to group the training rows that one sweep can drive, each as labels for every k.

N: rows, P: dimensions of the space, M: micro-clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.hierarchy import Merges, cut
from clusterlib.clustering.kmeans import KMeansFit, labelled, normalized, polish
from clusterlib.clustering.manifold import manifold_rows, on_sphere
from clusterlib.clustering.plane import plane_rows
from clusterlib.clustering.space import Space
from clusterlib.clustering.sweep import MicroClusters, over_cluster

Method = Literal["kmeans", "manifold", "ward", "average", "hdbscan", "dbscan", "plane"]
# A layout takes about a second for each thousand rows on two cores (50,000 in 43 s).
MAX_MANIFOLD_ROWS = 100_000
# In a layout noise makes heaps too, so that its silhouette and gap say little; but two half-samples
# make other ones: their agreement is at most .3 there, and at least .8 on the sets with groups.
LAYOUT_STABILITY = 0.5
# HDBSCAN and DBSCAN see every sampled row up to this many, and micro-clusters above.
MAX_DENSITY_ROWS = 10_000


@dataclass(frozen=True)
class Candidates:
    """Labels for every k asked for, in the space `rows_NP` that scores are to be taken in.

    `by_centroid` says that rows outside the sample may go by the centroids of a fit; else they go
    by micro-clusters. `chooses_k` says that the method finds one k by itself, whatever is asked.
    `least_stability` is what a k must reach to be more than chance.
    """

    rows_NP: NDArray[np.float32]
    micro: MicroClusters
    fit_at: Callable[[int], KMeansFit]
    by_centroid: bool
    chooses_k: bool = False
    least_stability: float = 0.0


def method_for(wanted: Method | Literal["auto"], *, rows: int) -> Method:
    """The method that `wanted` comes to: auto takes the manifold, k-means above MAX_MANIFOLD_ROWS.

    Of the five labelled sets of benchmarks/clustering.md the manifold agrees better with the labels
    of four.
    """
    if wanted != "auto":
        return wanted
    return "manifold" if rows <= MAX_MANIFOLD_ROWS else "kmeans"


def prepare(
    z_NP: NDArray[np.float32],
    *,
    method: Method,
    k_max: int,
    iterations: int,
    min_cluster_rows: int,
    seed: int,
    space: Space | None = None,
) -> Candidates:
    """What `method` makes of unit rows (N, P), ready to be cut at every k up to `k_max`.

    `space` is the one of the rows; the manifold looks at its other scalings too.
    """
    if method == "manifold" and len(z_NP) >= 4:
        z_NP = manifold_rows(z_NP, space=space, seed=seed)
    elif method == "plane":
        z_NP = on_sphere(plane_rows(z_NP, seed=seed))
    micro = over_cluster(z_NP, k_max=k_max, seed=seed)
    if method in ("kmeans", "manifold", "plane"):

        def polished(k: int) -> KMeansFit:
            return polish(z_NP, micro.starts(k), iterations=iterations)

        plain = method == "kmeans"
        least = 0.0 if plain else LAYOUT_STABILITY
        return Candidates(z_NP, micro, polished, by_centroid=plain, least_stability=least)
    if method in ("ward", "average"):
        merges = micro.merges if method == "ward" else _average_merges(micro.means_MP)

        def merged(k: int) -> KMeansFit:
            return labelled(z_NP, cut(merges, min(k, merges.leaves))[micro.fit.cluster_ids_N])

        return Candidates(z_NP, micro, merged, by_centroid=False)
    ids_N = _by_density(z_NP, micro, method=method, min_cluster_rows=min_cluster_rows)
    found = labelled(z_NP, ids_N)
    return Candidates(z_NP, micro, lambda k: found, by_centroid=False, chooses_k=True)


def _average_merges(means_MP: NDArray[np.float64]) -> Merges:
    """Average linkage (UPGMA) of the micro-clusters' directions by cosine distance, O(M^2)."""
    from scipy.cluster.hierarchy import linkage

    if len(means_MP) == 1:
        return Merges(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0))
    steps = linkage(normalized(means_MP).astype(np.float64), method="average", metric="cosine")
    pairs = np.sort(steps[:, :2]).astype(np.int32)
    return Merges(pairs[:, 0], pairs[:, 1], steps[:, 2])


def _by_density(
    z_NP: NDArray[np.float32], micro: MicroClusters, *, method: Method, min_cluster_rows: int
) -> NDArray[np.int32]:
    """HDBSCAN or DBSCAN of the rows, or of the micro-clusters when the rows are too many.

    The radius of DBSCAN is the median distance to the neighbor that makes a row a core.
    """
    from sklearn.cluster import DBSCAN, HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    few = len(z_NP) <= MAX_DENSITY_ROWS
    points = z_NP if few else micro.fit.centroids_KP
    per_point = 1.0 if few else len(z_NP) / len(points)
    needed = min(max(2, round(min_cluster_rows / per_point)), max(2, len(points)))
    if len(points) <= needed:
        ids = np.zeros(len(points), dtype=np.int32)
    elif method == "hdbscan":
        ids = HDBSCAN(min_cluster_size=needed, copy=True).fit_predict(points)
    else:
        search = NearestNeighbors(n_neighbors=needed).fit(points)
        radius = max(float(np.median(search.kneighbors(points)[0][:, -1])), 1e-6)
        ids = DBSCAN(eps=radius, min_samples=needed).fit_predict(points)
    if (ids < 0).all():  # nothing is dense: one cluster, rather than noise alone
        ids = np.zeros(len(points), dtype=np.int32)
    return np.asarray(ids if few else ids[micro.fit.cluster_ids_N], dtype=np.int32)
