"""How well groups agree with labels at the true number of classes, for every method and recipe.

    python -m benchmarks.clustering_groups                groups and spaces, of every set
    python -m benchmarks.clustering_groups groups stamps  one table of one set

The sets are those of cluster_sets.py. Labels judge; nothing is fitted to them. The published
recipes run on the same embeddings; those on UMAP need the extra clusterlib[bench].
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from typing import get_args

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from benchmarks import cluster_sets
from clusterlib.clustering.assign import assign
from clusterlib.clustering.families import Method, prepare
from clusterlib.clustering.kmeans import normalized
from clusterlib.clustering.model import (
    build_model,
    micro_below_centroids,
    micro_inside_clusters,
)
from clusterlib.clustering.space import Space, fit_space
from clusterlib.config import ClusteringConfig

DEFAULTS = ClusteringConfig()
METHODS: tuple[Method, ...] = get_args(Method)
SEEDS = {"digits": 5}  # of other sets 3
SPACES = (
    ("PCA-32, whitened", 32, "whitened"),
    ("PCA-64, whitened", 64, "whitened"),
    ("PCA-64, partial", 64, "partial"),
    ("PCA-64, centered", 64, "centered"),
)


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


def bench_spaces(name: str, x: np.ndarray, y: np.ndarray, *, k: int) -> None:
    """AMI of the sampled rows themselves at the true k in other spaces, mean of 3 seeds."""
    print(f"\n{name}, AMI at k={k}:\n\n| space | kmeans | manifold |\n|---|---|---|")
    for label, dim, scaling in SPACES:
        space = fit_space(x, dim=dim, scaling=scaling)
        z = space.transform(x)
        cells = []
        for method in ("kmeans", "manifold"):
            found = [
                prepared(z, method, k_max=DEFAULTS.k_max, seed=seed, space=space).fit_at(k)
                for seed in range(3)
            ]
            ami = statistics.mean(adjusted_mutual_info_score(y, f.cluster_ids_N) for f in found)
            cells.append(f"{ami:.3f}")
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


SETS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray] | None]] = {
    "digits": cluster_sets.digits,
    "pixels": cluster_sets.pixels,
    "stamps": cluster_sets.stamps,
    "letters": cluster_sets.letters,
    "letter_pixels": cluster_sets.letter_pixels,
}


def main() -> None:
    """Print the tables that are asked for."""
    tables = [t for t in ("groups", "spaces") if t in sys.argv[1:]] or ["groups", "spaces"]
    for name in [n for n in SETS if n in sys.argv[1:]] or SETS:
        found = SETS[name]()
        if found is None:
            print(f"\n{name}: not installed here")
            continue
        x, y = found
        k = len(np.unique(y))
        if "groups" in tables:
            bench_groups(name, x, y, k=k, seeds=SEEDS.get(name, 3))
        if "spaces" in tables:
            bench_spaces(name, x, y, k=k)


if __name__ == "__main__":
    main()
