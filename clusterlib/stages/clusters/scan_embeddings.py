"""Scans over all embeddings: which task reads which file, and the sums behind an exact PCA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.clustering.space import Moments, moments
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.protocol import CommittedFile
from clusterlib.tables.ranges import Ranges, RowSet, contains

ROWS_PER_TASK = 50_000


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


def vectors(table: pa.Table) -> np.ndarray:
    """The embeddings, (N, D) as they are stored."""
    column = table["embedding"].combine_chunks()
    x_ND: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return x_ND.reshape(table.num_rows, column.type.list_size)


def gather_moments(
    session: Session, embeddings: CommittedTable, *, origin_D: np.ndarray
) -> Moments:
    """The moments of all embeddings about `origin_D`; only sums come to the driver."""
    groups = group_files(
        embeddings.files("embeddings"), RowSet([(0, embeddings.state.rows)]).ranges
    )
    partials = run_tasks(
        _sum_moments, len(groups), groups=groups, root=session.run.uri, origin_D=origin_D
    )
    total = moments(np.empty((0, len(origin_D))), origin_D=origin_D)
    for batch in batches(partials):
        for packed in batch["moments"]:
            total.add(Moments.from_bytes(packed))
    return total


def _sum_moments(
    batch: dict[str, np.ndarray],
    *,
    groups: list[tuple[list[str], Ranges]],
    root: str,
    origin_D: np.ndarray,
) -> dict[str, list[bytes]]:
    paths, ranges = groups[int(batch["id"][0])]
    total = moments(np.empty((0, len(origin_D))), origin_D=origin_D)
    for path in paths:
        rows = read_parquet(storage.join(root, path), ["row_id", "embedding"])
        mine = contains(ranges, rows["row_id"].to_numpy())
        total.add(moments(vectors(rows)[mine], origin_D=origin_D))
    return {"moments": [total.to_bytes()]}
