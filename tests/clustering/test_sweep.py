"""The sweep covers its range, and the choice of k says why."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterlib.clustering.choice import choose_k
from clusterlib.clustering.families import Candidates, prepare
from clusterlib.clustering.sweep import KScore, k_grid, sweep


def scores(**silhouettes: float | None) -> list[KScore]:
    return [
        KScore(int(name[1:]), int(name[1:]), inertia=1.0, silhouette=value, smallest=1, largest=9)
        for name, value in silhouettes.items()
    ]


def candidates(z: np.ndarray, *, k_max: int) -> Candidates:
    return prepare(z, method="kmeans", k_max=k_max, iterations=2, min_cluster_rows=5, seed=0)


def test_the_grid_has_equal_ratios_and_both_ends() -> None:
    assert k_grid(4, 64, count=5, rows=10_000) == [4, 8, 16, 32, 64]
    assert k_grid(5, 5, count=9, rows=100) == [5]


@given(
    k_min=st.integers(2, 300),
    more=st.integers(0, 300),
    count=st.integers(2, 40),
    rows=st.integers(1, 2000),
)
def test_the_grid_stays_in_range(k_min: int, more: int, count: int, rows: int) -> None:
    grid = k_grid(k_min, k_min + more, count=count, rows=rows)
    assert 1 <= len(grid) <= count
    assert grid == sorted(set(grid))
    top = max(1, min(k_min + more, rows // 2))
    assert grid[0] == min(k_min, top)
    assert grid[-1] == top


def test_the_smallest_k_on_the_plateau_is_chosen() -> None:
    choice = choose_k(scores(k4=0.1, k8=0.44, k16=0.46, k32=0.5, k64=0.3))
    assert choice.k == 16
    assert "0.460" in choice.reason
    assert "0.500 at k=32" in choice.reason
    assert choose_k(scores(k4=0.1, k8=0.45, k32=0.5)).k == 8


def test_of_the_good_enough_the_most_stable_is_chosen() -> None:
    stability = {4: 0.99, 8: 0.5, 16: 0.9, 32: 0.6, 64: 0.95}
    rows = [
        replace(score, stability=stability[score.k], gap=0.5, gap_se=0.01)
        for score in scores(k4=0.1, k8=0.46, k16=0.47, k32=0.5, k64=0.42)
    ]
    choice = choose_k(rows)
    assert (choice.k, choice.coarse, choice.fine) == (16, 4, 64)
    assert choice.is_clear
    assert "adjusted Rand index of 0.90" in choice.reason
    assert "0.470" in choice.reason


def test_of_the_equally_stable_the_finest_is_chosen() -> None:
    stability = {4: 1.0, 8: 1.0, 16: 0.99, 32: 0.97, 64: 0.5}
    rows = [
        replace(score, stability=stability[score.k], gap=0.5, gap_se=0.01)
        for score in scores(k4=0.46, k8=0.47, k16=0.5, k32=0.48, k64=0.3)
    ]
    assert choose_k(rows).k == 16


def test_groups_that_noise_has_too_are_no_clear_k() -> None:
    rows = [replace(s, stability=0.3, gap=0.01, gap_se=0.01) for s in scores(k4=0.2, k8=0.1)]
    choice = choose_k(rows)
    assert choice.k == 4
    assert not choice.is_clear
    assert "gap 0.010" in choice.reason


def test_what_half_samples_do_not_agree_on_is_no_clear_k() -> None:
    rows = [replace(s, stability=0.4, gap=0.5, gap_se=0.01) for s in scores(k4=0.2, k8=0.1)]
    assert choose_k(rows).is_clear
    choice = choose_k(rows, least_stability=0.5)
    assert choice.k == 4
    assert not choice.is_clear
    assert "index 0.40" in choice.reason


def test_the_order_of_scores_does_not_matter() -> None:
    assert choose_k(scores(k32=0.5, k16=0.46, k8=0.2)).k == 16
    assert choose_k(scores(k32=-0.5, k16=-0.6)).k == 16


@pytest.mark.parametrize("best", [0.0, -0.2])
def test_no_clear_k_is_an_answer(best: float) -> None:
    choice = choose_k(scores(k4=best - 0.1, k8=best))
    assert choice.k == 4
    assert choice.reason.startswith("no clear k")


def test_a_silhouette_that_still_rises_at_the_end_is_no_clear_k() -> None:
    choice = choose_k(scores(k4=0.1, k8=0.2, k16=0.3))
    assert choice.k == 16
    assert choice.reason.startswith("no clear k")
    assert "clustering.k_max" in choice.reason


def test_no_more_groups_than_the_images_differ() -> None:
    few = [
        KScore(asked, k, inertia=1.0, silhouette=value, smallest=1, largest=9)
        for asked, k, value in [(2, 2, 0.5), (4, 4, 0.7), (8, 5, 1.0), (16, 5, 1.0)]
    ]
    choice = choose_k(few)
    assert choice.k == 5
    assert "as far as these images differ" in choice.reason


def test_a_single_score_is_taken() -> None:
    choice = choose_k(scores(k7=0.3))
    assert choice.k == 7
    assert not choice.reason.startswith("no clear k")


def test_undefined_silhouettes_are_passed_over() -> None:
    assert choose_k(scores(k2=None, k4=0.2)).k == 4
    choice = choose_k(scores(k1=None))
    assert choice.k == 1
    assert "too few or too alike" in choice.reason


def test_no_score_is_no_choice() -> None:
    with pytest.raises(ValueError, match="at least one score"):
        choose_k([])


def test_a_sweep_finds_the_groups_there_are() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(12)[:6], 40, axis=0) + 0.05 * rng.normal(size=(240, 12))
    z = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    seen: list[KScore] = []
    fit_at = candidates(z, k_max=12).fit_at
    results = sweep(z, [2, 3, 6, 12], fit_at=fit_at, on_score=seen.append)
    assert list(results) == [2, 3, 6, 12]
    assert seen == [score for score, _ in results.values()]
    assert choose_k(seen).k == 6
    for score, fit in results.values():
        assert score.k == fit.k
        assert score.inertia == fit.inertia
        assert (score.smallest, score.largest) == (fit.sizes_K.min(), fit.sizes_K.max())
    inertias = [score.inertia for score in seen]
    assert inertias == sorted(inertias, reverse=True)


def test_identical_rows_end_in_one_cluster() -> None:
    z = np.tile(np.array([[1, 0]], dtype=np.float32), (30, 1))
    results = sweep(z, [2, 4], fit_at=candidates(z, k_max=4).fit_at)
    assert choose_k([score for score, _ in results.values()]).k == 1
