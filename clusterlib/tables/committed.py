"""CommittedTable: Parquet files that become visible exactly once, through a commit log.

    {root}/{dataset}/part-<uuid>.parquet    written by workers, invisible until committed
    {log}/00000000.json                     header: the settings the table was made with
    {log}/00000001.json ...                 commits, each created only if absent, never changed
    {log}/segment-00000100.json ...         the last hundred commits in one file, for a quick start

Readers follow commits, never listings: a retried worker or a dead driver leaves at most a file that
nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa

from clusterlib import storage
from clusterlib.errors import DamagedArtifactError, InputError, StaleArtifactError
from clusterlib.tables.parquet import encode_parquet, read_parquet
from clusterlib.tables.protocol import (
    Change,
    CommittedFile,
    FileEntry,
    LogState,
    Proposal,
    decode_entry,
    decode_segment,
    encode_entry,
    encode_segment,
)
from clusterlib.tables.ranges import Ranges

T = TypeVar("T", bound=Change)
R = TypeVar("R")

READ_THREADS = 16
SEGMENT_COMMITS = 100
# A file that no commit names may be deleted once its proposal is too old to be accepted, with as
# much again for clocks that disagree.
PROPOSAL_AGE_S = 12 * 3600.0
ORPHAN_AGE_S = 2 * PROPOSAL_AGE_S

_NAME = re.compile(r"(segment-)?(\d{8})\.json")


class CommittedTable:
    """The driver's view of one commit log and the datasets it governs.

    Args:
        root: URI under which the data files lie.
        log: URI of the folder of commits.
        rows: Number of row ids that have to be settled.
        single_writer: The store cannot create a file only if it is absent, and the user vouches
            that no second job works on the run.
    """

    def __init__(self, root: str, *, log: str, rows: int, single_writer: bool = False) -> None:
        self.root = root
        self.log = log
        self.state = LogState(rows)
        self.has_written = False  # whether this driver has committed anything
        self._writer = uuid.uuid4().hex
        self._create = storage.replace_absent if single_writer else storage.create_bytes
        self._single_writer = single_writer
        self._recent: list[bytes] = []  # commits since the last full segment

    @property
    def is_complete(self) -> bool:
        """Whether every row is settled."""
        return self.state.is_complete

    def open(self, settings: Mapping[str, Any]) -> None:
        """Write the header, or compare it; then read the log.

        Raises:
            StaleArtifactError: the table was made with other settings, all of which are named.
            DamagedArtifactError: the header cannot be read.
            InputError: the store cannot create a file only if it is absent.
        """
        if not self._single_writer and not storage.can_create(self.log):
            raise InputError(
                f"{self.log}: this store cannot create a file only if it is absent, so that two "
                "jobs on one run would spoil it; make sure that there is only one, and set "
                "compute.single_writer=true"
            )
        header = self._entry_uri(0)
        body = json.dumps(dict(settings), indent=2, sort_keys=True).encode()
        if not self._create(header, body):
            check_settings(_read_header(header), settings, where=self.log)
        self.refresh()

    def refresh(self) -> None:
        """Read the commits that are new since the last look."""
        names = [_NAME.fullmatch(info.uri.rsplit("/", 1)[-1]) for info in self._listed()]
        present = {int(match[2]) for match in names if match and not match[1]}
        segments = {int(match[2]) for match in names if match and match[1]}
        number, last = self.state.last_commit, self.state.last_commit
        while last + 1 in present:
            last += 1
        plan: list[tuple[int, int]] = []  # first and last commit of each file to read
        while number < last:
            end = number + SEGMENT_COMMITS
            whole = number % SEGMENT_COMMITS == 0 and end in segments and end <= last
            plan.append((number + 1, end if whole else number + 1))
            number = plan[-1][1]
        for entries in _in_order(self._read_entries, plan):
            for entry in entries:
                self._take(*entry)

    def commit(self, changes: Sequence[T]) -> list[T]:
        """Make changes visible; returns those accepted.

        What overlaps the committed rows, or names a file that is gone, is left out whole; so is
        what is older than PROPOSAL_AGE_S, since its files may be deleted. When another driver took
        the next number first, its commit is read and the rest is checked again.
        """
        oldest = time.time() - PROPOSAL_AGE_S
        fresh = [change for change in changes if change.started_at > oldest]
        while True:
            accepted = self.state.admissible(fresh)
            if not accepted:
                return []
            number = self.state.last_commit + 1
            entry = encode_entry(accepted, writer=self._writer)
            if self._create(self._entry_uri(number), entry):
                self.has_written = True
                self._take(entry, accepted)
                self._write_segment()
                chosen = {id(change) for change in accepted}
                return [change for change in fresh if id(change) in chosen]
            winner = storage.read_bytes(self._entry_uri(number))
            self._take(winner, decode_entry(winner))
            self._write_segment()

    def files(self, dataset: str) -> list[CommittedFile]:
        """Committed files of `dataset`, by first row."""
        found = [file for file in self.state.files.values() if file.entry.dataset == dataset]
        return sorted(found, key=lambda file: file.ranges)

    def count(self, dataset: str) -> int:
        """Committed rows of `dataset`."""
        return self.state.counts[dataset]

    def uri(self, file: CommittedFile) -> str:
        """Where the file lies."""
        return storage.join(self.root, file.entry.path)

    def read(self, dataset: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Every committed file of `dataset`, one table each, by first row."""
        uris = [self.uri(file) for file in self.files(dataset)]
        yield from _in_order(lambda uri: read_parquet(uri, columns), uris)

    def delete_orphans(self, datasets: Sequence[str]) -> list[str]:
        """Delete the files of `datasets` that no commit names; returns their URIs.

        While rows are missing, only those are taken that are too old to be proposed any more. Of a
        complete table all are that were there when it was seen to be complete: what is written
        later may belong to rows that another driver has released since.
        """
        now = storage.now(self.root)
        self.refresh()
        limit = now if self.is_complete else now - ORPHAN_AGE_S
        kept = {self.uri(file) for file in self.state.files.values()}
        deleted = []
        for dataset in datasets:
            folder = storage.join(self.root, dataset)
            if not storage.exists(folder):
                continue
            for info in storage.list_files(folder, hidden=True):
                if info.modified < limit and info.uri not in kept:
                    storage.delete(info.uri)
                    deleted.append(info.uri)
        return deleted

    def _listed(self) -> Iterable[storage.FileInfo]:
        return storage.list_files(self.log) if storage.exists(self.log) else ()

    def _read_entries(
        self, span: tuple[int, int]
    ) -> list[tuple[bytes | None, list[Change] | None]]:
        first, last = span
        if last > first:
            entries = decode_segment(storage.read_bytes(self._segment_uri(last)))
            if entries is not None and len(entries) == SEGMENT_COMMITS:
                return [(None, entry) for entry in entries]
        datas = [storage.read_bytes(self._entry_uri(number)) for number in range(first, last + 1)]
        return [(data, decode_entry(data)) for data in datas]

    def _take(self, data: bytes | None, entry: Sequence[Change] | None) -> None:
        self.state.apply(self.state.last_commit + 1, entry)
        if self.state.last_commit % SEGMENT_COMMITS == 1:
            self._recent.clear()
        if data is not None:
            self._recent.append(data)

    def _write_segment(self) -> None:
        """Pack a hundred commits that have just become full; whoever is first."""
        full = self.state.last_commit % SEGMENT_COMMITS == 0
        if full and len(self._recent) == SEGMENT_COMMITS:
            self._create(self._segment_uri(self.state.last_commit), encode_segment(self._recent))

    def _entry_uri(self, number: int) -> str:
        return storage.join(self.log, f"{number:08d}.json")

    def _segment_uri(self, last: int) -> str:
        return storage.join(self.log, f"segment-{last:08d}.json")


def write_proposal(
    root: str, tables: Mapping[str, pa.Table], *, ranges: Ranges, started_at: float
) -> Proposal:
    """Write each non-empty table as a fresh file of its dataset; called by workers.

    Args:
        root: URI under which the datasets lie.
        tables: Dataset name to rows.
        ranges: The row ids settled, over all datasets.
        started_at: Unix time at which the work began.
    """
    files = [
        write_file(root, dataset, table) for dataset, table in tables.items() if table.num_rows
    ]
    return Proposal(tuple(files), ranges, started_at)


def write_file(root: str, dataset: str, table: pa.Table) -> FileEntry:
    """Write `table` under a fresh name, invisible until a commit names it."""
    data = encode_parquet(table)
    path = f"{dataset}/part-{uuid.uuid4().hex}.parquet"
    storage.write_bytes(storage.join(root, path), data)
    return FileEntry(dataset, path, table.num_rows, len(data), hashlib.sha256(data).hexdigest())


def _read_header(uri: str) -> dict[str, Any]:
    try:
        return storage.read_json(uri) or {}
    except ValueError:
        raise DamagedArtifactError(
            f"{uri}: torn, so that nobody can tell which settings the files beside it were made "
            "with; choose a new run_uri, or delete this one file if you are sure that they are "
            "those of this configuration"
        ) from None


def check_settings(found: Mapping[str, Any], wanted: Mapping[str, Any], *, where: str) -> None:
    """Raise StaleArtifactError naming every setting in which `found` and `wanted` differ."""
    wanted = json.loads(json.dumps(dict(wanted)))
    keys = sorted(set(found) | set(wanted))
    differing = [
        f"{key}: the run has {found.get(key)!r}, the configuration says {wanted.get(key)!r}"
        for key in keys
        if found.get(key) != wanted.get(key)
    ]
    if differing:
        raise StaleArtifactError(
            f"{where} was made with other settings; {'; '.join(differing)}. "
            "Restore them, or choose a new run_uri."
        )


def _in_order(function: Callable[[Any], R], items: Sequence[Any]) -> Iterator[R]:
    """`function` of each item, a few at a time, so that what waits to be taken stays small."""
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for start in range(0, len(items), 2 * READ_THREADS):
            yield from pool.map(function, items[start : start + 2 * READ_THREADS])
