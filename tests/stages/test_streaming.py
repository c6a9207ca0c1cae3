"""What streams from workers is committed, also when the stream breaks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from clusterlib.errors import ConfigError
from clusterlib.stages.streaming import batches, commit_stream, run_tasks
from clusterlib.tables.committed import CommittedTable, write_proposal
from clusterlib.tables.protocol import Proposal


class Stream:
    """The one method of a dataset that is used, over batches made by hand."""

    def __init__(self, source: Iterator[dict[str, Any]]) -> None:
        self._source = source

    def iter_batches(self, *, batch_size: None) -> Iterator[dict[str, Any]]:
        return self._source


def open_table(folder: Path) -> CommittedTable:
    table = CommittedTable(str(folder), log=str(folder / "log"), rows=10)
    table.open({})
    return table


def test_what_came_before_a_break_is_committed(tmp_path: Path) -> None:
    import json

    table = open_table(tmp_path)
    seen: list[Proposal] = []

    def source() -> Iterator[dict[str, Any]]:
        for start in (0, 2):
            rows = pa.table({"row_id": [start, start + 1]})
            proposal = write_proposal(
                str(tmp_path), {"data": rows}, ranges=((start, start + 2),), started_at=time.time()
            )
            yield {"change": [json.dumps(proposal.to_json())]}
        raise RuntimeError("the cluster went away")

    with pytest.raises(RuntimeError, match="went away"):
        commit_stream(table, Stream(source()), every_seconds=3600, on_commit=seen.append)
    assert [p.ranges for p in seen] == [((0, 2),), ((2, 4),)]
    assert open_table(tmp_path).state.missing() == ((4, 10),)


def test_our_errors_come_back_as_themselves() -> None:
    def source() -> Iterator[dict[str, Any]]:
        yield {"x": 1}
        raise ray.exceptions.RayError("traceback ...\nclusterlib.errors.ConfigError: a: b\nmore")

    stream = batches(Stream(source()))
    assert next(stream) == {"x": 1}
    with pytest.raises(ConfigError, match="^a: b$"):
        next(stream)


def test_other_errors_stay_what_they_are() -> None:
    def source() -> Iterator[dict[str, Any]]:
        raise ray.exceptions.RayError("KeyError: 'x'")
        yield {}

    with pytest.raises(ray.exceptions.RayError, match="KeyError"):
        list(batches(Stream(source())))


def _triple(batch: dict[str, Any], *, factor: int) -> dict[str, Any]:
    assert len(batch["id"]) == 1
    return {"found": batch["id"] * factor}


@pytest.mark.parametrize("num_cpus", [0.5, 1])
def test_numbered_tasks_are_one_operator(ray_session: None, num_cpus: float) -> None:
    """As two, the numbers would compete with the work for the CPUs of a small machine."""
    tasks = run_tasks(_triple, 5, num_cpus=num_cpus, factor=3).materialize()
    assert sorted(tasks.to_pandas()["found"]) == [0, 3, 6, 9, 12]
    assert "Read_Numbers->MapBatches(_triple): 5 tasks executed" in tasks.stats()
