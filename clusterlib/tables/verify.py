"""Proof that a table holds what its commit log says: checksums, counts, schemas, every row once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.errors import DamagedArtifactError
from clusterlib.tables.parquet import decode_parquet
from clusterlib.tables.protocol import CommittedFile
from clusterlib.tables.ranges import Ranges, RowSet, contains, rows_in, subtract


def check_file(
    root: str,
    file: CommittedFile,
    *,
    schema: pa.Schema | None = None,
    metadata: Mapping[str, str] | None = None,
) -> pa.Table:
    """The rows of a committed file, after comparing it with its entry.

    Args:
        root: URI under which the table's data files lie.
        file: What the log says of it.
        schema: Expected columns, footer metadata aside.
        metadata: Footer entries that must be there.

    Raises:
        DamagedArtifactError: it is gone, altered, or holds other rows than were committed.
    """
    uri = storage.join(root, file.entry.path)
    try:
        data = storage.read_bytes(uri)
    except FileNotFoundError:
        raise DamagedArtifactError(f"{uri}: committed, but not there") from None
    if hashlib.sha256(data).hexdigest() != file.entry.sha256:
        raise DamagedArtifactError(f"{uri}: its checksum is not the committed one")
    try:
        table = decode_parquet(data)
    except pa.ArrowException as error:
        raise DamagedArtifactError(f"{uri}: {error}") from None
    problem = _problem(table, file, schema, metadata or {})
    if problem:
        raise DamagedArtifactError(f"{uri}: {problem}")
    return table


def _problem(
    table: pa.Table, file: CommittedFile, schema: pa.Schema | None, metadata: Mapping[str, str]
) -> str | None:
    if table.num_rows != file.entry.rows:
        return f"{table.num_rows} rows, {file.entry.rows} were committed"
    row_ids = table["row_id"].to_numpy()
    if len(np.unique(row_ids)) != len(row_ids):
        return "a row id occurs twice"
    if not contains(file.ranges, row_ids).all():
        return "row ids outside the committed ranges"
    if schema is not None and not table.schema.remove_metadata().equals(schema):
        return f"columns {table.schema.names}, expected {schema.names}"
    footer = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    for key, value in metadata.items():
        if footer.get(key) != value:
            return f"its footer says {key}={footer.get(key)!r}, expected {value!r}"
    return None


@dataclass
class Conservation:
    """Whether each of the committed rows is in exactly one file, file by file."""

    committed: RowSet
    seen: RowSet = field(default_factory=RowSet)
    problems: list[str] = field(default_factory=list)

    def add(self, ranges: Ranges, *, origin: str) -> None:
        """Count the row ids of one file."""
        if self.seen.overlaps(ranges):
            self.problems.append(f"{origin}: holds rows that another file holds too")
        self.seen.add(ranges)

    def finish(self) -> list[str]:
        """Every problem, rows without a file and rows without a commit among them."""
        for name, rows in (
            ("committed rows are in no file", subtract(self.committed.ranges, self.seen.ranges)),
            ("rows are not committed", subtract(self.seen.ranges, self.committed.ranges)),
        ):
            if rows:
                shown = ", ".join(f"{start}-{stop - 1}" for start, stop in rows[:5])
                more = " ..." if len(rows) > 5 else ""
                self.problems.append(f"{rows_in(rows):,} {name}: {shown}{more}")
        return self.problems
