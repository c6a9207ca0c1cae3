"""Layouts keep neighbors together; the sphere keeps their distances."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from clusterlib.clustering.kmeans import normalized
from clusterlib.clustering.layout import NEIGHBORS, fuzzy_graph, layout
from clusterlib.clustering.manifold import on_sphere
from clusterlib.clustering.space import fit_space


def ring(rows: int = 400) -> np.ndarray:
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, rows)
    return normalized(np.stack([np.cos(angle), np.sin(angle), 0.3 * np.sin(2 * angle)], axis=1))


def test_the_graph_is_symmetric_and_sure_of_the_nearest() -> None:
    z = ring()
    graph = fuzzy_graph(z)
    assert abs(graph - graph.T).max() < 1e-12
    assert graph.max() <= 1
    assert graph.diagonal().max() == 0
    nearest = NearestNeighbors(n_neighbors=2).fit(z).kneighbors(z)[1][:, 1]
    np.testing.assert_allclose(graph[np.arange(len(z)), nearest], 1, atol=1e-6)
    assert (np.diff(graph.indptr) >= NEIGHBORS).all()


def test_neighbors_stay_neighbors_and_equal_seeds_give_equal_layouts() -> None:
    z = ring()
    x = layout(fuzzy_graph(z), seed=3)
    np.testing.assert_array_equal(x, layout(fuzzy_graph(z), seed=3))
    before = NearestNeighbors(n_neighbors=11).fit(z).kneighbors(z)[1][:, 1:]
    after = NearestNeighbors(n_neighbors=11).fit(x).kneighbors(x)[1][:, 1:]
    kept = np.mean([len(np.intersect1d(a, b)) for a, b in zip(before, after, strict=True)]) / 10
    assert kept > 0.6  # by chance 0.025


@pytest.mark.parametrize("rows", [4, 5, 20])
def test_few_and_identical_rows_have_a_layout(rows: int) -> None:
    for z in (ring(rows), np.tile(ring(1), (rows, 1))):
        assert np.isfinite(layout(fuzzy_graph(z), seed=0)).all()


def test_the_sphere_keeps_the_order_of_distances() -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) + 50
    z = on_sphere(x)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-6)
    flat, round_ = (np.linalg.norm(a[:, None] - a, axis=2).ravel() for a in (x, z))
    assert np.corrcoef(flat, round_)[0, 1] > 0.99


def test_a_rescaled_space_is_that_of_the_other_scaling() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(300, 12)) * np.linspace(5, 0.2, 12) + 3).astype(np.float32)
    partial = fit_space(x, dim=8, scaling="partial")
    for scaling, power in (("centered", 0.0), ("partial", 0.75), ("whitened", 1.0)):
        expected = fit_space(x, dim=8, scaling=scaling).transform(x)  # type: ignore[arg-type]
        found = partial.rescaled(partial.transform(x), power=power)
        np.testing.assert_allclose(found, expected, atol=1e-4)
