"""CommittedTable: Parquet files that become visible exactly once, through a commit log.

    {root}/{dataset}/part-<uuid>.parquet    written by workers, invisible until committed
    {log}/00000000.json                     header: the settings the table was made with
    {log}/00000001.json ...                 commits, each created only if absent

Readers follow commits, never listings: a retried worker or a dead driver leaves at most a file that
nobody reads.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clusterlib import storage
from clusterlib.errors import StaleArtifactError
from clusterlib.tables.protocol import (
    FileEntry,
    LogState,
    Proposal,
    Ranges,
    decode_entry,
    encode_entry,
)

ROW_GROUP_ROWS = 8_192
READ_THREADS = 16


class CommittedTable:
    """The driver's view of one commit log and the datasets it governs.

    Args:
        root: URI under which the data files lie.
        log: URI of the folder of commits.
        rows: Number of row ids that have to be settled.
    """

    def __init__(self, root: str, *, log: str, rows: int) -> None:
        self.root = root
        self._log = log
        self._writer = uuid.uuid4().hex
        self.state = LogState(rows)

    @property
    def is_complete(self) -> bool:
        """Whether every row is settled."""
        return len(self.state.committed) == self.state.rows

    def open(self, settings: Mapping[str, Any]) -> None:
        """Write the header, or compare it; then read the log.

        Raises:
            StaleArtifactError: the table was made with other settings, all of which are named.
        """
        header = self._entry_uri(0)
        body = json.dumps(dict(settings), indent=2, sort_keys=True).encode()
        if not storage.create_bytes(header, body):
            check_settings(storage.read_json(header) or {}, settings, where=self._log)
        self.refresh()

    def refresh(self) -> None:
        """Read the commits that are new since the last look."""
        present = {
            int(name.removesuffix(".json"))
            for name in (info.uri.rsplit("/", 1)[-1] for info in storage.list_files(self._log))
            if name.removesuffix(".json").isdigit()
        }
        numbers: list[int] = []
        while self.state.last_commit + len(numbers) + 1 in present:
            numbers.append(self.state.last_commit + len(numbers) + 1)
        with ThreadPoolExecutor(READ_THREADS) as pool:
            for number, data in zip(
                numbers,
                pool.map(lambda n: storage.read_bytes(self._entry_uri(n)), numbers),
                strict=True,
            ):
                self.state.apply(number, decode_entry(data))

    def commit(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Make proposals visible; returns those accepted.

        A proposal that overlaps what is committed is left out whole. When another driver took the
        next number first, its commit is read and the rest is checked again.
        """
        while True:
            accepted = self.state.admissible(proposals)
            if not accepted:
                return []
            number = self.state.last_commit + 1
            entry = encode_entry(accepted, writer=self._writer)
            if storage.create_bytes(self._entry_uri(number), entry):
                self.state.apply(number, accepted)
                return accepted
            winner = storage.read_bytes(self._entry_uri(number))
            self.state.apply(number, decode_entry(winner))

    def files(self, dataset: str) -> list[tuple[FileEntry, Ranges]]:
        """Committed files of `dataset` with the row ranges of their proposals, by first row."""
        found = [
            (file, proposal.ranges)
            for proposal in self.state.proposals
            for file in proposal.files
            if file.dataset == dataset
        ]
        return sorted(found, key=lambda item: item[1])

    def count(self, dataset: str) -> int:
        """Committed rows of `dataset`."""
        return self.state.counts[dataset]

    def read(self, dataset: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Every committed file of `dataset`, one table each, by first row."""
        uris = [storage.join(self.root, file.path) for file, _ in self.files(dataset)]
        with ThreadPoolExecutor(READ_THREADS) as pool:
            # A few at a time, so that what waits to be taken stays small.
            for start in range(0, len(uris), 2 * READ_THREADS):
                part = uris[start : start + 2 * READ_THREADS]
                yield from pool.map(lambda uri: read_parquet(uri, columns), part)

    def delete_orphans(self, datasets: Sequence[str]) -> int:
        """Delete the files of `datasets` that no commit names; returns how many.

        Only a complete table may: then no proposal can ever be accepted again, so what is not
        committed never will be, whoever wrote it.

        Raises:
            ValueError: rows are missing.
        """
        if not self.is_complete:
            raise ValueError("orphans of an unfinished table may still be proposed")
        deleted = 0
        for dataset in datasets:
            kept = {storage.join(self.root, file.path) for file, _ in self.files(dataset)}
            folder = storage.join(self.root, dataset)
            if not storage.exists(folder):
                continue
            for info in storage.list_files(folder):
                if info.uri not in kept:
                    storage.delete(info.uri)
                    deleted += 1
        return deleted

    def _entry_uri(self, number: int) -> str:
        return storage.join(self._log, f"{number:08d}.json")


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
    files = []
    name = f"part-{uuid.uuid4().hex}.parquet"
    for dataset, table in tables.items():
        if table.num_rows == 0:
            continue
        data = encode_parquet(table)
        path = f"{dataset}/{name}"
        storage.write_bytes(storage.join(root, path), data)
        digest = hashlib.sha256(data).hexdigest()
        files.append(FileEntry(dataset, path, table.num_rows, len(data), digest))
    return Proposal(tuple(files), ranges, started_at)


def encode_parquet(table: pa.Table) -> bytes:
    """`table` as Parquet: small row groups, no dictionary for vectors and pictures."""
    plain = {"embedding", "thumbnail"}
    dictionary = [name for name in table.schema.names if name not in plain]
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=ROW_GROUP_ROWS,
        use_dictionary=dictionary or False,
        compression="zstd",
    )
    return buffer.getvalue()


def read_parquet(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """One Parquet file, or some of its columns."""
    with storage.open_input(uri) as handle:
        return pq.ParquetFile(handle).read(columns=list(columns) if columns else None)


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
