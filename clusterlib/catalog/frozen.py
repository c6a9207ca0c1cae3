"""The frozen catalogue: numbered rows in Parquet parts, written once, read by row range.

catalog/part-00000.parquet ...   100,000 rows each
catalog/catalog.json             written last: rows, digest, settings
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clusterlib import storage
from clusterlib.catalog.source import SourceBatch
from clusterlib.errors import InputError
from clusterlib.tables.parquet import encode_parquet
from clusterlib.tables.schemas import CATALOG, with_extra

ROWS_PER_PART = 100_000


@dataclass(frozen=True)
class CatalogInfo:
    """What `catalog.json` says: enough to know whether a run's catalogue is this one."""

    rows: int
    digest: str  # sha256 of every part, hex
    skipped: int
    has_labels: bool
    settings: dict[str, Any] = field(default_factory=dict)


def read_info(folder: str) -> CatalogInfo | None:
    """The finished catalogue's record, or None when there is none yet."""
    found = storage.read_json(storage.join(folder, "catalog.json"))
    return CatalogInfo(**found) if found else None


def freeze(
    batches: Iterable[SourceBatch], *, folder: str, settings: dict[str, Any], source: str
) -> CatalogInfo:
    """Number the rows, check the ids, write the parts and last the record.

    The duplicate check keeps eight bytes a row in memory.

    Raises:
        InputError: no rows, an empty id, or an id that occurs twice.
    """
    hashes: list[np.ndarray] = []
    digest = hashlib.sha256()
    rows = skipped = part = 0
    has_labels = False
    pending: list[pa.Table] = []

    def flush(limit: int) -> None:
        nonlocal part
        while pending and sum(t.num_rows for t in pending) >= limit:
            table = pa.concat_tables(pending, promote_options="permissive")
            pending.clear()
            if table.num_rows > ROWS_PER_PART:
                pending.append(table.slice(ROWS_PER_PART))
            try:
                data = encode_parquet(table.slice(0, ROWS_PER_PART))
            except pa.ArrowException as error:
                raise InputError(f"{source}: a column cannot be stored: {error}") from None
            digest.update(data)
            storage.write_bytes(_part_uri(folder, part), data)
            part += 1

    for batch in batches:
        skipped += batch.skipped
        if batch.rows == 0:
            continue
        table = _to_catalog(batch, first_row=rows)
        hashes.append(_hash_ids(table["image_id"]))
        has_labels = has_labels or table["label"].null_count < table.num_rows
        pending.append(table)
        rows += table.num_rows
        flush(ROWS_PER_PART)
    flush(1)
    if rows == 0:
        left_out = f" ({skipped} files of other kinds were left out)" if skipped else ""
        raise InputError(f"{source}: no images found{left_out}; check catalog.source")
    _refuse_duplicates(np.concatenate(hashes), folder)
    info = CatalogInfo(rows, digest.hexdigest(), skipped, has_labels, settings)
    storage.write_json(storage.join(folder, "catalog.json"), info.__dict__)
    return info


def is_intact(folder: str, info: CatalogInfo) -> bool:
    """Whether the parts are still the bytes that were frozen."""
    digest = hashlib.sha256()
    for part in range(-(-info.rows // ROWS_PER_PART)):
        try:
            digest.update(storage.read_bytes(_part_uri(folder, part)))
        except FileNotFoundError:
            return False
    return digest.hexdigest() == info.digest


def read_rows(folder: str, start: int, stop: int, columns: Sequence[str] | None = None) -> pa.Table:
    """Catalogue rows start...stop-1, in order."""
    tables = []
    for part in range(start // ROWS_PER_PART, (stop - 1) // ROWS_PER_PART + 1):
        first = part * ROWS_PER_PART
        with storage.open_input(_part_uri(folder, part)) as handle:
            file = pq.ParquetFile(handle)
            groups, skipped = _covering_groups(file, max(start - first, 0), stop - first)
            table = file.read_row_groups(groups, columns=list(columns) if columns else None)
        lo = max(start - first, 0) - skipped
        tables.append(table.slice(lo, min(stop - first, ROWS_PER_PART) - skipped - lo))
    return pa.concat_tables(tables, promote_options="permissive")


def take_rows(folder: str, row_ids: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
    """The catalogue rows of ascending `row_ids`, wherever they lie, in order.

    Raises:
        ValueError: there are none.
    """
    if len(row_ids) == 0:
        raise ValueError("take_rows needs at least one row id, got 0")
    tables = []
    for ids in np.split(row_ids, np.flatnonzero(np.diff(row_ids // ROWS_PER_PART)) + 1):
        start = int(ids[0])
        table = read_rows(folder, start, int(ids[-1]) + 1, columns)
        tables.append(table.take(pa.array(ids - start)))
    return pa.concat_tables(tables, promote_options="permissive")


def _covering_groups(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    groups, skipped, seen = [], 0, 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if seen + rows <= start:
            skipped += rows
        elif seen < stop:
            groups.append(group)
        seen += rows
    return groups, skipped


def _to_catalog(batch: SourceBatch, *, first_row: int) -> pa.Table:
    rows = batch.rows
    columns = {
        "row_id": pa.array(np.arange(first_row, first_row + rows, dtype=np.int64)),
        **batch.columns,
    }
    ids = columns["image_id"]
    if batch.ids_from_uri and ids.null_count:
        names = pa.array([f"row-{n}" for n in range(first_row, first_row + rows)])
        ids = columns["image_id"] = pc.coalesce(ids, names)
    if ids.null_count or pc.any(pc.equal(ids, "")).as_py():
        where = first_row + pc.index(pc.fill_null(ids, ""), "").as_py()
        raise InputError(
            f"catalogue row {where} has no image_id; fill the column named by catalog.id_column"
        )
    arrays = [columns.get(f.name, pa.nulls(rows, f.type)) for f in CATALOG]
    extra_type = None
    if batch.extra is not None:
        names = batch.extra.column_names
        values = [batch.extra[name].combine_chunks() for name in names]
        struct = pa.StructArray.from_arrays(values, names=names)
        arrays.append(struct)
        extra_type = struct.type
    return pa.Table.from_arrays(arrays, schema=with_extra(CATALOG, extra_type))


def _hash_ids(ids: pa.ChunkedArray) -> np.ndarray:
    hashed = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        for text in ids.to_pylist()
    ]
    return np.array(hashed, dtype=np.uint64)


def _refuse_duplicates(hashes: np.ndarray, folder: str) -> None:
    order = np.sort(hashes)
    suspects = set(order[1:][order[1:] == order[:-1]].tolist())
    if not suspects:
        return
    seen: set[str] = set()
    twice: list[str] = []
    for ids in _ids(folder, len(hashes)):
        for text, hashed in zip(ids.to_pylist(), _hash_ids(ids).tolist(), strict=True):
            if hashed not in suspects:
                continue
            if text in seen and text not in twice:
                twice.append(text)
            seen.add(text)
    if twice:
        shown = " and ".join(repr(text) for text in twice[:2])
        raise InputError(
            f"image ids must be unique, but {shown} occur{'s' * (len(twice) == 1)} more "
            "than once; name a unique column in catalog.id_column"
        )


def _ids(folder: str, rows: int) -> Iterator[pa.ChunkedArray]:
    for start in range(0, rows, ROWS_PER_PART):
        yield read_rows(folder, start, min(start + ROWS_PER_PART, rows), ["image_id"])["image_id"]


def _part_uri(folder: str, part: int) -> str:
    return storage.join(folder, f"part-{part:05d}.parquet")
