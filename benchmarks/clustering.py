"""Clustering against faiss, scikit-learn and the bare matrix product, on one machine in one run.

    make bench-cluster    prints the tables that stand in benchmarks/clustering.md
    python -m benchmarks.clustering sweep assignment    some of them

faiss runs on the same BLAS kernels as ours. Everything runs on one thread and is timed in CPU
seconds, so that a busy machine disturbs little; figures are medians of alternating runs.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.cluster_sets import mixture
from clusterlib.clustering.assign import BLOCK_ROWS, nearest_two
from clusterlib.clustering.families import prepare
from clusterlib.clustering.kernels import check_kernels, load_faiss
from clusterlib.clustering.kmeans import settle
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.scores import internal_scores
from clusterlib.clustering.space import Space
from clusterlib.clustering.sweep import k_grid, over_cluster, sweep

RUNS = 5
ROWS, DIM = 40_000, 768


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, and the result."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def spread(values: list[float], digits: int = 2) -> str:
    """Median and range."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def faiss_fit(z: np.ndarray, k: int, *, seed: int) -> np.ndarray:
    """25 iterations from random rows, as faiss does by default; unit centroids."""
    faiss = load_faiss()
    engine = faiss.Kmeans(
        z.shape[1],
        k,
        niter=25,
        seed=seed,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=len(z),
    )
    engine.train(z)
    return np.asarray(engine.centroids)


def our_fit(z: np.ndarray, k: int, *, seed: int) -> np.ndarray:
    """One k by the sweep's own path: over-cluster, merge, polish once."""
    found = prepare(z, method="kmeans", k_max=k, iterations=1, min_cluster_rows=10, seed=seed)
    return found.fit_at(k).centroids_KP


def bench_sweep(z: np.ndarray) -> None:
    """Twelve k for the price of one fit, and their inertia against independent fits."""
    ks = k_grid(32, 1024, count=12, rows=len(z))
    independent = [settle(z, faiss_fit(z, k, seed=0)).inertia for k in ks]
    ratios, scored, gains = [], [], []
    for run in range(RUNS):
        one, _ = timed(lambda seed=run: faiss_fit(z, ks[-1], seed=seed))

        def fits(seed: int = run) -> list[float]:
            found = prepare(
                z, method="kmeans", k_max=ks[-1], iterations=1, min_cluster_rows=10, seed=seed
            )
            return [found.fit_at(k).inertia for k in ks]

        def scores(seed: int = run) -> Any:
            found = prepare(
                z, method="kmeans", k_max=ks[-1], iterations=1, min_cluster_rows=10, seed=seed
            )
            return sweep(z, ks, fit_at=found.fit_at)

        ours, inertias = timed(fits)
        ratios.append(ours / one)
        scored.append(timed(scores)[0] / one)
        gains.append(100 * float(np.mean(np.divide(inertias, independent) - 1)))
    print(f"| sweep of 12 k, 32...1024, over one faiss-25 fit at 1024 | {spread(ratios)} |")
    print(f"| the same with silhouette, DB, CH of each k | {spread(scored)} |")
    print(f"| its mean inertia against 12 independent faiss fits, % | {spread(gains)} |")


def bench_one_k(z: np.ndarray, k: int) -> None:
    """Time to reach the inertia of a faiss fit."""
    ratios, gains = [], []
    for run in range(RUNS):
        theirs, centroids = timed(lambda seed=run: faiss_fit(z, k, seed=seed))
        ours, own = timed(lambda seed=run: our_fit(z, k, seed=seed))
        ratios.append(ours / theirs)
        gains.append(100 * (settle(z, own).inertia / settle(z, centroids).inertia - 1))
    print(f"| one k={k}: time over faiss-25 | {spread(ratios)} |")
    print(f"| one k={k}: inertia against faiss-25, % | {spread(gains)} |")


def bench_silhouette(z: np.ndarray) -> None:
    """Exact silhouette of 20,000 rows in 100 clusters against scikit-learn."""
    from sklearn.metrics import silhouette_score

    z = z[:20_000]
    fit = settle(z, over_cluster(z, k_max=100, seed=0).starts(100))
    # One run of sqeuclidean: scikit-learn takes minutes, without a matrix product.
    for metric, runs in (("cosine", RUNS), ("sqeuclidean", 1)):
        factors = []
        for _ in range(runs):
            ours, scores = timed(lambda: internal_scores(z, fit.cluster_ids_N, k=fit.k))
            theirs, value = timed(
                lambda m=metric: silhouette_score(z.astype(np.float64), fit.cluster_ids_N, metric=m)
            )
            factors.append(theirs / ours)
        gap = abs(value - scores.silhouette)
        print(
            f"| silhouette, DB and CH: times faster than sklearn {metric} | {spread(factors, 0)} |",
            flush=True,
        )
        print(f"| silhouette: difference from sklearn's {metric} | {gap:.1e} |")


def bench_assignment(z: np.ndarray) -> None:
    """Nearest two of 1,000 centroids against the bare product of the same shapes."""
    centroids = settle(z, z[:1000]).centroids_KP
    k = len(centroids)
    identity = Space(np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32), np.ones(DIM))
    model = ClusterModel(
        space=identity,
        centroids_KP=centroids,
        means_KP=centroids.astype(np.float64),
        sizes_K=np.ones(k, dtype=np.int64),
        outlier_distance_K=np.ones(k, dtype=np.float32),
        micro_MP=centroids,
        micro_cluster_ids_M=np.arange(k, dtype=np.int32),
    )

    def product() -> None:
        for start in range(0, len(z), BLOCK_ROWS):
            z[start : start + BLOCK_ROWS] @ centroids.T

    def ours() -> None:
        for start in range(0, len(z), BLOCK_ROWS):
            nearest_two(z[start : start + BLOCK_ROWS], model)

    shares, rates = [], []
    for _ in range(RUNS):
        bare, own = timed(product)[0], timed(ours)[0]
        shares.append(bare / own)
        rates.append(len(z) / own)
    print(f"| nearest two of k={k}: share of the bare product's speed | {spread(shares)} |")
    print(f"| nearest two of k={k}: rows a second | {spread(rates, 0)} |")


def main() -> None:
    """Print the tables."""
    load_faiss()
    threadpool_limits(1)
    report = check_kernels()
    print(f"{os.cpu_count()} cores, {platform.machine()}; faiss on {report.architecture} kernels,")
    print(f"{report.share:.2f} of NumPy's speed; {ROWS:,} rows x {DIM}, median of {RUNS} (range)\n")
    z, _ = mixture(rows=ROWS, dim=DIM, groups=400, zipf=1.0, separation=1.0, seed=0)
    print("| what | measured |\n|---|---|")
    benches = {
        "silhouette": bench_silhouette,
        "assignment": bench_assignment,
        "k256": lambda z: bench_one_k(z, 256),
        "k1000": lambda z: bench_one_k(z, 1000),
        "sweep": bench_sweep,
    }
    for name in sys.argv[1:] or benches:
        benches[name](z)


if __name__ == "__main__":
    main()
