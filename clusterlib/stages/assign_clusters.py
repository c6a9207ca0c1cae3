"""Stage 4: one distributed scan gives every embedding its cluster; a second describes the clusters.

The second scan reads the narrow assignment files only and returns small partial sums and picks.
"""

from __future__ import annotations

import functools
import io
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clusterlib import storage
from clusterlib.catalog.frozen import read_rows
from clusterlib.clustering.agreement import Agreement, agreement
from clusterlib.clustering.assign import assign
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.picks import KINDS, row_hash, top_per_cluster
from clusterlib.clustering.statistics import ClusterSums, cluster_sums, empty_sums
from clusterlib.errors import InputError
from clusterlib.run import Fit
from clusterlib.stages.compact_table import compact_table
from clusterlib.stages.fit_clusters import read_record
from clusterlib.stages.model_files import read_model, statistics_uri
from clusterlib.stages.progress import StageProgress
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, commit_stream, run_tasks
from clusterlib.tables.committed import CommittedTable, write_proposal
from clusterlib.tables.parquet import encode_parquet, read_parquet
from clusterlib.tables.protocol import CommittedFile
from clusterlib.tables.ranges import Ranges, RowSet, contains
from clusterlib.tables.schemas import ASSIGNMENTS, CLUSTERS

ROWS_PER_TASK = 50_000


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
            _describe(session, fit, table, k=model["k"])
        assigned = table.count("assignments")
        progress.note(f"{assigned:,} images in {model['k']} clusters" + (", already" * already))
        facts.update(assigned=assigned, conserved=assigned == embeddings.count("embeddings"))
        score = read_agreement(fit)
        if score is not None:
            facts["agreement"] = score.__dict__


def read_agreement(fit: Fit) -> Agreement | None:
    """Agreement with the catalogue's labels, when it has some."""
    found = storage.read_json(_agreement_uri(fit))
    return Agreement(**found) if found else None


def _agreement_uri(fit: Fit) -> str:
    return storage.join(fit.uri, "agreement.json")


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
        total.add(cluster_sums(_vectors(rows)[mine], model))
    return {"sums": [total.to_bytes()]}


def group_files(
    files: Sequence[CommittedFile], missing: Ranges, *, rows_per_task: int = ROWS_PER_TASK
) -> list[tuple[list[str], Ranges]]:
    """Embedding files and the missing rows that each task settles with them.

    Every missing row is in exactly one group. The last has those of no file, since they were all
    quarantined.
    """
    groups: list[tuple[list[str], RowSet]] = []
    rest = RowSet(missing)
    for file in files:
        mine = rest.intersection(file.ranges)
        if not mine:
            continue
        if not groups or len(groups[-1][1]) >= rows_per_task:
            groups.append(([], RowSet()))
        groups[-1][0].append(file.entry.path)
        groups[-1][1].add(mine)
        rest.remove(mine)
    if rest:
        groups.append(([], rest))
    return [(paths, rows.ranges) for paths, rows in groups]


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


def _vectors(table: pa.Table) -> np.ndarray:
    """The embeddings, (N, D) as they are stored."""
    vectors = table["embedding"].combine_chunks()
    x_ND: np.ndarray = vectors.flatten().to_numpy(zero_copy_only=False)
    return x_ND.reshape(table.num_rows, vectors.type.list_size)


def _assign_file(table: pa.Table, model: ClusterModel) -> pa.Table:
    result = assign(_vectors(table), model)
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


_SUMS = ("size", "distance", "silhouette", "negative", "outliers")


def _describe(session: Session, fit: Fit, table: CommittedTable, *, k: int) -> None:
    """Merge per-file sums and picks into clusters.parquet; rows never travel to the driver."""
    paths = [table.uri(file) for file in table.files("assignments")]
    has_labels = session.catalog().has_labels
    partials = run_tasks(
        _describe_file,
        len(paths),
        paths=paths,
        k=k,
        seed=session.config.seed,
        catalog=session.run.catalog if has_labels else None,
    )
    sums = np.zeros((len(_SUMS), k))
    picks: dict[str, pa.Table | None] = dict.fromkeys(KINDS)
    labels: Counter[tuple[int, str]] = Counter()
    for batch in batches(partials):
        for packed_sums, packed_picks, packed_labels in zip(
            batch["sums"], batch["picks"], batch["labels"], strict=True
        ):
            sums += np.array(json.loads(packed_sums))
            merged = _unpack(packed_picks)
            for kind in KINDS:
                new = merged.filter(pc.equal(merged["kind"], kind))
                old = picks[kind]
                both = new if old is None else pa.concat_tables([old, new])
                picks[kind] = _top(both)
            labels.update({(int(c), text): n for c, text, n in json.loads(packed_labels)})
    clusters = _clusters_table(sums, picks, labels, k=k)
    if labels:
        score = agreement(_contingency(labels, k=k))
        storage.write_json(_agreement_uri(fit), score.__dict__)
    storage.write_bytes(fit.clusters, encode_parquet(clusters))


def _describe_file(
    batch: dict[str, np.ndarray], *, paths: list[str], k: int, seed: int, catalog: str | None
) -> dict[str, list[Any]]:
    table = read_parquet(paths[int(batch["id"][0])])
    ids = table["cluster_id"].to_numpy()
    row_ids = table["row_id"].to_numpy()
    silhouette = table["silhouette"].to_numpy()
    weights: tuple[np.ndarray | None, ...] = (
        None,
        table["distance"].to_numpy(),
        silhouette,
        silhouette < 0,
        table["is_outlier"].to_numpy(zero_copy_only=False),
    )
    inside = ids >= 0  # noise is in no cluster
    sums = [
        np.bincount(ids[inside], w if w is None else w[inside], minlength=k).tolist()
        for w in weights
    ]
    clustered = table.filter(pa.array(inside))
    clustered_ids, clustered_rows = (clustered[n].to_numpy() for n in ("cluster_id", "row_id"))
    scores = {
        "nearest": clustered["distance"].to_numpy().astype(np.float64),
        "boundary": clustered["margin"].to_numpy().astype(np.float64),
        "random": row_hash(clustered_rows, seed=seed + 1),
    }
    parts = []
    for kind in KINDS:
        chosen = pa.array(top_per_cluster(clustered_ids, scores[kind], clustered_rows))
        part = clustered.select(["cluster_id", "row_id", "image_id", "uri"]).take(chosen)
        part = part.append_column("score", pa.array(scores[kind]).take(chosen))
        parts.append(part.append_column("kind", pa.array([kind] * len(chosen))))
    counts: Counter[tuple[int, str]] = Counter()
    if catalog is not None and len(row_ids):
        first, last = int(row_ids.min()), int(row_ids.max())
        labels = read_rows(catalog, first, last + 1, ["label"])["label"].to_pylist()
        named = ((int(c), labels[r - first]) for c, r in zip(ids, row_ids, strict=True))
        counts.update((cluster, label) for cluster, label in named if label is not None)
    packed = [[cluster, label, n] for (cluster, label), n in counts.items()]
    return {
        "sums": [json.dumps(sums)],
        "picks": [_pack(pa.concat_tables(parts))],
        "labels": [json.dumps(packed)],
    }


def _top(table: pa.Table) -> pa.Table:
    chosen = top_per_cluster(
        table["cluster_id"].to_numpy(), table["score"].to_numpy(), table["row_id"].to_numpy()
    )
    return table.take(pa.array(chosen))


def _pack(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unpack(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all()


def _clusters_table(
    sums: np.ndarray, picks: dict[str, pa.Table | None], labels: Counter[tuple[int, str]], *, k: int
) -> pa.Table:
    picked: dict[str, list[list[dict[str, Any]]]] = {kind: [[] for _ in range(k)] for kind in KINDS}
    for kind, table in picks.items():
        for row in table.to_pylist() if table is not None else ():
            entry = {name: row[name] for name in ("row_id", "image_id", "uri")}
            picked[kind][row["cluster_id"]].append(entry)
    majority: dict[int, tuple[str | None, int]] = {}
    for (cluster, name), count in sorted(labels.items()):
        if count > majority.get(cluster, (None, 0))[1]:
            majority[cluster] = (name, count)
    rows = []
    for cluster in range(k):
        values = dict(zip(_SUMS, sums[:, cluster], strict=True))
        size = max(values["size"], 1)
        label, count = majority.get(cluster, (None, 0))
        rows.append(
            {
                "cluster_id": cluster,
                "size": int(values["size"]),
                "spread": values["distance"] / size,
                "silhouette": values["silhouette"] / size,
                "negative_share": values["negative"] / size,
                "outliers": int(values["outliers"]),
                "majority_label": label,
                "majority_share": count / size if label is not None else None,
                **{kind: picked[kind][cluster] for kind in KINDS},
            }
        )
    return pa.Table.from_pylist(rows, schema=CLUSTERS)


def _contingency(labels: Counter[tuple[int, str]], *, k: int) -> np.ndarray:
    names = {name: index for index, name in enumerate(sorted({label for _, label in labels}))}
    counts = np.zeros((k + 1, len(names)), dtype=np.int64)  # noise, -1, is the last row
    for (cluster, label), count in labels.items():
        counts[cluster, names[label]] = count
    return counts
