"""Assign rows to the clusters of a fitted model.

N: rows, D: embedding dimensions, P: dimensions of the space, K: clusters, M: micro-clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.model import NOISE, ClusterModel, nearest_micro
from clusterlib.clustering.silhouette import silhouette_rows

# Rows at a time: similarities stay in the processor's cache and memory stays bounded.
BLOCK_ROWS = 4096
# Two clusters this close in float32 are told apart in float64, whatever rows came together.
RECHECK_MARGIN = 1e-5


@dataclass(frozen=True)
class Assignment:
    """Clusters of N rows. Distances are cosine distances, 0...2, float32.

    `micro_ids_N` is the nearest micro-cluster of the row's own cluster. Noise has cluster,
    micro-cluster -1 and silhouette 0.
    """

    cluster_ids_N: NDArray[np.int32]
    distances_N: NDArray[np.float32]
    second_cluster_ids_N: NDArray[np.int32]
    margins_N: NDArray[np.float32]
    silhouettes_N: NDArray[np.float32]
    is_outlier_N: NDArray[np.bool_]
    micro_ids_N: NDArray[np.int32]


def assign(x_ND: NDArray[np.floating], model: ClusterModel) -> Assignment:
    """Cluster, distance, runner-up, margin, silhouette, outlier flag and micro-cluster of each row.

    With a single cluster the runner-up is the cluster itself and the margin 0.
    """
    starts = range(0, max(len(x_ND), 1), BLOCK_ROWS)
    parts = [_assign_block(x_ND[start : start + BLOCK_ROWS], model) for start in starts]
    joined = [np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Assignment)]
    return Assignment(*joined)


def _assign_block(x_ND: NDArray[np.floating], model: ClusterModel) -> Assignment:
    z_NP = model.space.transform(x_ND.astype(np.float32, copy=False))
    nearest = nearest_two(z_NP, model)
    ids_N = nearest.cluster_ids_N
    distances_N = np.clip(1 - nearest.similarities_N, 0, 2).astype(np.float32)
    silhouettes_N = silhouette_rows(
        z_NP, np.maximum(ids_N, 0), means_KP=model.means_KP, sizes_K=model.sizes_K
    )
    # The tolerance keeps clusters of identical images, whose threshold is their distance.
    is_far_N = distances_N > model.outlier_distance_K[np.maximum(ids_N, 0)] + 1e-5
    return Assignment(
        cluster_ids_N=ids_N,
        distances_N=distances_N,
        second_cluster_ids_N=nearest.second_cluster_ids_N,
        margins_N=nearest.margins_N,
        silhouettes_N=np.where(ids_N == NOISE, np.float32(0), silhouettes_N),
        is_outlier_N=is_far_N | (ids_N == NOISE),
        micro_ids_N=nearest_micro(
            z_NP, ids_N, micro_MP=model.micro_MP, micro_cluster_ids_M=model.micro_cluster_ids_M
        ),
    )


@dataclass(frozen=True)
class NearestTwo:
    """The nearest cluster of each row, its cosine similarity, and the runner-up."""

    cluster_ids_N: NDArray[np.int32]
    similarities_N: NDArray[np.float32]
    second_cluster_ids_N: NDArray[np.int32]
    margins_N: NDArray[np.float32]


def nearest_two(z_NP: NDArray[np.float32], model: ClusterModel) -> NearestTwo:
    """Nearest and second nearest cluster of unit rows (N, P).

    Where float32 cannot tell the two apart, float64 does, and a tie goes to the lower id.
    """
    found = _decide(_similarities(z_NP, model), model.k)
    close_C = np.flatnonzero(found.margins_N < RECHECK_MARGIN)
    if len(close_C) and len(model.micro_MP) > 1:
        exact = _decide(_similarities(z_NP[close_C].astype(np.float64), model), model.k)
        for field in fields(NearestTwo):
            getattr(found, field.name)[close_C] = getattr(exact, field.name)
    return found


def _similarities(z_NP: NDArray[np.floating], model: ClusterModel) -> NDArray[np.floating]:
    """Of each row to each cluster (N, K), and to noise as a last column where there is any."""
    if model.assign_by == "centroid":
        return np.asarray(z_NP @ model.centroids_KP.T.astype(z_NP.dtype, copy=False))
    similarity_NM = z_NP @ model.micro_MP.T.astype(z_NP.dtype, copy=False)
    ids_M = model.micro_cluster_ids_M
    starts = np.flatnonzero(np.concatenate([[True], ids_M[1:] != ids_M[:-1]]))
    return np.maximum.reduceat(similarity_NM, starts, axis=1)


def _decide(similarity_NK: NDArray[np.floating], k: int) -> NearestTwo:
    rows = np.arange(len(similarity_NK))
    of_clusters_NK = similarity_NK[:, :k]
    ids_N = of_clusters_NK.argmax(axis=1).astype(np.int32)
    own_N = of_clusters_NK[rows, ids_N]
    second_N, second_own_N = ids_N.copy(), own_N
    if k > 1:
        of_clusters_NK[rows, ids_N] = -np.inf
        second_N = of_clusters_NK.argmax(axis=1).astype(np.int32)
        second_own_N = of_clusters_NK[rows, second_N]
    if similarity_NK.shape[1] > k:  # noise is nobody's runner-up
        noise_N = similarity_NK[:, k]
        is_noise_N = noise_N > own_N
        second_N = np.where(is_noise_N, ids_N, second_N)
        second_own_N = np.where(is_noise_N, own_N, second_own_N)
        ids_N = np.where(is_noise_N, np.int32(NOISE), ids_N)
        own_N = np.maximum(own_N, noise_N)
    margins_N = (own_N - second_own_N).astype(np.float32)
    return NearestTwo(ids_N, own_N.astype(np.float32), second_N, margins_N)
