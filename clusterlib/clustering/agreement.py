"""Agreement of clusters with true labels, from the contingency table alone.

Formulas as in Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings Comparison",
2010 (NMI with the arithmetic mean) and Hubert and Arabie, "Comparing partitions", 1985 (ARI).
C: clusters, L: labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """1 is perfect for each; ARI is 0 in expectation for random clusters."""

    nmi: float
    ari: float
    purity: float
    rows: int


def agreement(counts_CL: NDArray[np.int64]) -> Agreement:
    """Scores of a contingency table of row counts (C, L).

    Raises:
        ValueError: the table counts no rows.
    """
    rows = int(counts_CL.sum())
    if rows == 0:
        raise ValueError("agreement needs at least one labelled row, got 0")
    p_CL = counts_CL / rows
    p_C, p_L = p_CL.sum(axis=1), p_CL.sum(axis=0)
    outer_CL = np.outer(p_C, p_L)
    cells = p_CL > 0
    mutual = float((p_CL[cells] * np.log(p_CL[cells] / outer_CL[cells])).sum())
    mean_entropy = (_entropy(p_C) + _entropy(p_L)) / 2
    nmi = mutual / mean_entropy if mean_entropy > 0 else 1.0
    pairs = _pairs(counts_CL.astype(np.float64)).sum()
    pairs_c = _pairs(counts_CL.sum(axis=1).astype(np.float64)).sum()
    pairs_l = _pairs(counts_CL.sum(axis=0).astype(np.float64)).sum()
    expected = pairs_c * pairs_l / max(float(_pairs(np.float64(rows))), 1.0)
    ceiling = (pairs_c + pairs_l) / 2
    ari = (pairs - expected) / (ceiling - expected) if ceiling != expected else 1.0
    purity = float(counts_CL.max(axis=1).sum()) / rows
    return Agreement(float(np.clip(nmi, 0, 1)), float(ari), purity, rows)


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _pairs(n: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(n * (n - 1) / 2)
