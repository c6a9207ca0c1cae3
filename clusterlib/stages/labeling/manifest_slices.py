"""The catalogue in slices, each joined with what became of its rows: for manifests and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clusterlib import storage
from clusterlib.catalog.frozen import read_rows
from clusterlib.manifests import flat
from clusterlib.stages.streaming import batches, run_tasks, split_ranges
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.schemas import ASSIGNMENTS, QUARANTINE


@dataclass(frozen=True)
class RowSlice:
    """Consecutive catalogue rows and the files that say what became of them."""

    start: int
    stop: int
    assignments: tuple[str, ...]
    quarantine: tuple[str, ...]
    embeddings: tuple[str, ...]


def row_slices(
    embeddings: CommittedTable, assigned: CommittedTable, *, rows_per_slice: int
) -> list[RowSlice]:
    """The catalogue cut into slices, each with the committed files that overlap it."""
    slices = split_ranges(((0, embeddings.state.rows),), rows_per_slice)
    found = [
        _by_slice(table, dataset, len(slices), rows_per_slice)
        for table, dataset in (
            (assigned, "assignments"),
            (embeddings, "quarantine"),
            (embeddings, "embeddings"),
        )
    ]
    return [
        RowSlice(start, stop, *(tuple(files[n]) for files in found))
        for n, (start, stop) in enumerate(slices)
    ]


def _by_slice(
    table: CommittedTable, dataset: str, slices: int, rows_per_slice: int
) -> list[list[str]]:
    """For each slice, the files of `dataset` that overlap it."""
    found: list[list[str]] = [[] for _ in range(slices)]
    for file in table.files(dataset):
        touched = {
            number
            for start, stop in file.ranges
            for number in range(start // rows_per_slice, (stop - 1) // rows_per_slice + 1)
        }
        for number in touched:
            found[number].append(table.uri(file))
    return found


def read_manifest(catalog: str, part: RowSlice) -> pa.Table:
    """The manifest rows of one slice."""
    sizes = [_rows_within(uri, part, ["row_id", "width", "height"]) for uri in part.embeddings]
    none = pa.table({n: pa.array([], pa.int64()) for n in ("row_id", "width", "height")})
    return flat.join(
        read_rows(catalog, part.start, part.stop),
        read_assignments(part),
        _read_all(part.quarantine, QUARANTINE),
        pa.concat_tables(sizes) if sizes else none,
    )


def read_assignments(part: RowSlice) -> pa.Table:
    """The assignments of the slice's files, in no order; those of other rows are among them."""
    return _read_all(part.assignments, ASSIGNMENTS)


def read_vectors(part: RowSlice, *, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Row ids (N,), ascending, and embeddings (N, D) of embedded rows start...stop-1."""
    piece = RowSlice(start, stop, (), (), part.embeddings)
    tables = [_rows_within(uri, piece, ["row_id", "embedding"]) for uri in part.embeddings]
    if not tables:
        return np.empty(0, dtype=np.int64), np.empty((0, 0), dtype=np.float32)
    table = pa.concat_tables(tables).sort_by("row_id").combine_chunks()
    vectors = table["embedding"].combine_chunks()
    x_ND = vectors.flatten().to_numpy(zero_copy_only=False)
    return table["row_id"].to_numpy(), x_ND.reshape(table.num_rows, vectors.type.list_size)


def map_slices(function: Any, slices: list[RowSlice], **kwargs: Any) -> int:
    """Run `function(batch, slices=..., **kwargs)` once a slice; returns the sum of its `rows`."""
    return sum(int(np.sum(b["rows"])) for b in iter_slices(function, slices, **kwargs))


def iter_slices(function: Any, slices: list[RowSlice], **kwargs: Any) -> Iterator[dict[str, Any]]:
    """Run `function(batch, slices=..., **kwargs)` once a slice; its results as they come."""
    yield from batches(run_tasks(function, len(slices), slices=slices, **kwargs))


def _rows_within(uri: str, part: RowSlice, columns: list[str]) -> pa.Table:
    """Rows of a file whose ids lie in the slice; row groups without any are not read."""
    with storage.open_input(uri) as handle:
        file = pq.ParquetFile(handle)
        column = file.schema_arrow.get_field_index("row_id")
        groups = []
        for group in range(file.num_row_groups):
            bounds = file.metadata.row_group(group).column(column).statistics
            if bounds is None or (bounds.min < part.stop and bounds.max >= part.start):
                groups.append(group)
        table = file.read_row_groups(groups, columns=columns)
    ids = table["row_id"]
    return table.filter(pc.and_(pc.greater_equal(ids, part.start), pc.less(ids, part.stop)))


def _read_all(uris: tuple[str, ...], schema: pa.Schema) -> pa.Table:
    tables = [read_parquet(uri) for uri in uris]
    return pa.concat_tables(tables) if tables else schema.empty_table()
