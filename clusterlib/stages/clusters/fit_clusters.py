"""Stage 3: on the driver, sweep k over the sample, choose one, and keep the model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.clustering.choice import Choice, choose_k
from clusterlib.clustering.euclidean import euclidean_silhouette
from clusterlib.clustering.families import Candidates, Method, method_for, prepare
from clusterlib.clustering.hierarchy import Hierarchy
from clusterlib.clustering.kernels import check_kernels
from clusterlib.clustering.kmeans import KMeansFit, check_faiss
from clusterlib.clustering.model import (
    ClusterModel,
    build_model,
    micro_below_centroids,
    micro_inside_clusters,
)
from clusterlib.clustering.resampling import Resampled, resampled_scores
from clusterlib.clustering.sizes import Resized, resized
from clusterlib.clustering.space import Space, fit_space, space_of
from clusterlib.clustering.sweep import KScore, k_grid, sweep
from clusterlib.config import ClusteringConfig, dump_yaml
from clusterlib.errors import ClusteringError
from clusterlib.run import Fit
from clusterlib.stages.clusters.model_files import write_hierarchy, write_model, write_variance
from clusterlib.stages.clusters.other_fit import take_over_fit
from clusterlib.stages.clusters.scan_embeddings import gather_moments
from clusterlib.stages.session import Session
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import encode_parquet
from clusterlib.tables.schemas import SWEEP

# A layout of so many takes long enough to say so beforehand.
SLOW_LAYOUT_ROWS = 20_000


def fit_clusters(session: Session) -> None:
    """Write `fits/<fit_id>/model/`, or keep the one that is there.

    Raises:
        InputError: the embeddings are not complete.
        ClusteringError: too few images for the k asked for.
    """
    with session.stage("fit_clusters") as (progress, facts):
        table, run_id = session.embeddings()
        fit = session.fit(run_id)
        record = read_record(fit)
        if record is None and session.config.clustering.fit_from is not None:
            record = take_over_fit(session, fit, run_id=run_id)
            progress.note(f"k={record['k']}, taken over from {record['fit_from']}")
        elif record is None:
            check_faiss()
            warning = check_kernels().warning
            if warning:
                session.screen.say(f"note: {warning}")
            x_ND = _read_sample(table)
            record = _fit(
                session,
                fit,
                x_ND,
                space=_space(session, table, x_ND),
                run_id=run_id,
                share=table.count("embeddings") / len(x_ND),
                on_k=lambda: progress.advance(1),
            )
            progress.note(
                f"k={record['k']} of {record['rows']:,} sampled images, {record['method']}"
            )
        else:
            progress.note(f"k={record['k']}, already fitted")
        facts.update(
            {key: record[key] for key in ("fit_id", "k", "reason", "coarse_k", "fine_k", "rows")}
        )


def read_record(fit: Fit) -> dict[str, Any] | None:
    """model.json of a finished fit, or None."""
    return storage.read_json(storage.join(fit.model, "model.json"))


def _read_sample(table: CommittedTable) -> np.ndarray:
    """The sample's embeddings, float32 (N, D), by row id."""
    parts = list(table.read("sample", ["row_id", "embedding"]))
    if not parts:
        raise ClusteringError("no image was embedded, so there is nothing to cluster")
    joined = pa.concat_tables(parts)
    order = np.argsort(joined["row_id"].to_numpy())
    vectors = joined["embedding"].combine_chunks()
    dim = vectors.type.list_size
    x_ND = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    return np.ascontiguousarray(x_ND[order], dtype=np.float32)


def _space(session: Session, table: CommittedTable, x_ND: np.ndarray) -> Space:
    """The space of the sample, or of all embeddings when the configuration wants it exact."""
    config = session.config.clustering
    if config.space == "sample" or len(x_ND) == table.count("embeddings"):
        return fit_space(x_ND, dim=config.pca_dim, scaling=config.scaling)
    session.start_ray()
    origin_D = x_ND.mean(axis=0, dtype=np.float64)
    found = gather_moments(session, table, origin_D=origin_D)
    return space_of(found, origin_D=origin_D, dim=config.pca_dim, scaling=config.scaling)


def _fit(
    session: Session,
    fit: Fit,
    x_ND: np.ndarray,
    *,
    space: Space,
    run_id: str,
    share: float,
    on_k: Callable[[], None],
) -> dict[str, Any]:
    config, seed = session.config.clustering, session.config.seed
    z_NP = space.transform(x_ND)
    ks = _ks(config, rows=len(z_NP))
    method = method_for(config.method, rows=len(z_NP))
    if method == "manifold" and len(z_NP) >= SLOW_LAYOUT_ROWS:
        session.screen.say(
            f"a layout of {len(z_NP):,} sampled images comes first: a second for each thousand "
            "on two cores; clustering.method=kmeans goes without"
        )
    candidates = prepare(
        z_NP,
        method=method,
        k_max=ks[-1],
        iterations=config.iterations,
        min_cluster_rows=config.min_cluster_rows,
        seed=seed,
        space=space,
    )
    results, rows = _sweep(candidates, ks, seed=seed, on_k=on_k)
    scores = [KScore(**{f.name: row[f.name] for f in fields(KScore)}) for row in rows.values()]
    choice, chosen = _choose(
        config, method, results, scores, least_stability=candidates.least_stability
    )
    sizes = _resized(config, candidates, chosen, share=share, seed=seed)
    chosen = sizes.fit
    estimate = euclidean_silhouette(candidates.rows_NP, chosen.cluster_ids_N, seed=seed)
    record = {
        "run_id": run_id,
        "fit_id": fit.fit_id,
        "method": method,
        "k": chosen.k,
        "reason": choice.reason + _of_sizes(sizes),
        "coarse_k": choice.coarse,
        "fine_k": choice.fine,
        "folded": sizes.folded,
        "split": sizes.split,
        "rows": len(z_NP),
        "dim": int(x_ND.shape[1]),
        "space_dim": int(z_NP.shape[1]),
        "explained_variance": round(float(space.explained_P.sum()), 4),
        "inertia": chosen.inertia,
        "euclidean_silhouette": asdict(estimate) if estimate else None,
        "settings": session.fit_settings(run_id),
    }
    model, hierarchy = _model(z_NP, candidates, chosen, space=space, share=share, seed=seed)
    write_model(fit.model, model)
    write_hierarchy(fit.model, hierarchy)
    write_variance(fit.model, space)
    by_k = [{name: rows[k][name] for name in SWEEP.names} for k in sorted(rows)]
    sweep_table = pa.Table.from_pylist(by_k, schema=SWEEP)
    storage.write_bytes(storage.join(fit.model, "sweep.parquet"), encode_parquet(sweep_table))
    storage.write_bytes(fit.config, dump_yaml(session.config).encode())
    storage.write_json(storage.join(fit.model, "model.json"), record)
    return record


def _sweep(
    candidates: Candidates, ks: list[int], *, seed: int, on_k: Callable[[], None]
) -> tuple[dict[int, tuple[KScore, KMeansFit]], dict[int, dict[str, Any]]]:
    """Fits by the k asked for; all scores by the k that came out: empty clusters are dropped."""
    started = time.monotonic()
    rows: dict[int, dict[str, Any]] = {}

    def on_score(score: KScore) -> None:
        nonlocal started
        rows.setdefault(score.k, asdict(score) | {"seconds": time.monotonic() - started})
        started = time.monotonic()
        on_k()

    ks = ks[:1] if candidates.chooses_k else ks
    results = sweep(candidates.rows_NP, ks, fit_at=candidates.fit_at, on_score=on_score)
    if not candidates.chooses_k:
        _add_resampled(rows, resampled_scores(candidates.rows_NP, ks, seed=seed))
    return results, rows


def _resized(
    config: ClusteringConfig, candidates: Candidates, chosen: KMeansFit, *, share: float, seed: int
) -> Resized:
    def sampled(size: float | None, otherwise: float) -> float:
        if size is None:
            return otherwise
        return size * len(candidates.rows_NP) if size < 1 else size / share

    if config.min_size is None and config.max_size is None:
        return Resized(chosen, 0, 0)
    return resized(
        candidates.rows_NP,
        chosen,
        smallest=sampled(config.min_size, 0),
        largest=sampled(config.max_size, np.inf),
        by_centroid=candidates.by_centroid,
        seed=seed,
    )


def _of_sizes(sizes: Resized) -> str:
    if not sizes.folded and not sizes.split:
        return ""
    return (
        f"; {sizes.folded} small clusters were folded into others and {sizes.split} large ones "
        f"split, which makes it {sizes.fit.k}"
    )


def _model(
    z_NP: np.ndarray,
    candidates: Candidates,
    chosen: KMeansFit,
    *,
    space: Space,
    share: float,
    seed: int,
) -> tuple[ClusterModel, Hierarchy]:
    micro_MP = candidates.micro.fit.centroids_KP
    if candidates.by_centroid:
        micro = micro_below_centroids(micro_MP, chosen.centroids_KP)
    else:
        micro = micro_inside_clusters(z_NP, chosen.cluster_ids_N, limit=len(micro_MP), seed=seed)
    return build_model(
        z_NP,
        chosen.cluster_ids_N,
        micro_MP=micro[0],
        micro_cluster_ids_M=micro[1],
        space=space,
        centroids_KP=chosen.centroids_KP if candidates.by_centroid else None,
        rows_per_sampled_row=share,
    )


def _add_resampled(rows: dict[int, dict[str, Any]], scores: dict[int, Resampled]) -> None:
    for row in rows.values():
        if row["asked"] in scores:
            row.update(asdict(scores[row["asked"]]))


def _ks(config: ClusteringConfig, *, rows: int) -> list[int]:
    ks = set(k_grid(config.k_min, config.k_max, count=config.k_count, rows=rows))
    if config.k != "auto":
        asked = {config.k} if isinstance(config.k, int) else set(config.k)
        if max(asked) > rows:
            raise ClusteringError(
                f"clustering.k={max(asked)}, but only {rows:,} images were sampled; lower "
                "clustering.k, or raise sample.rows when the catalogue has more"
            )
        ks = ks | asked if isinstance(config.k, int) else asked
    return sorted(ks)


def _choose(
    config: ClusteringConfig,
    method: Method,
    results: dict[int, tuple[KScore, KMeansFit]],
    scores: list[KScore],
    *,
    least_stability: float,
) -> tuple[Choice, KMeansFit]:
    if method in ("hdbscan", "dbscan"):
        fit = next(iter(results.values()))[1]
        return Choice(fit.k, f"k={fit.k} was found by {method}"), fit
    if isinstance(config.k, int):
        fit = results[config.k][1]
        fewer = "" if fit.k == config.k else f", of which {config.k - fit.k} stayed empty"
        return Choice(config.k, f"k={config.k} is set in the configuration{fewer}"), fit
    choice = choose_k(scores, least_stability=least_stability)
    return choice, next(fit for _, fit in results.values() if fit.k == choice.k)
