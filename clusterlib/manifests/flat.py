"""The canonical manifest: every catalogue row once, with its cluster or the reason it has none."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clusterlib.tables.parquet import encode_parquet
from clusterlib.tables.schemas import EXTRA, MANIFEST, with_extra

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
# Spreadsheets run a cell that begins with one of these (OWASP, "CSV Injection").
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def join(
    catalog: pa.Table, assignments: pa.Table, quarantine: pa.Table, sizes: pa.Table
) -> pa.Table:
    """One manifest row for each catalogue row, in catalogue order.

    Args:
        catalog: Consecutive catalogue rows.
        assignments: Assignments, those of other rows are ignored.
        quarantine: Quarantine rows, likewise.
        sizes: `row_id`, `width` and `height` of embedded images, likewise.
    """
    first = catalog["row_id"][0].as_py() if catalog.num_rows else 0
    extra_type = catalog.schema.field(EXTRA).type if EXTRA in catalog.column_names else None
    schema = with_extra(MANIFEST, extra_type)
    found = {
        **_spread(assignments, first, catalog.num_rows),
        **_spread(sizes.select(["row_id", "width", "height"]), first, catalog.num_rows),
        **_spread(quarantine.select(["row_id", "code"]), first, catalog.num_rows),
    }
    found["rejected"] = found.pop("code")
    arrays = [
        catalog[field.name] if field.name in catalog.column_names else found[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def parquet_bytes(manifest: pa.Table) -> bytes:
    """The manifest as Parquet."""
    return encode_parquet(manifest)


def csv_bytes(manifest: pa.Table) -> bytes:
    """The manifest as CSV; extra columns are named extra.<name>."""
    if EXTRA not in manifest.column_names:
        return table_csv(manifest)
    flat = pa.table({EXTRA: manifest[EXTRA]}).flatten()
    plain = manifest.drop_columns([EXTRA])
    for name in flat.column_names:
        plain = plain.append_column(name, flat[name])
    return table_csv(plain)


def table_csv(table: pa.Table) -> bytes:
    """A table as CSV.

    Text that a spreadsheet would run as a formula gets a leading apostrophe.
    """
    data: dict[str, list[Any]] = {name: table[name].to_pylist() for name in table.column_names}
    for field in table.schema:
        ours = not field.name.startswith(f"{EXTRA}.")
        if ours and pa.types.is_float32(field.type):  # more digits would be noise
            data[field.name] = [None if v is None else f"{v:.6g}" for v in data[field.name]]
    text = io.StringIO()
    # The writer quotes what its line ending has: after "\n" alone, a lone "\r" would end a row.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([inert(name) for name in data])
    for row in zip(*data.values(), strict=True):
        writer.writerow([inert(value) for value in row])
    return text.getvalue().encode()


def inert(value: Any) -> Any:
    """`value` as a cell that no spreadsheet takes for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS) and not _NUMBER.match(value):
        return "'" + value
    if isinstance(value, bool):
        return str(value).lower()
    return value


def _spread(table: pa.Table, first: int, rows: int) -> dict[str, pa.Array]:
    """Columns of `table` laid out over rows first...first+rows-1, null where it has no row."""
    offsets = table["row_id"].to_numpy() - first
    inside = np.flatnonzero((offsets >= 0) & (offsets < rows))
    index = np.full(rows, -1, dtype=np.int64)
    index[offsets[inside]] = inside
    take = pa.array(index, mask=index < 0)
    return {
        name: pc.take(table[name].combine_chunks(), take)
        for name in table.column_names
        if name != "row_id"
    }
