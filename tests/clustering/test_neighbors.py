"""Neighbours against brute force, identical rows included."""

from __future__ import annotations

import numpy as np
import pytest

from clusterlib.clustering.neighbors import nearest_rows


def test_neighbors_are_those_of_brute_force() -> None:
    z_NP = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    z_NP /= np.linalg.norm(z_NP, axis=1, keepdims=True)
    ids_NJ, distances_NJ = nearest_rows(z_NP, count=4)
    distance_NN = 1 - z_NP @ z_NP.T
    np.fill_diagonal(distance_NN, np.inf)
    assert np.array_equal(ids_NJ, np.argsort(distance_NN, axis=1)[:, :4])
    assert np.allclose(distances_NJ, np.sort(distance_NN, axis=1)[:, :4], atol=1e-6)


def test_many_rows_get_nearly_all_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    z_NP = np.repeat(rng.normal(size=(100, 16)), 60, axis=0) + 0.3 * rng.normal(size=(6000, 16))
    z_NP = (z_NP / np.linalg.norm(z_NP, axis=1, keepdims=True)).astype(np.float32)
    exact_NJ, _ = nearest_rows(z_NP, count=10)
    monkeypatch.setattr("clusterlib.clustering.neighbors.EXACT_ROWS", 1000)
    found_NJ, _ = nearest_rows(z_NP, count=10)
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact_NJ, found_NJ, strict=True)])
    assert kept > 0.97


def test_identical_rows_are_never_their_own_neighbors() -> None:
    z_NP = np.tile(np.eye(1, 3, dtype=np.float32), (30, 1))
    ids_NJ, distances_NJ = nearest_rows(z_NP, count=4)
    assert ids_NJ.shape == distances_NJ.shape == (30, 4)
    assert (ids_NJ != np.arange(30)[:, None]).all()
    assert np.allclose(distances_NJ, 0)


def test_few_rows_have_fewer_neighbors() -> None:
    assert nearest_rows(np.eye(3, dtype=np.float32), count=10)[0].shape == (3, 2)
    assert nearest_rows(np.eye(1, 3, dtype=np.float32), count=10)[0].shape == (1, 0)
