"""Spherical k-means with faiss, on GPUs when faiss has them.

Dhillon and Modha, "Concept decompositions for large sparse text data using clustering", 2001.
N: rows, P: dimensions, K: clusters. Rows and centroids have unit length.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kernels import load_faiss, threads_for
from clusterlib.clustering.silhouette import cluster_means
from clusterlib.errors import ConfigError

# Rows at a time: their similarities stay in the processor's cache.
_BLOCK_ROWS = 4096


@dataclass(frozen=True)
class KMeansFit:
    """Centroids and what they make of the training rows.

    `inertia` is the sum over rows of the squared Euclidean distance to the nearest centroid.
    Clusters that ended empty are dropped, so K may be below what was asked for. Cluster -1 is
    noise, which other methods than k-means leave.
    """

    centroids_KP: NDArray[np.float32]
    cluster_ids_N: NDArray[np.int32]
    inertia: float

    @property
    def k(self) -> int:
        return len(self.centroids_KP)

    @property
    def sizes_K(self) -> NDArray[np.int64]:
        return np.bincount(self.cluster_ids_N[self.cluster_ids_N >= 0], minlength=self.k)


def check_faiss() -> None:
    """Make sure that exactly one faiss is installed.

    Raises:
        ConfigError: none is, or the CPU and the GPU wheel are both, which hide one another.
    """
    names = {
        (distribution.metadata["Name"] or "").lower()
        for distribution in importlib.metadata.distributions()
    }
    wheels = sorted(name for name in names if name == "faiss-cpu" or name.startswith("faiss-gpu"))
    if len(wheels) > 1:
        raise ConfigError(
            f"{' and '.join(wheels)} are both installed and overwrite each other: uninstall both, "
            "then install one of the extras clusterlib[cpu] or clusterlib[cuda12]"
        )
    if importlib.util.find_spec("faiss") is None:
        raise ConfigError(
            "faiss is not installed: install one of the extras clusterlib[cpu] or "
            "clusterlib[cuda12]"
        )


def fit_kmeans(
    z_NP: NDArray[np.float32], *, k: int, restarts: int, iterations: int, seed: int
) -> KMeansFit:
    """The best of `restarts` spherical k-means fits.

    Args:
        z_NP: Unit rows, float32 (N, P), N >= k.
        k: Clusters wanted.
        restarts: Random starts; the one with the lowest inertia wins.
        iterations: Lloyd iterations a start.
        seed: Decides the starts; equal inputs and seed give equal centroids.

    Raises:
        ValueError: fewer rows than clusters.
    """
    return settle(z_NP, _train(z_NP, k=k, restarts=restarts, iterations=iterations, seed=seed))


def polish(
    z_NP: NDArray[np.float32], centroids_KP: NDArray[np.float32], *, iterations: int
) -> KMeansFit:
    """Spherical k-means from given centroids; empty clusters take over half of a large one.

    Raises:
        ValueError: fewer rows than centroids.
    """
    if iterations == 0:
        return settle(z_NP, centroids_KP)
    k = len(centroids_KP)
    return settle(z_NP, _train(z_NP, k=k, iterations=iterations, starts_KP=centroids_KP))


def _train(
    z_NP: NDArray[np.float32],
    *,
    k: int,
    iterations: int,
    restarts: int = 1,
    seed: int = 0,
    starts_KP: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    if len(z_NP) < k:
        raise ValueError(f"{len(z_NP)} rows cannot make {k} clusters")
    faiss = load_faiss()
    engine = faiss.Kmeans(
        z_NP.shape[1],
        k,
        niter=iterations,
        nredo=restarts,
        seed=seed,
        spherical=True,
        gpu=getattr(faiss, "get_num_gpus", lambda: 0)() > 0,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, -(-len(z_NP) // k)),
    )
    with threads_for(z_NP.size * k):
        engine.train(z_NP, init_centroids=starts_KP)
    return np.asarray(engine.centroids, dtype=np.float32).reshape(k, -1)


def settle(z_NP: NDArray[np.float32], centroids_KP: NDArray[np.float32]) -> KMeansFit:
    """Assign rows to given centroids, drop empty clusters, number them by falling size.

    The order makes cluster ids independent of the starts; ties are broken by the first row.
    """
    ids_N = nearest(z_NP, centroids_KP)
    new_ids_N, k = renumbered(ids_N)
    old_K = np.empty(k, dtype=np.int64)
    old_K[new_ids_N] = ids_N
    kept_KP = centroids_KP[old_K]
    similarity_N = np.einsum("np,np->n", z_NP, kept_KP[new_ids_N], dtype=np.float64)
    squared_N = (
        np.einsum("np,np->n", z_NP, z_NP, dtype=np.float64)
        - 2 * similarity_N
        + np.einsum("kp,kp->k", kept_KP, kept_KP, dtype=np.float64)[new_ids_N]
    )
    return KMeansFit(kept_KP, new_ids_N, float(squared_N.clip(0).sum()))


def renumbered(ids_N: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
    """Ids 0...k-1 by falling size, ties by the first row, and k; -1 (noise) stays."""
    used, first, inverse_N, counts = np.unique(
        ids_N, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -counts, used < 0))
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    rank[used < 0] = -1
    return rank[inverse_N], int((used >= 0).sum())


def labelled(z_NP: NDArray[np.float32], ids_N: NDArray[np.int32]) -> KMeansFit:
    """Given groups as a fit: numbered by falling size, with their mean directions; noise kept."""
    ids_N, k = renumbered(ids_N)
    inside_N = ids_N >= 0
    centroids_KP = normalized(cluster_means(z_NP[inside_N], ids_N[inside_N], k=k))
    similarity_N = np.einsum("np,np->n", z_NP[inside_N], centroids_KP[ids_N[inside_N]])
    return KMeansFit(centroids_KP, ids_N, float((2 - 2 * similarity_N).clip(0).sum()))


def nearest(z_NP: NDArray[np.float32], centroids_KP: NDArray[np.float32]) -> NDArray[np.int32]:
    """Index of the most similar centroid for each unit row, int32 (N,)."""
    ids_N = np.empty(len(z_NP), dtype=np.int32)
    with threads_for(z_NP.size * len(centroids_KP)):
        for start in range(0, len(z_NP), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            ids_N[part] = (z_NP[part] @ centroids_KP.T).argmax(axis=1)
    return ids_N


def normalized(x_NP: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to unit length, float32; a row of length 0 becomes the first axis."""
    norm_N1 = np.linalg.norm(x_NP, axis=1, keepdims=True)
    flat_N = norm_N1[:, 0] < 1e-12
    z_NP = np.ascontiguousarray(x_NP / np.maximum(norm_N1, 1e-12), dtype=np.float32)
    z_NP[flat_N] = 0
    z_NP[flat_N, :1] = 1
    return z_NP
