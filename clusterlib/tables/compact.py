"""Compaction: many small files become few of a size that stores and readers like."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pyarrow as pa

from clusterlib.tables.committed import CommittedTable, write_file
from clusterlib.tables.protocol import CommittedFile, Replacement
from clusterlib.tables.verify import check_file

TARGET_BYTES = 32 * 2**20
# Below this many small files there is nothing to gain.
MIN_FILES = 32


def plan_compaction(
    table: CommittedTable,
    dataset: str,
    *,
    target_bytes: int = TARGET_BYTES,
    min_files: int = MIN_FILES,
) -> list[list[CommittedFile]]:
    """Groups of neighbouring files that make one file of about `target_bytes` each."""
    groups: list[list[CommittedFile]] = []
    size = target_bytes
    for file in table.files(dataset):
        if size + file.entry.bytes > target_bytes:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.entry.bytes
    groups = [group for group in groups if len(group) > 1]
    return groups if sum(len(group) for group in groups) >= min_files else []


def compact_files(root: str, files: Sequence[CommittedFile]) -> Replacement:
    """Write the rows of `files`, by row id, as one file; called by workers.

    Raises:
        DamagedArtifactError: a file is not what was committed.
    """
    started_at = time.time()
    rows = pa.concat_tables([check_file(root, file) for file in files])
    written = write_file(root, files[0].entry.dataset, rows.sort_by("row_id"))
    return Replacement(tuple(file.entry.path for file in files), (written,), (), started_at)
