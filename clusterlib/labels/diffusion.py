"""Answers about few images spread to many over a graph of neighbors, and which images to ask about.

Zhou et al., "Learning with local and global consistency", 2003: K = (I - a S)^-1 with S the
symmetrically normalised graph. Each answer's column of K is scaled to a mass of the images that it
is nearest to, so that neither crowded nor often asked classes swallow the others (after Zhu et al.,
"Semi-supervised learning using Gaussian fields", 2003, class mass normalisation). Images to ask
about are picked greedily so that everything is near one (facility location; Wei et al.,
"Submodularity in data subset selection", 2015).
L: landmarks, P: dimensions, A: answers, C: classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEIGHBORS = 8
ALPHA = 0.95  # how far an answer reaches: 1 / (1 - a) steps on average
MAX_LANDMARKS = 4_000  # K is dense: 64 MiB in float32, and seconds to invert


@dataclass(frozen=True)
class Diffusion:
    """The kernel K of landmarks, float32 (L, L), and the same scaled to a unit diagonal."""

    kernel_LL: NDArray[np.float32]
    nearness_LL: NDArray[np.float32]


def fit_diffusion(z_LP: NDArray[np.float32]) -> Diffusion:
    """The kernel over unit rows (L, P) and their NEIGHBORS most similar ones.

    Raises:
        ValueError: no rows, or more than MAX_LANDMARKS.
    """
    rows = len(z_LP)
    if not 1 <= rows <= MAX_LANDMARKS:
        raise ValueError(f"{rows} landmarks are outside 1...{MAX_LANDMARKS}")
    similarity_LL = z_LP @ z_LP.T
    np.fill_diagonal(similarity_LL, -np.inf)
    count = min(NEIGHBORS, rows - 1)
    graph_LL = np.zeros((rows, rows))
    if count:
        columns = np.argpartition(-similarity_LL, count - 1, axis=1)[:, :count]
        lines = np.arange(rows)[:, None]
        # The floor keeps every row attached; duplicates must not outweigh all else.
        graph_LL[lines, columns] = np.clip(similarity_LL[lines, columns], 0.01, None) ** 3
    graph_LL += graph_LL.T
    scale_L = 1 / np.sqrt(np.maximum(graph_LL.sum(axis=1), 1e-12))
    kernel_LL = np.linalg.inv(
        np.eye(rows) - ALPHA * (scale_L[:, None] * graph_LL * scale_L[None, :])
    ).clip(0)
    root_L = np.sqrt(np.diag(kernel_LL))
    nearness_LL = kernel_LL / np.outer(root_L, root_L)
    return Diffusion(kernel_LL.astype(np.float32), nearness_LL.astype(np.float32))


def choose_images(
    diffusion: Diffusion,
    budget: int,
    *,
    answered: NDArray[np.intp],
    weights_L: NDArray[np.floating] | None = None,
) -> NDArray[np.intp]:
    """The next `budget` landmarks to ask about, the most telling first; fewer when there are fewer.

    Args:
        diffusion: The kernel.
        budget: How many.
        answered: Landmarks that are settled and cover what is near them.
        weights_L: How much each landmark matters; all the same when None.
    """
    nearness_LL = diffusion.nearness_LL
    covered_L = (
        nearness_LL[:, answered].max(axis=1)
        if len(answered)
        else np.zeros(len(nearness_LL), np.float32)
    )
    weights_L = np.ones(len(nearness_LL)) if weights_L is None else weights_L
    weights_L = weights_L.astype(np.float32)
    taken = {int(n) for n in answered}
    chosen: list[int] = []
    while len(chosen) < budget and len(taken) < len(nearness_LL):
        gain_L = weights_L @ np.maximum(nearness_LL - covered_L[:, None], 0)
        gain_L[list(taken)] = -1
        best = int(gain_L.argmax())
        chosen.append(best)
        taken.add(best)
        np.maximum(covered_L, nearness_LL[:, best], out=covered_L)
    return np.array(chosen, dtype=np.intp)


def spread_answers(
    diffusion: Diffusion,
    answered: NDArray[np.intp],
    classes_A: NDArray[np.intp],
    *,
    class_count: int,
) -> NDArray[np.float32]:
    """Class shares (L, C) of every landmark, rows summing to 1; an answered one is its answer.

    Raises:
        ValueError: no answers.
    """
    if len(answered) == 0:
        raise ValueError("spread_answers needs at least one answer")
    columns_LA = diffusion.kernel_LL[:, answered]
    cell_L = diffusion.nearness_LL[:, answered].argmax(axis=1)
    mass_A = np.bincount(cell_L, minlength=len(answered))
    columns_LA = columns_LA / columns_LA.sum(axis=0) * mass_A
    one_hot_AC = np.eye(class_count, dtype=np.float32)[classes_A]
    scores_LC = (columns_LA @ one_hot_AC).astype(np.float32) + np.float32(1e-12)
    shares_LC: NDArray[np.float32] = scores_LC / scores_LC.sum(axis=1, keepdims=True)
    shares_LC[answered] = one_hot_AC
    return shares_LC
