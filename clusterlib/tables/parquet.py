"""One table as one Parquet file that other readers open with ease."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from clusterlib import storage

ROW_GROUP_BYTES = 8 * 2**20
ROW_GROUP_ROWS = (1_024, 8_192)  # at least, at most
# Values that never repeat: a dictionary would only be thrown away again.
_PLAIN = {"embedding", "thumbnail"}


def encode_parquet(table: pa.Table) -> bytes:
    """`table` as Parquet: row groups of about 8 MiB, no dictionary for vectors and pictures."""
    least, most = ROW_GROUP_ROWS
    row_bytes = max(1, table.nbytes // max(1, table.num_rows))
    dictionary = [name for name in table.schema.names if name not in _PLAIN]
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=min(most, max(least, ROW_GROUP_BYTES // row_bytes)),
        use_dictionary=dictionary or False,
        compression="zstd",
    )
    return buffer.getvalue()


def decode_parquet(data: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file, its metadata kept.

    Raises:
        pyarrow.ArrowException: it is damaged.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read()


def read_parquet(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file, or some of its columns."""
    with storage.open_input(uri) as handle:
        return pq.ParquetFile(handle).read(columns=list(columns) if columns else None)


def read_schema(uri: str) -> pa.Schema:
    """The columns of one Parquet file and what its footer says of them."""
    with storage.open_input(uri) as handle:
        return pq.ParquetFile(handle).schema_arrow
