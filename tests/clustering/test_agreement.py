"""Agreement from a contingency table equals agreement from labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    fowlkes_mallows_score,
    homogeneity_completeness_v_measure,
    normalized_mutual_info_score,
)

from clusterlib.clustering.agreement import agreement, confusion

tables = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.integers(0, 30))
)


@given(tables.filter(lambda table: table.sum() > 0))
@settings(max_examples=150, deadline=None)
def test_scores_equal_those_of_the_labels(counts: np.ndarray) -> None:
    cells = np.indices(counts.shape).reshape(2, -1)
    clusters, labels = np.repeat(cells, counts.ravel(), axis=1)
    result = agreement(counts)
    assert result.nmi == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-9)
    assert result.ari == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-9)
    assert result.ami == pytest.approx(adjusted_mutual_info_score(labels, clusters), abs=1e-6)
    assert result.fmi == pytest.approx(fowlkes_mallows_score(labels, clusters), abs=1e-9)
    expected = homogeneity_completeness_v_measure(labels, clusters)
    assert (result.homogeneity, result.completeness) == pytest.approx(expected[:2], abs=1e-9)
    most = sum(np.bincount(labels[clusters == c]).max() for c in set(clusters))
    assert result.purity == pytest.approx(most / len(labels))
    assert result.rows == len(labels)


def test_perfect_and_absent_agreement() -> None:
    perfect = agreement(np.diag([5, 6, 7]))
    assert (perfect.nmi, perfect.ari, perfect.purity) == pytest.approx((1, 1, 1))
    absent = agreement(np.full((3, 3), 10))
    assert absent.nmi == pytest.approx(0, abs=1e-12)
    assert absent.ari < 0
    assert absent.purity == pytest.approx(1 / 3)


def test_matching_is_one_to_one() -> None:
    # Labels 0 and 1 have a cluster each, label 2 has none that is not better used.
    result = agreement(np.array([[8, 2, 0], [0, 6, 4]]))
    assert result.accuracy == pytest.approx(14 / 20)
    assert result.precision == pytest.approx((0.8 + 0.6) / 3)
    assert result.recall == pytest.approx((1 + 0.75) / 3)
    f1 = (2 * 0.8 / 1.8 + 2 * 0.6 * 0.75 / 1.35) / 3
    assert result.f1 == pytest.approx(f1)


def test_large_tables_do_not_overflow() -> None:
    counts = np.diag([2**33, 2**33]).astype(np.int64)
    assert agreement(counts).ari == pytest.approx(1)


def test_no_rows_have_no_agreement() -> None:
    with pytest.raises(ValueError, match="at least one labelled row"):
        agreement(np.zeros((2, 3), dtype=np.int64))


def test_the_confusion_matches_each_label_to_one_cluster() -> None:
    counts = np.array([[9, 1, 0], [0, 6, 0], [0, 2, 0], [1, 0, 4]])  # the last row is noise
    found = confusion(counts, labels=["cat", "dog", "owl"])
    assert found.matched == (0, 1, -1)  # noise is no match for the owls
    assert found.support == (10, 9, 4)
    assert found.precision == pytest.approx((0.9, 1, 0))
    assert found.recall == pytest.approx((0.9, 6 / 9, 0))
    assert found.f1 == pytest.approx((0.9, 0.8, 0))
    assert found.counts[0] == (9, 1, 0)
    with pytest.raises(ValueError, match="3 columns, but 1 labels"):
        confusion(counts, labels=["cat"])
