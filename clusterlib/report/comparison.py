"""Match the clusters of two fits by the images that they share.

A, B: clusters of the first and of the second fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

MOVED_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """Two matched clusters, or one without a counterpart.

    `drift` is the change of the cluster's share of all common images, `moved` the other clusters of
    B that its images went to.
    """

    a: int | None
    b: int | None
    size_a: int
    size_b: int
    common: int
    jaccard: float
    drift: float
    moved: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Matching:
    """A one-to-one matching; `moved` images are in no matched pair."""

    pairs: Sequence[Pair]
    rows: int
    moved: int


def match_clusters(counts_AB: NDArray[np.int64]) -> Matching:
    """The matching that leaves most images in their cluster, largest pair first.

    Kuhn, "The Hungarian method for the assignment problem", 1955. `counts_AB` counts the images in
    each pair of clusters.
    """
    rows = int(counts_AB.sum())
    sizes_A, sizes_B = counts_AB.sum(axis=1), counts_AB.sum(axis=0)
    matched = {
        int(a): int(b)
        for a, b in zip(*linear_sum_assignment(-counts_AB), strict=True)
        if counts_AB[a, b] > 0
    }
    pairs = []
    for a in range(len(sizes_A)):
        b = matched.get(a)
        common = int(counts_AB[a, b]) if b is not None else 0
        size_b = int(sizes_B[b]) if b is not None else 0
        went = [(int(t), int(counts_AB[a, t])) for t in np.argsort(-counts_AB[a], kind="stable")]
        pairs.append(
            Pair(
                a=a,
                b=b,
                size_a=int(sizes_A[a]),
                size_b=size_b,
                common=common,
                jaccard=common / max(int(sizes_A[a]) + size_b - common, 1),
                drift=(size_b - int(sizes_A[a])) / max(rows, 1),
                moved=[(t, n) for t, n in went if n and t != b][:MOVED_SHOWN],
            )
        )
    for b in sorted(set(range(len(sizes_B))) - set(matched.values())):
        pairs.append(Pair(None, b, 0, int(sizes_B[b]), 0, 0.0, int(sizes_B[b]) / max(rows, 1), ()))
    pairs.sort(key=lambda pair: -(pair.size_a + pair.size_b))
    return Matching(pairs, rows, rows - sum(pair.common for pair in pairs))
