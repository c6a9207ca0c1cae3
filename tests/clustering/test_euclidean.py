"""The sampled Euclidean silhouette is scikit-learn's where all rows are seen, and unbiased else."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from clusterlib.clustering import euclidean
from clusterlib.clustering.euclidean import euclidean_silhouette
from clusterlib.clustering.kmeans import normalized


def clustered(rows: int, *, k: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    ids = np.sort(rng.choice(k, rows, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum()))
    z = normalized(1.5 * rng.normal(size=(k, 8))[ids] + rng.normal(size=(rows, 8)))
    return z, ids.astype(np.int32)


def test_few_rows_are_all_seen() -> None:
    z, ids = clustered(700)
    ids[0] = 6  # alone in its cluster
    found = euclidean_silhouette(z, ids, seed=0)
    assert found is not None
    assert found.rows == 700
    assert found.value == pytest.approx(silhouette_score(z.astype(np.float64), ids), abs=1e-6)
    assert found.low == found.value == found.high


def test_the_interval_covers_the_true_value_in_95_of_100_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    z, ids = clustered(2000)
    truth = silhouette_score(z.astype(np.float64), ids)
    monkeypatch.setattr(euclidean, "SAMPLED_ROWS", 150)
    found = [euclidean_silhouette(z, ids, seed=seed) for seed in range(120)]
    values = np.array([e.value for e in found if e])
    assert np.mean([e.low <= truth <= e.high for e in found if e]) == pytest.approx(0.95, abs=0.05)
    # No bias beyond chance: three standard errors of the mean of 120.
    assert abs(values.mean() - truth) < 3 * values.std() / np.sqrt(120)


def test_noise_is_left_out_and_one_cluster_has_no_score() -> None:
    z, ids = clustered(300)
    noisy = np.concatenate([ids, np.full(50, -1, dtype=np.int32)])
    more = np.concatenate([z, normalized(np.random.default_rng(2).normal(size=(50, 8)))])
    assert euclidean_silhouette(more, noisy, seed=0) == euclidean_silhouette(z, ids, seed=0)
    assert euclidean_silhouette(z, np.zeros(300, dtype=np.int32), seed=0) is None
    assert euclidean_silhouette(z[:0], ids[:0], seed=0) is None
