"""How well k is chosen without labels, and how well groups agree with labels at a given k.

    make bench-cluster    prints the tables that stand in benchmarks/clustering.md

The sets are those of cluster_sets.py. Labels judge; nothing is fitted to them.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from benchmarks import cluster_sets
from clusterlib.clustering.assign import assign
from clusterlib.clustering.choice import choose_k
from clusterlib.clustering.families import Method, prepare
from clusterlib.clustering.kmeans import normalized
from clusterlib.clustering.model import (
    build_model,
    micro_below_centroids,
    micro_inside_clusters,
)
from clusterlib.clustering.resampling import resampled_scores
from clusterlib.clustering.space import Space, fit_space
from clusterlib.clustering.sweep import KScore, k_grid, sweep
from clusterlib.config import ClusteringConfig

SEEDS = 3
DEFAULTS = ClusteringConfig()


def scored(x: np.ndarray, y: np.ndarray | None, *, k_min: int, k_max: int, seed: int):
    """Scores of a sweep with the default settings, and the AMI with labels at each k."""
    z = fit_space(x, dim=DEFAULTS.pca_dim, scaling=DEFAULTS.scaling).transform(x)
    ks = k_grid(k_min, k_max, count=16, rows=len(z))
    found = prepared(z, "kmeans", k_max=ks[-1], seed=seed)
    results = sweep(z, ks, fit_at=found.fit_at)
    more = resampled_scores(z, ks, seed=seed)
    scores = [
        replace(score, **(more[k].__dict__ if k in more else {}))
        for k, (score, _) in results.items()
    ]
    if y is None:
        return scores, {}
    return scores, {
        fit.k: adjusted_mutual_info_score(y, fit.cluster_ids_N) for _, fit in results.values()
    }


def prepared(z: np.ndarray, method: Method, *, k_max: int, seed: int, space: Space | None = None):
    """`prepare` with the default settings."""
    return prepare(
        z,
        method=method,
        k_max=k_max,
        iterations=DEFAULTS.iterations,
        min_cluster_rows=DEFAULTS.min_cluster_rows,
        seed=seed,
        space=space,
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


def bench_choice(sets: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray | None]]]) -> None:
    """AMI at the chosen k over the best of the sweep, and how far that k is from the best."""
    print(
        "\nAMI at the chosen k over the best AMI of the sweep, and |log(k / best k)|, mean of 3:\n"
    )
    print("| set | " + " | ".join(CRITERIA) + " |\n|" + "---|" * (len(CRITERIA) + 1))
    for name, load in sets.items():
        shares: dict[str, list[float]] = {criterion: [] for criterion in CRITERIA}
        logs: dict[str, list[float]] = {criterion: [] for criterion in CRITERIA}
        clear = []
        for seed in range(SEEDS):
            x, y = load(seed)
            k_min, k_max = (8, 360) if name in cluster_sets.SYNTHETIC else (4, 64)
            scores, ami = scored(x, y, k_min=k_min, k_max=k_max, seed=seed)
            clear.append(choose_k(scores).is_clear)
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


def groups(x: np.ndarray, method: Method, *, k: int, seed: int) -> np.ndarray:
    """Clusters of all rows by the whole path: space, fit, micro-clusters, assignment."""
    space = fit_space(x, dim=DEFAULTS.pca_dim, scaling=DEFAULTS.scaling)
    z = space.transform(x)
    found = prepared(z, method, k_max=DEFAULTS.k_max, seed=seed, space=space)
    fit = found.fit_at(k)
    if found.by_centroid:
        micro = micro_below_centroids(found.micro.fit.centroids_KP, fit.centroids_KP)
    else:
        micro = micro_inside_clusters(z, fit.cluster_ids_N, limit=found.micro.fit.k, seed=seed)
    model, _ = build_model(
        z,
        fit.cluster_ids_N,
        micro_MP=micro[0],
        micro_cluster_ids_M=micro[1],
        space=space,
        centroids_KP=fit.centroids_KP if found.by_centroid else None,
    )
    return assign(x, model).cluster_ids_N


def recipes(x: np.ndarray, k: int, seed: int) -> dict[str, np.ndarray]:
    """What is published, on the same embeddings."""
    from sklearn.cluster import HDBSCAN, KMeans

    spaces = {
        "raw": x,
        "centred": normalized(x - x.mean(axis=0)),
        "whitened PCA-32": fit_space(x, dim=32, scaling="whitened").transform(x),
        "whitened PCA-64": fit_space(x, dim=64, scaling="whitened").transform(x),
    }
    found = {
        f"k-means, {name}": KMeans(k, n_init=10, random_state=seed).fit_predict(z)
        for name, z in spaces.items()
    }
    try:
        from umap import UMAP
    except ImportError:
        return found
    for name in ("centred", "whitened PCA-32", "whitened PCA-64"):
        mapped = UMAP(n_components=10, min_dist=0, metric="cosine", random_state=seed)
        z = mapped.fit_transform(spaces[name])
        found[f"UMAP-10 of {name}, k-means"] = KMeans(k, n_init=10, random_state=seed).fit_predict(
            z
        )
        found[f"UMAP-10 of {name}, HDBSCAN"] = HDBSCAN(min_cluster_size=10).fit_predict(z)
    return found


def bench_groups(name: str, x: np.ndarray, y: np.ndarray, *, k: int, seeds: int) -> None:
    """Agreement at the true k: ours with default settings, and the published recipes."""
    values: dict[str, list[np.ndarray]] = {}
    for seed in range(seeds):
        ours = {f"ours, {method}": groups(x, method, k=k, seed=seed) for method in METHODS}
        for label, ids in (ours | recipes(x, k, seed)).items():
            values.setdefault(label, []).append(ids)
    print(f"\n{name}, k={k}, {seeds} seeds:\n\n| recipe | NMI (range) | AMI |\n|---|---|---|")
    for label, runs in values.items():
        nmi = [normalized_mutual_info_score(y, ids) for ids in runs]
        ami = statistics.mean(adjusted_mutual_info_score(y, ids) for ids in runs)
        print(
            f"| {label} | {statistics.mean(nmi):.3f} ({min(nmi):.3f}-{max(nmi):.3f}) | {ami:.3f} |"
        )


METHODS: tuple[Method, ...] = ("kmeans", "manifold", "ward", "average", "hdbscan", "dbscan")


def main() -> None:
    """Print the tables."""
    digits, pixels, stamps = cluster_sets.digits(), cluster_sets.pixels(), cluster_sets.stamps()
    bench_groups("digits", *digits, k=10, seeds=5)
    bench_groups("pixels", *pixels, k=10, seeds=3)
    if stamps is not None:
        bench_groups("stamps", *stamps, k=len(np.unique(stamps[1])), seeds=3)
    sets: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray | None]]] = {
        "digits": lambda seed: digits,
        "pixels": lambda seed: pixels,
    }
    if stamps is not None:
        sets["stamps"] = lambda seed: stamps
    for name in cluster_sets.SYNTHETIC:
        sets[name] = lambda seed, name=name: cluster_sets.synthetic(name, seed=seed)
    sets["noise"] = lambda seed: (cluster_sets.noise(seed=seed), None)
    bench_choice(sets)


if __name__ == "__main__":
    main()
