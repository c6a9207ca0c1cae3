"""The clusters in words and numbers: sums, profiles, picks and labels of their rows.

One distributed scan over the narrow assignment files returns small partial sums and picks, which
merge into `clusters.parquet`, `agreement.json` and `confusion.json`; rows never come to the driver.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clusterlib import storage
from clusterlib.catalog.frozen import read_rows
from clusterlib.clustering.agreement import agreement, confusion
from clusterlib.clustering.assign import assign
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.picks import ALL_KINDS, diverse_rows, row_hash, top_per_cluster
from clusterlib.clustering.silhouette import PROFILE_BINS, profile_quantiles, silhouette_profile
from clusterlib.run import Fit
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.clusters.scan_embeddings import vectors
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import encode_parquet, read_parquet
from clusterlib.tables.schemas import CLUSTERS

_SUMS = ("size", "distance", "silhouette", "negative", "outliers")
# A confusion matrix larger than this would be no file for people any more.
MAX_CONFUSION_CELLS = 2_000_000


def agreement_uri(fit: Fit) -> str:
    """Where the agreement with labels is kept."""
    return storage.join(fit.uri, "agreement.json")


def confusion_uri(fit: Fit) -> str:
    """Where the confusion matrix is kept."""
    return storage.join(fit.uri, "confusion.json")


@dataclass
class _Merged:
    """What the partial results of the scan have come to."""

    sums_SK: np.ndarray
    profile_KB: np.ndarray
    picks: dict[str, pa.Table | None] = field(default_factory=lambda: dict.fromkeys(ALL_KINDS))
    labels: Counter[tuple[int, str]] = field(default_factory=Counter)


def describe(
    session: Session, fit: Fit, embeddings: CommittedTable, table: CommittedTable, *, k: int
) -> None:
    """Write `clusters.parquet`, and with labels `agreement.json` and `confusion.json`."""
    paths = [table.uri(file) for file in table.files("assignments")]
    merged = _Merged(np.zeros((len(_SUMS), k)), np.zeros((k, PROFILE_BINS), dtype=np.int64))
    partials = run_tasks(
        _describe_file,
        len(paths),
        paths=paths,
        k=k,
        seed=session.config.seed,
        diverse=_diverse(embeddings, read_model(fit.model), seed=session.config.seed),
        catalog=session.run.catalog if session.catalog().has_labels else None,
    )
    for batch in batches(partials):
        for sums, profile, picks, labels in zip(
            *(batch[name] for name in ("sums", "profile", "picks", "labels")), strict=True
        ):
            merged.sums_SK += np.array(json.loads(sums))
            merged.profile_KB += np.frombuffer(profile, dtype=np.int64).reshape(k, PROFILE_BINS)
            _merge_picks(merged.picks, _unpack(picks))
            merged.labels.update({(int(c), text): n for c, text, n in json.loads(labels)})
    if merged.labels:
        _write_agreement(fit, merged.labels, k=k)
    storage.write_bytes(fit.clusters, encode_parquet(_clusters_table(merged, k=k)))


def _merge_picks(picks: dict[str, pa.Table | None], new: pa.Table) -> None:
    for kind in ALL_KINDS:
        part = new.filter(pc.equal(new["kind"], kind))
        old = picks[kind]
        picks[kind] = _top(part if old is None else pa.concat_tables([old, part]))


def _write_agreement(fit: Fit, labels: Counter[tuple[int, str]], *, k: int) -> None:
    names = sorted({label for _, label in labels})
    counts_CL = _contingency(labels, names, k=k)
    storage.write_json(agreement_uri(fit), asdict(agreement(counts_CL)))
    if counts_CL.size <= MAX_CONFUSION_CELLS:
        storage.write_json(confusion_uri(fit), asdict(confusion(counts_CL, labels=names)))


def _diverse(
    embeddings: CommittedTable, model: ClusterModel, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Row ids of the sample that show how different the images of each cluster are; their ranks."""
    parts = []
    for table in embeddings.read("sample", ["row_id", "embedding"]):
        x_ND = vectors(table)
        found = assign(x_ND, model)
        parts.append(
            (
                model.space.transform(x_ND.astype(np.float32)),
                found.cluster_ids_N,
                found.distances_N,
                found.is_outlier_N,
                table["row_id"].to_numpy(),
            )
        )
    if not parts:
        return np.empty(0, dtype=np.int64), np.empty(0)
    z_NP, ids_N, distances_N, is_outlier_N, row_ids_N = map(
        np.concatenate, zip(*parts, strict=True)
    )
    chosen = diverse_rows(
        z_NP,
        ids_N,
        distances_N=distances_N,
        is_outlier_N=is_outlier_N,
        row_ids_N=row_ids_N,
        seed=seed + 2,
    )
    ranks = [np.arange(len(rows), dtype=np.float64) for rows in chosen]
    return np.concatenate(chosen), np.concatenate(ranks)


def _describe_file(
    batch: dict[str, np.ndarray],
    *,
    paths: list[str],
    k: int,
    seed: int,
    diverse: tuple[np.ndarray, np.ndarray],
    catalog: str | None,
) -> dict[str, list[Any]]:
    table = read_parquet(paths[int(batch["id"][0])])
    ids = table["cluster_id"].to_numpy()
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
    picks = _picks(table.filter(pa.array(inside)), seed=seed, diverse=diverse)
    return {
        "sums": [json.dumps(sums)],
        "profile": [silhouette_profile(silhouette, ids, k=k).tobytes()],
        "picks": [_pack(picks)],
        "labels": [json.dumps(_label_counts(table, catalog))],
    }


def _picks(table: pa.Table, *, seed: int, diverse: tuple[np.ndarray, np.ndarray]) -> pa.Table:
    ids, rows = (table[name].to_numpy() for name in ("cluster_id", "row_id"))
    scores = {
        "nearest": table["distance"].to_numpy().astype(np.float64),
        "boundary": table["margin"].to_numpy().astype(np.float64),
        "random": row_hash(rows, seed=seed + 1),
    }
    chosen = {kind: top_per_cluster(ids, score, rows) for kind, score in scores.items()}
    order = np.argsort(rows, kind="stable")
    wanted, ranks = diverse
    places = np.searchsorted(rows[order], wanted)
    found = places < len(rows)
    found[found] = rows[order][places[found]] == wanted[found]
    chosen["diverse"] = order[places[found]]
    scores["diverse"] = np.zeros(len(rows))
    scores["diverse"][chosen["diverse"]] = ranks[found]
    parts = []
    for kind in ALL_KINDS:
        taken = pa.array(chosen[kind])
        part = table.select(["cluster_id", "row_id", "image_id", "uri"]).take(taken)
        part = part.append_column("score", pa.array(scores[kind]).take(taken))
        parts.append(part.append_column("kind", pa.array([kind] * len(taken), pa.string())))
    return pa.concat_tables(parts)


def _label_counts(table: pa.Table, catalog: str | None) -> list[list[Any]]:
    """Cluster, label and number of rows, where the catalogue has labels."""
    ids, row_ids = (table[name].to_numpy() for name in ("cluster_id", "row_id"))
    counts: Counter[tuple[int, str]] = Counter()
    if catalog is not None and len(row_ids):
        first, last = int(row_ids.min()), int(row_ids.max())
        labels = read_rows(catalog, first, last + 1, ["label"])["label"].to_pylist()
        named = ((int(c), labels[r - first]) for c, r in zip(ids, row_ids, strict=True))
        counts.update((cluster, label) for cluster, label in named if label is not None)
    return [[cluster, label, n] for (cluster, label), n in counts.items()]


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


def _clusters_table(merged: _Merged, *, k: int) -> pa.Table:
    picked: dict[str, list[list[dict[str, Any]]]] = {
        kind: [[] for _ in range(k)] for kind in ALL_KINDS
    }
    for kind, table in merged.picks.items():
        for row in table.to_pylist() if table is not None else ():
            entry = {name: row[name] for name in ("row_id", "image_id", "uri")}
            picked[kind][row["cluster_id"]].append(entry)
    majority: dict[int, tuple[str | None, int]] = {}
    for (cluster, name), count in sorted(merged.labels.items()):
        if count > majority.get(cluster, (None, 0))[1]:
            majority[cluster] = (name, count)
    quantiles_KQ = profile_quantiles(merged.profile_KB)
    rows = []
    for cluster in range(k):
        values = dict(zip(_SUMS, merged.sums_SK[:, cluster], strict=True))
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
                **{kind: picked[kind][cluster] for kind in ALL_KINDS},
                "silhouette_quantiles": quantiles_KQ[cluster].tolist(),
                "silhouette_histogram": merged.profile_KB[cluster].tolist(),
            }
        )
    return pa.Table.from_pylist(rows, schema=CLUSTERS)


def _contingency(labels: Counter[tuple[int, str]], names: list[str], *, k: int) -> np.ndarray:
    columns = {name: index for index, name in enumerate(names)}
    counts = np.zeros((k + 1, len(names)), dtype=np.int64)  # noise, -1, is the last row
    for (cluster, label), count in labels.items():
        counts[cluster, columns[label]] = count
    return counts
