"""Every method groups what is there, survives degenerate rows, and does not depend on chance."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import get_args

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from clusterlib.clustering.assign import assign
from clusterlib.clustering.choice import choose_k
from clusterlib.clustering.families import Candidates, Method, prepare
from clusterlib.clustering.hierarchy import Hierarchy
from clusterlib.clustering.manifold import manifold_rows
from clusterlib.clustering.model import (
    ClusterModel,
    build_model,
    micro_below_centroids,
    micro_inside_clusters,
)
from clusterlib.clustering.resampling import resampled_scores
from clusterlib.clustering.space import Space, fit_space
from clusterlib.clustering.statistics import cluster_sums, empty_sums, refined
from clusterlib.clustering.sweep import sweep

METHODS: tuple[Method, ...] = get_args(Method)


def groups(sizes: tuple[int, ...], *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows around well separated centers, and the group of each."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    x = 8 * rng.normal(size=(len(sizes), 20))[y] + rng.normal(size=(len(y), 20))
    return x.astype(np.float32), y


def ready(
    z: np.ndarray, method: Method, *, k_max: int, seed: int = 0, space: Space | None = None
) -> Candidates:
    return prepare(
        z, method=method, k_max=k_max, iterations=4, min_cluster_rows=5, seed=seed, space=space
    )


def modelled(
    x: np.ndarray, method: Method, *, k: int, dim: int = 10
) -> tuple[ClusterModel, Hierarchy, np.ndarray]:
    """Model, tree, and the clusters of the training rows."""
    space: Space = fit_space(x, dim=dim, scaling="partial")
    z = space.transform(x)
    found = ready(z, method, k_max=k, space=space)
    fit = found.fit_at(k)
    if found.by_centroid:
        micro = micro_below_centroids(found.micro.fit.centroids_KP, fit.centroids_KP)
    else:
        micro = micro_inside_clusters(z, fit.cluster_ids_N, limit=found.micro.fit.k, seed=0)
    model, tree = build_model(
        z,
        fit.cluster_ids_N,
        micro_MP=micro[0],
        micro_cluster_ids_M=micro[1],
        space=space,
        centroids_KP=fit.centroids_KP if found.by_centroid else None,
    )
    return model, tree, fit.cluster_ids_N


@pytest.mark.parametrize("method", METHODS)
def test_separate_groups_are_found_and_carried_to_new_rows(method: Method) -> None:
    x, y = groups((60, 90, 120, 40, 75))
    new, new_y = groups((30, 30, 30, 30, 30))
    model, tree, ids = modelled(x, method, k=5)
    inside = ids >= 0
    assert inside.mean() > 0.5
    assert adjusted_rand_score(y[inside], ids[inside]) > 0.95
    found = assign(new, model)
    inside = found.cluster_ids_N >= 0
    assert adjusted_rand_score(new_y[inside], found.cluster_ids_N[inside]) > 0.95
    assert tree.cut(model.k).max() + 1 == model.k
    np.testing.assert_array_equal(
        tree.micro_cluster_ids_M[found.micro_ids_N[inside]], found.cluster_ids_N[inside]
    )


def test_handwritten_digits_agree_better_on_the_manifold() -> None:
    """Grey values, the whole path with assignment through micro-clusters; labels only judge."""
    digits = load_digits()
    x = digits.data.astype(np.float32)
    nmi = {}
    for method in ("kmeans", "manifold"):
        model, _, _ = modelled(x, method, k=10, dim=64)
        ids = assign(x, model).cluster_ids_N
        nmi[method] = normalized_mutual_info_score(digits.target, ids)
    assert nmi["kmeans"] > 0.7
    assert nmi["manifold"] > 0.87


def test_a_map_of_separate_parts_is_reproducible() -> None:
    x, y = groups((40, 40, 40))
    z = fit_space(x, dim=10, scaling="centered").transform(x)
    one, other = (manifold_rows(z, space=None, seed=0) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="at least 4 rows"):
        manifold_rows(z[:3], space=None, seed=0)


@pytest.mark.parametrize(("kind", "is_clear"), [("noise", False), ("groups", True)])
def test_a_layout_of_noise_has_no_clear_k(kind: str, is_clear: bool) -> None:
    noise = np.random.default_rng(1).random((1_500, 30), dtype=np.float32)
    x = noise if kind == "noise" else groups((300, 200, 400, 250, 350))[0]
    space = fit_space(x, dim=20, scaling="partial")
    z, ks = space.transform(x), [2, 3, 5, 8, 12, 20]
    found = prepare(
        z, method="manifold", k_max=20, iterations=2, min_cluster_rows=5, seed=0, space=space
    )
    more = resampled_scores(found.rows_NP, ks, seed=0)
    scores = [
        replace(score, **asdict(more[k]))
        for k, (score, _) in sweep(found.rows_NP, ks, fit_at=found.fit_at).items()
    ]
    # The gap and the silhouette of a layout do not tell noise.
    assert choose_k(scores).is_clear
    choice = choose_k(scores, least_stability=found.least_stability)
    assert choice.is_clear == is_clear
    if is_clear:
        assert choice.k == 5


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_are_assigned_to_nothing(method: Method) -> None:
    x, _ = groups((30, 30))
    model, _, _ = modelled(x, method, k=2)
    found = assign(x[:0], model)
    assert len(found.cluster_ids_N) == len(found.silhouettes_N) == len(found.is_outlier_N) == 0
    assert cluster_sums(x[:0], model).histogram_KB.sum() == 0
    # A scan of no rows changes no limit and leaves the silhouette defined.
    assert np.isfinite(assign(x, refined(model, empty_sums(model))).silhouettes_N).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_few_rows_end_in_a_model(method: Method, rows: int) -> None:
    x = groups((3, 3))[0][:rows]
    model, tree, ids = modelled(x, method, k=max(1, rows // 2))
    found = assign(x, model)
    assert found.cluster_ids_N.max() < model.k
    assert np.isfinite(found.distances_N).all()
    assert tree.size_V[-1] == (ids >= 0).sum()


@pytest.mark.parametrize("method", METHODS)
def test_identical_rows_are_one_cluster(method: Method) -> None:
    x = np.tile(groups((1,))[0], (40, 1))
    model, _, _ = modelled(x, method, k=4)
    found = assign(x, model)
    assert len(np.unique(found.cluster_ids_N)) == 1
    assert not found.is_outlier_N.any()


@pytest.mark.parametrize("method", ["kmeans", "manifold", "ward"])
def test_one_far_row_does_not_hide_the_groups(method: Method) -> None:
    x, y = groups((60, 60, 60))
    x[0] *= -1000
    model, _, _ = modelled(x, method, k=4)
    ids = assign(x, model).cluster_ids_N
    assert adjusted_rand_score(y[1:], ids[1:]) > 0.6


def test_as_many_clusters_as_rows() -> None:
    x, _ = groups((4, 4))
    model, _, _ = modelled(x, "kmeans", k=8)
    assert model.k == 8
    assert sorted(assign(x, model).cluster_ids_N) == list(range(8))


@pytest.mark.parametrize("method", METHODS)
def test_equal_rows_and_seed_give_equal_clusters(method: Method) -> None:
    x, _ = groups((60, 90, 120))
    one, other = modelled(x, method, k=3), modelled(x, method, k=3)
    assert one[0].centroids_KP.tobytes() == other[0].centroids_KP.tobytes()
    np.testing.assert_array_equal(one[2], other[2])


def test_a_method_that_chooses_k_scores_it_without_the_noise() -> None:
    x, _ = groups((60, 90, 120))
    x[:5] = 40 * np.random.default_rng(1).normal(size=(5, 20))
    z = fit_space(x, dim=10, scaling="partial").transform(x)
    found = ready(z, "hdbscan", k_max=8)
    assert found.chooses_k
    score, fit = sweep(found.rows_NP, [8], fit_at=found.fit_at)[8]
    assert score.k == fit.k == 3
    assert score.silhouette is not None
    assert score.silhouette > 0.5
    assert fit.sizes_K.sum() == (fit.cluster_ids_N >= 0).sum() < len(x)


def test_the_gap_and_the_stability_see_groups_and_none() -> None:
    x, _ = groups((80, 80, 80, 80))
    z = fit_space(x, dim=10, scaling="partial").transform(x)
    scores = resampled_scores(z, [2, 4, 8], seed=0)
    assert scores[4].gap > 10 * scores[4].gap_se
    assert scores[4].stability == pytest.approx(1)
    assert scores[8].stability < 0.9
    noise = np.random.default_rng(0).normal(size=(400, 10))
    flat = fit_space(noise, dim=10, scaling="whitened").transform(noise)
    nothing = resampled_scores(flat, [4], seed=0)[4]
    assert nothing.gap < 4 * nothing.gap_se
    assert nothing.stability < 0.5
    assert resampled_scores(z[:20], [8], seed=0) == {}
