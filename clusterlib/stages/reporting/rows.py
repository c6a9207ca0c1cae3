"""What a report needs of the rows: distributed scans that return small sums and the map's sample.

N: rows of a file, K: clusters, B: bins of a silhouette histogram.
"""

from __future__ import annotations

import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clusterlib import storage
from clusterlib.catalog.frozen import read_rows
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.picks import row_hash
from clusterlib.images.codes import CODES
from clusterlib.report.content import Rejects
from clusterlib.stages.embedding.source_reads import place_of
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet

BINS = 200
REJECTED_EXAMPLES = 25  # of each code
PLACES = 25
_SAMPLE = ("row_id", "image_id", "uri", "cluster_id", "distance", "is_outlier", "micro_id")


@dataclass(frozen=True)
class RowFacts:
    """Sums over all assigned rows, and the rows on the map, by row id."""

    histograms_KB: NDArray[np.int64]  # of silhouettes, -1 to 1
    labels: Counter[tuple[int, str]]
    noise: int
    sample: pa.Table  # _SAMPLE and label
    duplicates: dict[int, list[list[str]]]  # cluster -> groups of byte-identical sampled images


@dataclass(frozen=True)
class SampleRows:
    """Vectors in the space of the clusters and thumbnails of the map's rows, by row id."""

    z_NP: NDArray[np.float32]
    thumbnails: list[bytes]


def map_share(session: Session, rows: int) -> float:
    """The share of rows on the map: those with the lowest hash, so always part of the sample."""
    config = session.config
    return min(1.0, config.sample.rows / rows, config.report.map_points / rows)


def read_rows_facts(
    session: Session, assigned: CommittedTable, embeddings: CommittedTable, *, k: int
) -> RowFacts:
    """Scan the assignments, and the content hashes of the embeddings."""
    share = map_share(session, embeddings.state.rows)
    paths = [assigned.uri(file) for file in assigned.files("assignments")]
    catalog = session.run.catalog if session.catalog().has_labels else None
    options: dict[str, Any] = {"seed": session.config.seed, "share": share}
    histograms_KB = np.zeros((k, BINS), dtype=np.int64)
    labels: Counter[tuple[int, str]] = Counter()
    noise, parts = 0, []
    scanned = run_tasks(_scan_file, len(paths), paths=paths, k=k, catalog=catalog, **options)
    for batch in batches(scanned):
        for sums, label_counts, sample in zip(
            batch["histograms"], batch["labels"], batch["sample"], strict=True
        ):
            part_KB, unclustered = _unpack_histograms(bytes(sums), k)
            histograms_KB += part_KB
            noise += unclustered
            labels.update({(int(c), text): n for c, text, n in json.loads(label_counts)})
            parts.append(pa.ipc.open_stream(bytes(sample)).read_all())
    sample = pa.concat_tables(parts).sort_by("row_id")
    hashes: list[tuple[int, str]] = []
    paths = [embeddings.uri(file) for file in embeddings.files("embeddings")]
    for batch in batches(run_tasks(_scan_hashes, len(paths), paths=paths, **options)):
        hashes += zip(batch["row_id"].tolist(), batch["content_hash"].tolist(), strict=True)
    return RowFacts(histograms_KB, labels, noise, sample, _duplicates(sample, hashes))


def read_sample(
    session: Session, embeddings: CommittedTable, model: ClusterModel, row_ids: NDArray[np.int64]
) -> SampleRows:
    """Vectors and thumbnails of `row_ids` (ascending), file by file.

    Raises:
        ValueError: a row is not in the sample.
    """
    z_NP = np.zeros((len(row_ids), model.space.projection_DP.shape[1]), dtype=np.float32)
    thumbnails: list[bytes] = [b""] * len(row_ids)
    found = 0
    for file in embeddings.files("sample"):
        table = read_parquet(embeddings.uri(file))
        theirs = table["row_id"].to_numpy()
        mine = np.flatnonzero(np.isin(theirs, row_ids))
        table = table.take(pa.array(mine))
        places = np.searchsorted(row_ids, theirs[mine])
        vectors = table["embedding"].combine_chunks()
        x_ND = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(mine), -1)
        if len(mine):
            z_NP[places] = model.space.transform(x_ND.astype(np.float32, copy=False))
        for place, thumbnail in zip(places, table["thumbnail"], strict=True):
            thumbnails[place] = thumbnail.as_py()
        found += len(mine)
    if found != len(row_ids):
        raise ValueError(f"{len(row_ids) - found} rows of the map are not in the sample")
    return SampleRows(z_NP, thumbnails)


def read_rejects(embeddings: CommittedTable) -> Rejects:
    """Counts, examples and places of the quarantined rows; they are read once, as a stream."""
    codes: Counter[str] = Counter()
    places: Counter[str] = Counter()
    examples: dict[str, list[dict[str, Any]]] = defaultdict(list)
    retried = 0
    for table in embeddings.read("quarantine"):
        for row in table.to_pylist():
            codes[row["code"]] += 1
            retried += row["attempts"] > 1
            if row["uri"]:
                places[place_of(row["uri"])] += 1
            if len(examples[row["code"]]) < REJECTED_EXAMPLES:
                examples[row["code"]].append(row)
    return Rejects(
        by_code=dict(codes.most_common()),
        meanings={code: CODES.get(code, "") for code in codes},
        examples={code: examples[code] for code, _ in codes.most_common()},
        by_place=places.most_common(PLACES),
        retried=retried,
    )


def _scan_file(
    batch: dict[str, np.ndarray],
    *,
    paths: list[str],
    k: int,
    catalog: str | None,
    seed: int,
    share: float,
) -> dict[str, list[Any]]:
    table = read_parquet(paths[int(batch["id"][0])])
    ids_N = table["cluster_id"].to_numpy()
    row_ids_N = table["row_id"].to_numpy()
    bins_N = ((table["silhouette"].to_numpy().astype(np.float64) + 1) * (BINS / 2)).astype(np.int64)
    is_in = ids_N >= 0
    flat = ids_N[is_in].astype(np.int64) * BINS + bins_N[is_in].clip(0, BINS - 1)
    cells, counts = np.unique(flat, return_counts=True)
    packed = np.concatenate([[int((~is_in).sum())], cells, counts]).astype("<i8").tobytes()
    labels: list[str | None] = [None] * len(ids_N)
    if catalog is not None and len(row_ids_N):
        first, last = int(row_ids_N.min()), int(row_ids_N.max())
        known = read_rows(catalog, first, last + 1, ["label"])["label"].to_pylist()
        labels = [known[row - first] for row in row_ids_N]
    pairs = Counter(zip(ids_N.tolist(), labels, strict=True))
    counted = [[c, label, n] for (c, label), n in pairs.items() if label is not None and c >= 0]
    chosen = np.flatnonzero(row_hash(row_ids_N, seed=seed) < share)
    if "micro_id" not in table.column_names:
        table = table.append_column("micro_id", pa.array(np.full(len(ids_N), -1, np.int32)))
    sample = table.select(list(_SAMPLE)).take(pa.array(chosen))
    sample = sample.append_column("label", pa.array([labels[i] for i in chosen], pa.string()))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, sample.schema) as writer:
        writer.write_table(sample)
    return {"histograms": [packed], "labels": [json.dumps(counted)], "sample": [sink.getvalue()]}


def _unpack_histograms(data: bytes, k: int) -> tuple[NDArray[np.int64], int]:
    values = np.frombuffer(data, dtype="<i8")
    cells, counts = np.split(values[1:], 2)
    histograms_KB = np.zeros(k * BINS, dtype=np.int64)
    histograms_KB[cells] = counts
    return histograms_KB.reshape(k, BINS), int(values[0])


def _scan_hashes(
    batch: dict[str, np.ndarray], *, paths: list[str], seed: int, share: float
) -> dict[str, Any]:
    table = read_parquet(paths[int(batch["id"][0])], ["row_id", "content_hash"])
    chosen = np.flatnonzero(row_hash(table["row_id"].to_numpy(), seed=seed) < share)
    table = table.take(pa.array(chosen))
    return {
        "row_id": table["row_id"].to_numpy(),
        "content_hash": np.asarray(table["content_hash"].to_pylist(), dtype=object),
    }


def _duplicates(sample: pa.Table, hashes: list[tuple[int, str]]) -> dict[int, list[list[str]]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row_id, content in hashes:
        groups[content].append(row_id)
    several = [sorted(rows) for content, rows in groups.items() if len(rows) > 1 and content]
    row_ids = sample["row_id"].to_numpy()
    found: dict[int, list[list[str]]] = defaultdict(list)
    for rows in sorted(several):
        places = np.searchsorted(row_ids, rows)
        same = sample.take(pa.array(places))
        found[same["cluster_id"][0].as_py()].append(same["image_id"].to_pylist())
    return dict(found)


def read_table_if_there(uri: str) -> list[dict[str, Any]]:
    """Rows of a small Parquet file, none when it is not there."""
    return read_parquet(uri).to_pylist() if storage.exists(uri) else []
