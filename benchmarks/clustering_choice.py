"""How well k is chosen without labels.

    make bench-cluster    prints the tables that stand in benchmarks/clustering.md

The sets are those of cluster_sets.py. Labels judge; nothing is fitted to them.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from benchmarks import cluster_sets
from benchmarks.clustering_groups import DEFAULTS, prepared
from clusterlib.clustering.choice import choose_k
from clusterlib.clustering.families import Method
from clusterlib.clustering.resampling import resampled_scores
from clusterlib.clustering.space import fit_space
from clusterlib.clustering.sweep import KScore, k_grid, sweep

SEEDS = 3


def scored(
    x: np.ndarray, y: np.ndarray | None, *, method: Method, k_min: int, k_max: int, seed: int
):
    """Scores of a sweep with the default settings, what is chosen, and the AMI at each k."""
    space = fit_space(x, dim=DEFAULTS.pca_dim, scaling=DEFAULTS.scaling)
    z = space.transform(x)
    ks = k_grid(k_min, k_max, count=16, rows=len(z))
    found = prepared(z, method, k_max=ks[-1], seed=seed, space=space)
    results = sweep(found.rows_NP, ks, fit_at=found.fit_at)
    more = resampled_scores(found.rows_NP, ks, seed=seed)
    scores = [
        replace(score, **(more[k].__dict__ if k in more else {}))
        for k, (score, _) in results.items()
    ]
    choice = choose_k(scores, least_stability=found.least_stability)
    if y is None:
        return scores, choice, {}
    return (
        scores,
        choice,
        {fit.k: adjusted_mutual_info_score(y, fit.cluster_ids_N) for _, fit in results.values()},
    )


def one_error(scores: list[KScore]) -> int:
    """Tibshirani, Walther and Hastie: the first k whose gap the next one does not surely beat."""
    known = [s for s in scores if s.gap is not None]
    for here, later in zip(known, known[1:], strict=False):
        if here.gap >= later.gap - later.gap_se:
            return here.k
    return known[-1].k


def knee(scores: list[KScore]) -> int:
    """Satopaa et al., kneedle: the farthest below the chord of inertia over log k."""
    x = np.log([s.k for s in scores])
    y = np.array([s.inertia for s in scores])
    x, y = (x - x[0]) / (x[-1] - x[0]), (y - y[-1]) / (y[0] - y[-1])
    return scores[int(np.argmax(1 - x - y))].k


def best(name: str, sign: int = 1) -> Callable[[list[KScore]], int]:
    """The k with the largest (or, with sign -1, smallest) value of one score."""
    return lambda scores: (
        max(
            (s for s in scores if getattr(s, name) is not None),
            key=lambda s: sign * getattr(s, name),
        ).k
    )


CRITERIA: dict[str, Callable[[list[KScore]], int]] = {
    "ours": lambda scores: choose_k(scores).k,
    "silhouette": best("silhouette"),
    "Davies-Bouldin": best("davies_bouldin", -1),
    "Calinski-Harabasz": best("calinski_harabasz"),
    "gap, 1 s.e.": one_error,
    "stability": best("stability"),
    "knee": knee,
}


def bench_choice(
    sets: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray | None]]], method: Method
) -> None:
    """AMI at the chosen k over the best of the sweep, and how far that k is from the best."""
    print(
        f"\n{method}: AMI at the chosen k over the best of the sweep, |log(k / best k)|, "
        "mean of 3:\n"
    )
    print("| set | " + " | ".join(CRITERIA) + " |\n|" + "---|" * (len(CRITERIA) + 1))
    for name, load in sets.items():
        shares: dict[str, list[float]] = {criterion: [] for criterion in CRITERIA}
        logs: dict[str, list[float]] = {criterion: [] for criterion in CRITERIA}
        clear = []
        for seed in range(SEEDS):
            x, y = load(seed)
            k_min, k_max = (8, 360) if name in cluster_sets.SYNTHETIC else (4, 64)
            scores, choice, ami = scored(x, y, method=method, k_min=k_min, k_max=k_max, seed=seed)
            clear.append(choice.is_clear)
            if y is None:
                continue
            top = max(ami, key=lambda k: ami[k])
            for criterion, pick in CRITERIA.items():
                shares[criterion].append(ami[pick(scores)] / ami[top])
                logs[criterion].append(abs(math.log(pick(scores) / top)))
        if y is None:
            print(f"| {name} | " + ("never" if not any(clear) else "sometimes") + " a clear k |")
            continue
        cells = [
            f"{statistics.mean(shares[c]):.3f} / {statistics.mean(logs[c]):.2f}" for c in CRITERIA
        ]
        cells[0] += f" (worst {min(shares['ours']):.3f})"
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the table of each method asked for, or of kmeans and manifold."""
    digits, pixels, stamps = cluster_sets.digits(), cluster_sets.pixels(), cluster_sets.stamps()
    sets: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray | None]]] = {
        "digits": lambda seed: digits,
        "pixels": lambda seed: pixels,
    }
    if stamps is not None:
        sets["stamps"] = lambda seed: stamps
    for name in cluster_sets.SYNTHETIC:
        sets[name] = lambda seed, name=name: cluster_sets.synthetic(name, seed=seed)
    sets["noise"] = lambda seed: (cluster_sets.noise(seed=seed), None)
    for method in [m for m in ("kmeans", "manifold") if m in sys.argv[1:]] or [
        "kmeans",
        "manifold",
    ]:
        bench_choice(sets, method)


if __name__ == "__main__":
    main()
