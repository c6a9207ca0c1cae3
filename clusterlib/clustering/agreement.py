"""Agreement of clusters with true labels, from the contingency table alone.

Formulas as in Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings Comparison",
2010 (NMI with the arithmetic mean) and Hubert and Arabie, "Comparing partitions", 1985 (ARI).
C: clusters, L: labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics.cluster import expected_mutual_information

MAX_AMI_ROWS = 200_000


@dataclass(frozen=True)
class Agreement:
    """1 is perfect for each; ARI and AMI are 0 in expectation for random clusters.

    `ami` is None above MAX_AMI_ROWS rows, where its expectation takes too long. `fmi` is the
    Fowlkes-Mallows index. `accuracy` and the macro means `precision`, `recall` and `f1` are those
    of the one-to-one matching of clusters and labels that gets most rows right; a label without a
    cluster counts as 0.
    """

    nmi: float
    ari: float
    purity: float
    rows: int
    ami: float | None = None
    fmi: float = 0.0
    homogeneity: float = 0.0
    completeness: float = 0.0
    accuracy: float = 0.0
    precision: float = 0.0
    recall: float = 0.0
    f1: float = 0.0


@dataclass(frozen=True)
class Confusion:
    """Rows by cluster and label, and how well each label's matched cluster renders it.

    `counts` has one row a cluster 0...K-1, then noise; columns are `labels`. `matched` is the
    cluster of each label in the one-to-one matching that gets most rows right, -1 where it has
    none; `precision`, `recall` and `f1` are those of that cluster, 0 without one. `support` counts
    the rows of each label.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    matched: tuple[int, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]


def confusion(counts_CL: NDArray[np.int64], *, labels: Sequence[str]) -> Confusion:
    """The confusion matrix of a contingency table (C, L) whose last row is noise.

    Noise is matched to no label.

    Raises:
        ValueError: not one label a column.
    """
    if counts_CL.shape[1] != len(labels):
        raise ValueError(f"{counts_CL.shape[1]} columns, but {len(labels)} labels")
    matched_L = np.full(len(labels), -1)
    clusters, columns = linear_sum_assignment(counts_CL[:-1], maximize=True)
    hits_L = np.zeros(len(labels), dtype=np.int64)
    hits_L[columns] = counts_CL[clusters, columns]
    matched_L[columns] = clusters
    matched_L[hits_L == 0] = -1
    support_L = counts_CL.sum(axis=0)
    precision_L = hits_L / np.maximum(counts_CL.sum(axis=1)[matched_L], 1)
    recall_L = hits_L / np.maximum(support_L, 1)
    f1_L = 2 * precision_L * recall_L / np.maximum(precision_L + recall_L, 1e-12)
    return Confusion(
        labels=tuple(labels),
        counts=tuple(tuple(row) for row in counts_CL.tolist()),
        matched=tuple(matched_L.tolist()),
        precision=tuple(precision_L.tolist()),
        recall=tuple(recall_L.tolist()),
        f1=tuple(f1_L.tolist()),
        support=tuple(support_L.tolist()),
    )


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
    h_C, h_L = _entropy(p_C), _entropy(p_L)
    return Agreement(
        nmi=float(np.clip(nmi, 0, 1)),
        ari=float(ari),
        purity=purity,
        rows=rows,
        ami=_adjusted(counts_CL, mutual, mean_entropy) if rows <= MAX_AMI_ROWS else None,
        fmi=float(pairs / np.sqrt(pairs_c * pairs_l)) if pairs > 0 else 0.0,
        homogeneity=float(np.clip(mutual / h_L, 0, 1)) if h_L > 0 else 1.0,
        completeness=float(np.clip(mutual / h_C, 0, 1)) if h_C > 0 else 1.0,
        **_matched(counts_CL),
    )


def _adjusted(counts_CL: NDArray[np.int64], mutual: float, mean_entropy: float) -> float:
    """AMI: mutual information beyond that of random clusters of the same sizes."""
    used_CL = counts_CL[counts_CL.sum(axis=1) > 0]
    used_CL = used_CL[:, used_CL.sum(axis=0) > 0]
    if min(used_CL.shape) == 1:  # one cluster or one label
        return 1.0 if max(used_CL.shape) == 1 else 0.0
    expected = expected_mutual_information(sp.csr_matrix(used_CL), int(used_CL.sum()))
    return float((mutual - expected) / max(mean_entropy - expected, np.finfo(float).eps))


def _matched(counts_CL: NDArray[np.int64]) -> dict[str, float]:
    clusters, labels = linear_sum_assignment(counts_CL, maximize=True)
    hits = counts_CL[clusters, labels]
    precision = hits / np.maximum(counts_CL.sum(axis=1)[clusters], 1)
    recall = hits / np.maximum(counts_CL.sum(axis=0)[labels], 1)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    n_labels = int((counts_CL.sum(axis=0) > 0).sum())
    return {
        "accuracy": float(hits.sum() / counts_CL.sum()),
        "precision": float(precision.sum() / n_labels),
        "recall": float(recall.sum() / n_labels),
        "f1": float(f1.sum() / n_labels),
    }


def _entropy(p: NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _pairs(n: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(n * (n - 1) / 2)
