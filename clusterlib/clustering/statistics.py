"""What the first scan learns about the clusters of all rows, as sums that merge by addition.

N: rows, D: embedding dimensions, P: dimensions of the space, K: clusters, B: bins.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.assign import BLOCK_ROWS, nearest_two
from clusterlib.clustering.model import MAD_TO_SD, NOISE, ClusterModel

# Of cosine distances 0...2: medians are exact to half a bin.
BINS = 1024
_WIDTH = 2 / BINS


@dataclass
class ClusterSums:
    """Sums of the rows, and a histogram of their distances, for each cluster."""

    sums_KP: NDArray[np.float64]
    histogram_KB: NDArray[np.int64]

    def add(self, other: ClusterSums) -> None:
        """Take in the sums of other rows."""
        self.sums_KP += other.sums_KP
        self.histogram_KB += other.histogram_KB

    def to_bytes(self) -> bytes:
        """For the way from a worker to the driver."""
        buffer = io.BytesIO()
        np.savez(buffer, sums=self.sums_KP, histogram=self.histogram_KB)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ClusterSums:
        """What `to_bytes` packed."""
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
        return cls(arrays["sums"], arrays["histogram"])


def empty_sums(model: ClusterModel) -> ClusterSums:
    """The sums of no rows."""
    return ClusterSums(np.zeros_like(model.means_KP), np.zeros((model.k, BINS), dtype=np.int64))


def cluster_sums(x_ND: NDArray[np.floating], model: ClusterModel) -> ClusterSums:
    """The sums of rows (N, D) in the clusters that `assign` gives them; noise is in none."""
    result = empty_sums(model)
    for start in range(0, len(x_ND), BLOCK_ROWS):
        part_ND = x_ND[start : start + BLOCK_ROWS].astype(np.float32, copy=False)
        z_NP = model.space.transform(part_ND)
        nearest = nearest_two(z_NP, model)
        inside_N = nearest.cluster_ids_N != NOISE
        ids_N = nearest.cluster_ids_N[inside_N]
        np.add.at(result.sums_KP, ids_N, z_NP[inside_N])
        bins_N = ((1 - nearest.similarities_N[inside_N]) / _WIDTH).astype(np.int64)
        np.add.at(result.histogram_KB, (ids_N, bins_N.clip(0, BINS - 1)), 1)
    return result


def refined(model: ClusterModel, sums: ClusterSums) -> ClusterModel:
    """`model` with means, sizes and outlier distances of all rows instead of the sample's."""
    sizes_K = sums.histogram_KB.sum(axis=1)
    limits_K = model.outlier_distance_K.copy()
    centers_B = (np.arange(BINS) + 0.5) * _WIDTH
    for cluster in np.flatnonzero(sizes_K):
        counts_B = sums.histogram_KB[cluster]
        median = _median(centers_B, counts_B)
        limits_K[cluster] = median + 3 * MAD_TO_SD * _median(np.abs(centers_B - median), counts_B)
    return replace(
        model,
        means_KP=sums.sums_KP / np.maximum(sizes_K, 1)[:, None],
        sizes_K=sizes_K,
        outlier_distance_K=limits_K,
    )


def _median(values_B: NDArray[np.floating], counts_B: NDArray[np.int64]) -> float:
    order = np.argsort(values_B, kind="stable")
    cumulative_B = np.cumsum(counts_B[order])
    return float(values_B[order][np.searchsorted(cumulative_B, cumulative_B[-1] / 2)])
