"""A layout in few dimensions that keeps neighbors together and pushes the rest apart.

The model is UMAP's (McInnes, Healy and Melville, "UMAP: Uniform manifold approximation and
projection for dimension reduction", 2018): fuzzy edges between nearest neighbors, attraction along
them, repulsion from random rows. What is changed: all rows move at once, down the expected gradient
by Adam, so that equal rows and seed give equal layouts, and the kernel is that of t-SNE.
N: rows, P: dimensions of the space, J: neighbors, E: dimensions of the layout, Q: edges.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from clusterlib.clustering.neighbors import nearest_rows

# UMAP's own defaults; results hardly move between 10 and 30 neighbors, or 5 and 20 dimensions.
NEIGHBORS = 15
DIMENSIONS = 10
EPOCHS = 300
_REPELLED = 5
_START_RADIUS = 10.0
_STEEPEST = 4.0
# Adam: Kingma and Ba, "Adam: a method for stochastic optimization", 2014.
_MOMENTUM, _SECOND_MOMENT = 0.9, 0.999


def fuzzy_graph(z_NP: NDArray[np.float32]) -> sp.csr_matrix:
    """How surely rows are neighbors, 0...1, symmetric (N, N), of at least 2 unit rows.

    Each row is sure of its nearest neighbor; by its scale all J add up to log2(J + 1).
    """
    neighbors = min(NEIGHBORS, len(z_NP) - 1)
    ids_NJ, cosine_NJ = nearest_rows(z_NP, count=neighbors)
    distance_NJ = np.sqrt(2 * cosine_NJ.astype(np.float64))
    beyond_NJ = distance_NJ - distance_NJ[:, :1]
    floor_N1 = 1e-3 * distance_NJ.mean(axis=1, keepdims=True) + 1e-12
    low_N1, high_N1 = np.zeros((len(z_NP), 1)), np.full((len(z_NP), 1), np.inf)
    scale_N1 = np.ones((len(z_NP), 1))
    for _ in range(48):  # bisection
        above_N1 = np.exp(-beyond_NJ / scale_N1).sum(axis=1, keepdims=True) > np.log2(neighbors + 1)
        high_N1 = np.where(above_N1, scale_N1, high_N1)
        low_N1 = np.where(above_N1, low_N1, scale_N1)
        middle_N1 = np.where(np.isinf(high_N1), 2 * scale_N1, (low_N1 + high_N1) / 2)
        scale_N1 = np.clip(middle_N1, floor_N1, 1e3)
    weight_NJ = np.exp(-beyond_NJ / scale_N1)
    starts_N = np.arange(0, ids_NJ.size + 1, neighbors)
    shape = (len(z_NP), len(z_NP))
    directed_NN = sp.csr_matrix((weight_NJ.ravel(), ids_NJ.ravel(), starts_N), shape=shape)
    both_NN = directed_NN.multiply(directed_NN.T)
    return sp.csr_matrix(directed_NN + directed_NN.T - both_NN)


def layout(graph_NN: sp.csr_matrix, *, seed: int) -> NDArray[np.float32]:
    """Places (N, E) of the rows of a symmetric graph in which every row has an edge; N >= 4.

    E is at most DIMENSIONS and N - 2.
    """
    graph_NN.sort_indices()
    rng = np.random.default_rng(seed)
    x_NE = _spectral_start(graph_NN, rng)
    first_Q = np.repeat(np.arange(len(x_NE)), np.diff(graph_NN.indptr))
    weight_Q = graph_NN.data.astype(np.float32)
    degree_N1 = np.asarray(graph_NN.sum(axis=1), dtype=np.float32)
    mean_NE, square_NE = np.zeros_like(x_NE), np.zeros_like(x_NE)
    for epoch in range(EPOCHS):
        gradient_NE = _attraction(x_NE, graph_NN, first_Q, weight_Q) / degree_N1
        for _ in range(_REPELLED):
            gradient_NE -= _repulsion(x_NE, rng.permutation(len(x_NE)))
        mean_NE += (1 - _MOMENTUM) * (gradient_NE - mean_NE)
        square_NE += (1 - _SECOND_MOMENT) * (gradient_NE**2 - square_NE)
        unbiased_NE = square_NE / np.float32(1 - _SECOND_MOMENT ** (epoch + 1))
        rate = (1 - epoch / EPOCHS) / (1 - _MOMENTUM ** (epoch + 1))
        x_NE -= np.float32(rate) * mean_NE / (np.sqrt(unbiased_NE) + np.float32(1e-7))
    return x_NE


def _attraction(
    x_NE: NDArray[np.float32],
    graph_NN: sp.csr_matrix,
    first_Q: NDArray[np.int64],
    weight_Q: NDArray[np.float32],
) -> NDArray[np.float32]:
    step_QE = x_NE[first_Q] - x_NE[graph_NN.indices]
    pull_Q = weight_Q / (1 + np.einsum("qe,qe->q", step_QE, step_QE))
    pull_NN = sp.csr_matrix((pull_Q, graph_NN.indices, graph_NN.indptr), shape=graph_NN.shape)
    total_N1 = np.asarray(pull_NN.sum(axis=1), dtype=np.float32)
    # Twice, since an edge moves both of its ends.
    force_NE: NDArray[np.float32] = 4 * (total_N1 * x_NE - pull_NN @ x_NE)
    return force_NE


def _repulsion(x_NE: NDArray[np.float32], other_N: NDArray[np.int64]) -> NDArray[np.float32]:
    step_NE = x_NE - x_NE[other_N]
    squared_N1 = np.einsum("ne,ne->n", step_NE, step_NE)[:, None]
    push_NE = 2 * step_NE / ((np.float32(1e-3) + squared_N1) * (1 + squared_N1))
    return np.asarray(np.clip(push_NE, -_STEEPEST, _STEEPEST))


def _spectral_start(graph_NN: sp.csr_matrix, rng: np.random.Generator) -> NDArray[np.float32]:
    """The leading eigenvectors of the walk on the graph, spread out, with a little noise."""
    rows = graph_NN.shape[0]
    root_N = np.sqrt(np.asarray(graph_NN.sum(axis=1)).ravel())
    walk_NN = sp.diags(1 / root_N) @ graph_NN @ sp.diags(1 / root_N)
    trivial_N = root_N / np.linalg.norm(root_N)

    def step(x_N: NDArray[np.float64]) -> NDArray[np.float64]:
        # Without the trivial vector, which also pins down the rest when the graph falls apart.
        result: NDArray[np.float64] = walk_NN @ x_N - trivial_N * (trivial_N @ x_N)
        return result

    dims = min(DIMENSIONS, rows - 2)
    start_N = rng.standard_normal(rows)
    operator = LinearOperator((rows, rows), matvec=step, dtype=np.float64)
    try:
        vectors_NE = eigsh(operator, k=dims, which="LA", v0=start_N, tol=1e-3, maxiter=300)[1]
    except ArpackNoConvergence as found:  # a graph in many parts; those that are there will do
        vectors_NE = found.eigenvectors
    x_NE = 1e-2 * rng.standard_normal((rows, dims))
    kept = vectors_NE.shape[1]
    if kept:
        x_NE[:, :kept] += vectors_NE / max(np.abs(vectors_NE).max(), 1e-12) * _START_RADIUS
    return x_NE.astype(np.float32)
