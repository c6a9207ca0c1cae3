"""Pick a few rows of every cluster: the nearest, on the boundary, random, and diverse ones.

N: rows, P: dimensions of the space, C: chosen rows.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

KINDS: Final = ("nearest", "boundary", "random")
ALL_KINDS: Final = (*KINDS, "diverse")
PICKS_PER_KIND = 8
_HASH_BLOCK = 1_000_000
# Rows of a cluster that diverse ones are chosen from.
CANDIDATES = 256


def top_per_cluster(
    cluster_ids_N: NDArray[np.int32],
    scores_N: NDArray[np.float64],
    row_ids_N: NDArray[np.int64],
    *,
    limit: int = PICKS_PER_KIND,
) -> NDArray[np.int64]:
    """Indices of the `limit` lowest scores in each cluster, by cluster and score; ties by row id.

    Merging is the same call on the union of what parts returned.
    """
    order_N = np.lexsort((row_ids_N, scores_N, cluster_ids_N))
    sorted_ids_N = cluster_ids_N[order_N]
    positions_N = np.arange(len(order_N))
    is_first_N = np.ones(len(order_N), dtype=bool)
    is_first_N[1:] = sorted_ids_N[1:] != sorted_ids_N[:-1]
    first_N = np.maximum.accumulate(np.where(is_first_N, positions_N, 0))
    chosen: NDArray[np.int64] = order_N[positions_N - first_N < limit]
    return chosen


def diverse_rows(
    z_NP: NDArray[np.float32],
    cluster_ids_N: NDArray[np.int32],
    *,
    distances_N: NDArray[np.float32],
    is_outlier_N: NDArray[np.bool_],
    row_ids_N: NDArray[np.int64],
    seed: int,
    limit: int = PICKS_PER_KIND,
) -> list[NDArray[np.int64]]:
    """Row ids for each cluster 0...K-1: the nearest candidate, then each time the farthest one.

    Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985. Candidates are the
    CANDIDATES rows of the cluster with the lowest hash; outliers only where there is nothing else,
    and of equal rows one alone. The order of rows changes nothing.

    Args:
        z_NP: Unit rows.
        cluster_ids_N: Their clusters; noise, -1, is passed over.
        distances_N: To the own centroid.
    """
    chosen: list[NDArray[np.int64]] = []
    hash_N = row_hash(row_ids_N, seed=seed)
    for cluster in range(int(cluster_ids_N.max(initial=-1)) + 1):
        own = np.flatnonzero(cluster_ids_N == cluster)
        usual = own[~is_outlier_N[own]]
        own = usual if len(usual) else own
        own = own[np.lexsort((row_ids_N[own], hash_N[own]))][:CANDIDATES]
        order = _farthest_first(z_NP[own].astype(np.float64), distances_N[own], limit=limit)
        chosen.append(row_ids_N[own[order]])
    return chosen


def _farthest_first(
    z_CP: NDArray[np.float64], distances_C: NDArray[np.float32], *, limit: int
) -> list[int]:
    if len(z_CP) == 0:
        return []
    order = [int(distances_C.argmin())]
    gap_C = 1 - z_CP @ z_CP[order[0]]
    while len(order) < limit and gap_C.max() > 1e-6:
        order.append(int(gap_C.argmax()))
        gap_C = np.minimum(gap_C, 1 - z_CP @ z_CP[order[-1]])
    return order


def row_hash(row_ids_N: NDArray[np.int64], *, seed: int) -> NDArray[np.float64]:
    """A reproducible uniform number in [0, 1) for each row id: splitmix64 of the id and the seed.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    salt = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    with np.errstate(over="ignore"):
        x = row_ids_N.astype(np.uint64) + np.uint64(salt)
        x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    uniform_N: NDArray[np.float64] = (x >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    return uniform_N


def lowest_hashes(rows: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """The `count` row ids of 0...rows-1 with the lowest `row_hash`, ascending; all if fewer."""
    best_N = np.empty(0, dtype=np.int64)
    for start in range(0, rows, _HASH_BLOCK):
        ids_N = np.arange(start, min(start + _HASH_BLOCK, rows), dtype=np.int64)
        best_N = np.concatenate([best_N, ids_N])
        best_N = best_N[np.argsort(row_hash(best_N, seed=seed), kind="stable")[:count]]
    return np.sort(best_N)
