"""Clusters of two fits are matched one to one by the images they share."""

from __future__ import annotations

import numpy as np
import pytest

from clusterlib.report.comparison import match_clusters


def test_renumbered_clusters_match_and_nothing_moved() -> None:
    matching = match_clusters(np.array([[0, 30, 0], [0, 0, 20], [10, 0, 0]]))
    assert [(pair.a, pair.b) for pair in matching.pairs] == [(0, 1), (1, 2), (2, 0)]
    assert (matching.rows, matching.moved) == (60, 0)
    assert all(pair.jaccard == 1 and pair.drift == 0 for pair in matching.pairs)


def test_the_matching_is_best_over_all_not_greedy() -> None:
    # Taking 10 first would leave 0 for the other: 10 stay instead of 9 + 9.
    matching = match_clusters(np.array([[10, 9], [9, 0]]))
    assert {(pair.a, pair.b) for pair in matching.pairs} == {(0, 1), (1, 0)}
    assert matching.moved == 10


def test_a_split_leaves_one_without_counterpart() -> None:
    matching = match_clusters(np.array([[60, 40]]))
    first, second = matching.pairs
    assert (first.a, first.b, first.common, first.moved) == (0, 0, 60, [(1, 40)])
    assert first.drift == pytest.approx(-0.4)
    assert (second.a, second.b, second.drift) == (None, 1, pytest.approx(0.4))
    assert matching.moved == 40
