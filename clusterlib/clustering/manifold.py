"""A diffusion map of the training rows: clusters of any shape become compact directions.

Coifman and Lafon, "Diffusion maps", 2006, on a graph of nearest neighbors with local scales
(Zelnik-Manor and Perona, "Self-tuning spectral clustering", 2004) and with rows scaled to unit
length (Ng, Jordan and Weiss, "On spectral clustering", 2001), so that spherical k-means applies.
N: rows, P: dimensions of the space, E: dimensions of the map.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh

from clusterlib.clustering.kernels import load_faiss
from clusterlib.clustering.kmeans import normalized

NEIGHBORS = 10
DIMENSIONS = 64
# Steps of the random walk: what is undone within so few steps is noise.
STEPS = 8
_SCALE_NEIGHBOR = 6


def diffusion_map(z_NP: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Unit rows (N, E) float32 of unit rows (N, P); E is at most DIMENSIONS and N - 2.

    Raises:
        ValueError: fewer than 4 rows.
    """
    rows = len(z_NP)
    if rows < 4:
        raise ValueError(f"a diffusion map needs at least 4 rows, got {rows}")
    affinity_NN = _affinities(z_NP, min(NEIGHBORS, rows - 1))
    root_N = np.sqrt(np.asarray(affinity_NN.sum(axis=1)).ravel())
    walk_NN = sp.diags(1 / root_N) @ affinity_NN @ sp.diags(1 / root_N)
    trivial_N = root_N / np.linalg.norm(root_N)

    def step(x_N: NDArray[np.float64]) -> NDArray[np.float64]:
        # Without the trivial vector, which also pins down the rest when the graph falls apart.
        result: NDArray[np.float64] = walk_NN @ x_N - trivial_N * (trivial_N @ x_N)
        return result

    start_N = np.random.default_rng(seed).standard_normal(rows)
    operator = LinearOperator((rows, rows), matvec=step, dtype=np.float64)
    dims = min(DIMENSIONS, rows - 2)
    values_E, vectors_NE = eigsh(operator, k=dims, which="LA", v0=start_N, tol=1e-4)
    return normalized(vectors_NE * np.maximum(values_E, 0) ** STEPS)


def _affinities(z_NP: NDArray[np.float32], neighbors: int) -> sp.csr_matrix:
    """exp(-d^2 / (s_i s_j)) between nearest neighbors, symmetric; s: distance to the sixth."""
    index = load_faiss().IndexFlatIP(z_NP.shape[1])
    index.add(z_NP)
    similarity_NQ, found_NQ = index.search(z_NP, neighbors + 1)
    # The row itself comes first, but for copies of it, which are as near.
    squared_NQ = np.maximum(2 - 2 * similarity_NQ[:, 1:].astype(np.float64), 0)
    found_NQ = found_NQ[:, 1:]
    scale_N = np.sqrt(squared_NQ[:, min(_SCALE_NEIGHBOR, neighbors) - 1]) + 1e-6
    weight_NQ = np.exp(-squared_NQ / (scale_N[:, None] * scale_N[found_NQ]))
    starts = np.arange(0, found_NQ.size + 1, neighbors)
    shape = (len(z_NP), len(z_NP))
    directed_NN = sp.csr_matrix((weight_NQ.ravel(), found_NQ.ravel(), starts), shape=shape)
    return sp.csr_matrix(directed_NN.maximum(directed_NN.T))
