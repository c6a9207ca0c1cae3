"""The end of a stage that wrote many small files: few files of a handy size, and no orphans."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clusterlib.stages.session import Session
from clusterlib.stages.streaming import commit_stream, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.compact import compact_files, plan_compaction
from clusterlib.tables.protocol import CommittedFile


def compact_table(session: Session, table: CommittedTable, datasets: Sequence[str]) -> None:
    """Compact a complete table and delete what no commit names any more.

    Every file that is rewritten is compared with its checksum, counts and row ids first. A kill
    leaves some groups compacted and others not, all of them visible once.

    Raises:
        DamagedArtifactError: a file is not what was committed.
    """
    groups = [group for dataset in datasets for group in plan_compaction(table, dataset)]
    if groups:
        session.start_ray()
        changes = run_tasks(_compact_group, len(groups), root=table.root, groups=groups)
        commit_stream(table, changes, every_seconds=0, on_commit=lambda _: None)
    if table.has_written:
        table.delete_orphans(datasets)


def _compact_group(
    batch: dict[str, Any], *, root: str, groups: list[list[CommittedFile]]
) -> dict[str, list[str]]:
    change = compact_files(root, groups[int(batch["id"][0])])
    return {"change": [json.dumps(change.to_json())]}
