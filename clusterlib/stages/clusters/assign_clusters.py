"""Stage 4: one distributed scan gives every embedding its cluster; a second describes the clusters.

The second scan reads the narrow assignment files only and returns small partial sums and picks.
"""

from __future__ import annotations

import functools
import json
import time

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.clustering.agreement import Agreement, Confusion
from clusterlib.clustering.assign import assign
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.statistics import ClusterSums, cluster_sums, empty_sums
from clusterlib.errors import InputError
from clusterlib.run import Fit
from clusterlib.stages.clusters.describe_clusters import agreement_uri, confusion_uri, describe
from clusterlib.stages.clusters.fit_clusters import read_record
from clusterlib.stages.clusters.model_files import read_model, statistics_uri
from clusterlib.stages.clusters.scan_embeddings import group_files, vectors
from clusterlib.stages.progress import StageProgress
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, commit_stream, run_tasks
from clusterlib.stages.upkeep.compact_table import compact_table
from clusterlib.tables.committed import CommittedTable, write_proposal
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.ranges import Ranges, RowSet, contains
from clusterlib.tables.schemas import ASSIGNMENTS


def assign_clusters(session: Session) -> None:
    """Write `assignments/` and `clusters.parquet` of the configured fit.

    Raises:
        InputError: there is no fit yet.
    """
    with session.stage("assign_clusters") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        model = read_record(fit)
        if model is None:
            raise InputError(f"{fit.uri}: no fit yet; run jobs.fit_clusters first")
        rows = embeddings.state.rows
        table = session.table(fit.uri, log=fit.assign_log, rows=rows)
        table.open(session.fit_settings(run_id))
        progress.total(rows, done=len(table.state.committed))
        already = table.is_complete and storage.exists(fit.clusters)
        if not table.is_complete:
            session.start_ray()
            exact = session.config.clustering.statistics == "exact"
            # A sample of all rows has their statistics already; a fit of another run keeps its own.
            if exact and "fit_from" not in model and model["rows"] < embeddings.count("embeddings"):
                _gather_statistics(session, fit, embeddings)
            _assign_missing(session, fit, embeddings, table, progress)
            compact_table(session, table, ("assignments",))
        if not already:
            session.start_ray()
            describe(session, fit, embeddings, table, k=model["k"])
        assigned = table.count("assignments")
        progress.note(f"{assigned:,} images in {model['k']} clusters" + (", already" * already))
        facts.update(assigned=assigned, conserved=assigned == embeddings.count("embeddings"))
        score = read_agreement(fit)
        if score is not None:
            facts["agreement"] = score.__dict__


def read_agreement(fit: Fit) -> Agreement | None:
    """Agreement with the catalogue's labels, when it has some."""
    found = storage.read_json(agreement_uri(fit))
    return Agreement(**found) if found else None


def read_confusion(fit: Fit) -> Confusion | None:
    """The confusion matrix, when the catalogue has labels (and clusters x labels stay bounded)."""
    found = storage.read_json(confusion_uri(fit))
    if not found:
        return None
    counts = tuple(tuple(row) for row in found.pop("counts"))
    return Confusion(counts=counts, **{name: tuple(value) for name, value in found.items()})


def _assign_missing(
    session: Session,
    fit: Fit,
    embeddings: CommittedTable,
    table: CommittedTable,
    progress: StageProgress,
) -> None:
    groups = group_files(embeddings.files("embeddings"), table.state.missing())
    proposals = run_tasks(
        _assign_group, len(groups), groups=groups, root=session.run.uri, fit_uri=fit.uri
    )
    commit_stream(
        table,
        proposals,
        every_seconds=session.config.compute.commit_seconds,
        on_commit=lambda _: progress.reach(len(table.state.committed)),
    )
    if not table.is_complete:
        raise InputError(f"{fit.uri}: some assignments are missing; run the same command again")


def _gather_statistics(session: Session, fit: Fit, embeddings: CommittedTable) -> None:
    """The first scan: sums of all rows by cluster; only sums come to the driver."""
    uri = statistics_uri(fit.model)
    if storage.exists(uri):
        return
    everything = RowSet([(0, embeddings.state.rows)]).ranges
    groups = group_files(embeddings.files("embeddings"), everything)
    partials = run_tasks(
        _sum_group, len(groups), groups=groups, root=session.run.uri, fit_uri=fit.uri
    )
    total = empty_sums(read_model(fit.model))
    for batch in batches(partials):
        for packed in batch["sums"]:
            total.add(ClusterSums.from_bytes(packed))
    storage.write_bytes(uri, total.to_bytes())


def _sum_group(
    batch: dict[str, np.ndarray],
    *,
    groups: list[tuple[list[str], Ranges]],
    root: str,
    fit_uri: str,
) -> dict[str, list[bytes]]:
    paths, ranges = groups[int(batch["id"][0])]
    model = _cached_model(storage.join(fit_uri, "model"))
    total = empty_sums(model)
    for path in paths:
        rows = read_parquet(storage.join(root, path), ["row_id", "embedding"])
        mine = contains(ranges, rows["row_id"].to_numpy())
        total.add(cluster_sums(vectors(rows)[mine], model))
    return {"sums": [total.to_bytes()]}


def _assign_group(
    batch: dict[str, np.ndarray],
    *,
    groups: list[tuple[list[str], Ranges]],
    root: str,
    fit_uri: str,
) -> dict[str, list[str]]:
    started_at = time.time()
    paths, ranges = groups[int(batch["id"][0])]
    model = _cached_model(storage.join(fit_uri, "model"))
    parts = []
    for path in paths:
        rows = read_parquet(storage.join(root, path), ["row_id", "image_id", "uri", "embedding"])
        # A file may hold rows that were assigned before it was made of others.
        mine = contains(ranges, rows["row_id"].to_numpy())
        parts.append(_assign_file(rows if mine.all() else rows.filter(pa.array(mine)), model))
    assigned = pa.concat_tables(parts) if parts else ASSIGNMENTS.empty_table()
    proposal = write_proposal(
        fit_uri, {"assignments": assigned}, ranges=ranges, started_at=started_at
    )
    return {"change": [json.dumps(proposal.to_json())]}


def _cached_model(model_uri: str) -> ClusterModel:
    # A worker process lives through both scans, and the model changes between them.
    return _read_once(model_uri, storage.exists(statistics_uri(model_uri)))


@functools.lru_cache(maxsize=1)
def _read_once(model_uri: str, has_statistics: bool) -> ClusterModel:
    return read_model(model_uri)


def _assign_file(table: pa.Table, model: ClusterModel) -> pa.Table:
    result = assign(vectors(table), model)
    return pa.Table.from_arrays(
        [
            table["row_id"],
            table["image_id"],
            table["uri"],
            pa.array(result.cluster_ids_N),
            pa.array(result.distances_N),
            pa.array(result.second_cluster_ids_N),
            pa.array(result.margins_N),
            pa.array(result.silhouettes_N),
            pa.array(result.is_outlier_N),
            pa.array(result.micro_ids_N),
        ],
        schema=ASSIGNMENTS,
    )
