"""Ray Data in the two shapes that every stage uses: numbered tasks, and proposals to commit."""

from __future__ import annotations

import contextlib
import gc
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import ray
from ray.data import DataContext, Datasource, ReadTask
from ray.data.block import BlockMetadata

from clusterlib import errors
from clusterlib.errors import WorkersLostError
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.protocol import Change, change_from_json
from clusterlib.tables.ranges import Ranges

T = TypeVar("T")

COMMIT_PROPOSALS = 64
# Ray's own default retries a task or actor that crashes its process for ever.
MAX_RETRIES = 3
_LOST = (
    ray.exceptions.ActorDiedError,
    ray.exceptions.ActorUnavailableError,
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.WorkerCrashedError,
)
# An error of ours as the last line of a remote traceback: class and sentence.
_OUR_ERROR = re.compile(r"clusterlib\.errors\.(\w+): (.*)")


def run_tasks(
    function: Callable[..., Any], count: int, *, num_cpus: float = 1, **kwargs: Any
) -> Any:
    """A lazy dataset of `function(batch, **kwargs)` for each number 0...count-1 in `batch["id"]`.

    One task a number, so that what a task reads is decided here and not by block packing. Ray makes
    one operator of the numbers and the function, as long as both ask for the same and no batch size
    is named: as two they would share the CPUs, and on few cores the numbers would hold up the rest.
    """
    options = {"num_cpus": num_cpus, "max_retries": MAX_RETRIES}
    with _quiet():
        numbers = ray.data.read_datasource(
            _Numbers(count), override_num_blocks=count, ray_remote_args=options
        )
    return map_batches(numbers, function, batch_size=None, fn_kwargs=kwargs, **options)


class _Numbers(Datasource):  # type: ignore[misc]  # Ray is untyped here
    """0...count-1 in column `id`, a block each; `ray.data.range` takes no options of its tasks."""

    def __init__(self, count: int) -> None:
        self._count = count

    def estimate_inmemory_data_size(self) -> int:
        return 8 * self._count

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: DataContext | None = None,
    ) -> list[ReadTask]:
        facts = BlockMetadata(num_rows=1, size_bytes=8, input_files=None, exec_stats=None)
        schema = pa.schema([("id", pa.int64())])
        return [
            ReadTask(partial(_number, number), facts, schema=schema)
            for number in range(self._count)
        ]


def _number(number: int) -> list[pa.Table]:
    return [pa.table({"id": [number]})]


def run_once(function: Callable[..., T], *, options: dict[str, Any], **kwargs: Any) -> T:
    """`function(**kwargs)` on a worker that Ray finds by `options`, such as num_gpus.

    Raises:
        ClusterlibError: what it raised, without Ray's account of how it travelled.
        WorkersLostError: its process died more often than MAX_RETRIES allows.
    """
    task = ray.remote(function).options(max_retries=MAX_RETRIES, **options)
    try:
        result: T = ray.get(task.remote(**kwargs))
    except ray.exceptions.RayError as error:
        raise _plain(error) from None
    return result


def map_batches(dataset: Any, function: Any, **options: Any) -> Any:
    """`dataset.map_batches` that may bound retries."""
    with _quiet():
        return dataset.map_batches(function, **options)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray 2.60 calls max_retries, max_restarts and max_task_retries deprecated, and has no other
    way yet to say them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
        yield


def batches(dataset: Any) -> Iterator[dict[str, Any]]:
    """The dataset's batches as they come, one a block.

    Raises:
        ClusterlibError: what a worker raised, without Ray's account of how it travelled.
        WorkersLostError: workers died more often than MAX_RETRIES allows.
    """
    try:
        yield from dataset.iter_batches(batch_size=None)
    except ray.exceptions.RayError as error:
        # The failed execution holds its actors, and their GPUs, until it is collected.
        gc.collect()
        raise _plain(error) from None


def _plain(error: Exception) -> Exception:
    """What was raised on a worker, or that workers were lost; `error` itself if it is neither."""
    ours = _OUR_ERROR.search(str(error))
    if ours is not None:
        raised: Exception = getattr(errors, ours[1])(ours[2])
        return raised
    if isinstance(error, _LOST):
        reason = (str(error).strip().splitlines() or [""])[0]
        return WorkersLostError(f"{type(error).__name__}: {reason}")
    return error


def commit_stream(
    table: CommittedTable,
    changes: Any,
    *,
    every_seconds: float,
    on_commit: Callable[[Change], None],
    on_batch: Callable[[dict[str, Any]], None] = lambda batch: None,
) -> None:
    """Commit what workers propose in groups, the last ones also when the stream breaks.

    `changes` is a dataset with the JSON of one change a row, in column `change`; `on_batch` sees
    each of its batches.
    """
    pending: list[Change] = []
    last = time.monotonic()

    def flush() -> None:
        for accepted in table.commit(pending):
            on_commit(accepted)
        pending.clear()

    try:
        for batch in batches(changes):
            pending += [change_from_json(json.loads(text)) for text in batch["change"]]
            on_batch(batch)
            if len(pending) >= COMMIT_PROPOSALS or time.monotonic() - last >= every_seconds:
                flush()
                last = time.monotonic()
    finally:
        flush()


def split_ranges(ranges: Ranges, rows: int) -> list[tuple[int, int]]:
    """`ranges` cut into pieces of at most `rows` rows."""
    return [
        (start, min(start + rows, stop))
        for first, stop in ranges
        for start in range(first, stop, rows)
    ]
