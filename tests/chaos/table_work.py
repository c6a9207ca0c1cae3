"""A job on a CommittedTable that does all a table can do, and what must hold after a kill."""

from __future__ import annotations

import time

import pyarrow as pa

from clusterlib import storage
from clusterlib.errors import DamagedArtifactError
from clusterlib.tables.committed import CommittedTable, write_file, write_proposal
from clusterlib.tables.compact import compact_files, plan_compaction
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.protocol import Proposal, Replacement
from clusterlib.tables.ranges import RowSet, ranges_of
from clusterlib.tables.verify import Conservation, check_file

ROWS = 24
PIECE = 4
DATASETS = ("good", "bad")
RELEASED = set(range(0, ROWS, 6))
BAD = set(range(0, ROWS, 3)) - RELEASED  # at the end


def open_table(root: str) -> CommittedTable:
    table = CommittedTable(root, log=storage.join(root, "commits"), rows=ROWS)
    table.open({"rows": ROWS})
    return table


def work(root: str) -> None:
    """Settle what is missing, give some rows back, settle them, compact, tidy up: resumable."""
    table = open_table(root)
    settle(table, piece=PIECE)
    if not table.state.releases:
        table.commit([release(table)])
        settle(table, piece=PIECE)
    for dataset in DATASETS:
        for group in plan_compaction(table, dataset, min_files=2):
            table.commit([compact_files(root, group)])
    table.delete_orphans(DATASETS)


def settle(table: CommittedTable, *, piece: int) -> None:
    """Propose every missing row, two pieces a commit."""
    pending: list[Proposal] = []
    for first, last in table.state.missing():
        for start in range(first, last, piece):
            ids = range(start, min(start + piece, last))
            pending.append(propose(table, ids))
            if len(pending) == 2:
                table.commit(pending)
                pending = []
    table.commit(pending)


def propose(table: CommittedTable, ids: range) -> Proposal:
    bad = BAD if table.state.releases else BAD | RELEASED
    tables = {
        "good": pa.table({"row_id": [row for row in ids if row not in bad]}),
        "bad": pa.table({"row_id": [row for row in ids if row in bad]}),
    }
    return write_proposal(
        table.root, tables, ranges=((ids.start, ids.stop),), started_at=time.time()
    )


def release(table: CommittedTable) -> Replacement:
    """All bad rows in one new file, but for those that are given back."""
    files = table.files("bad")
    ids = {row for f in files for row in read_parquet(table.uri(f))["row_id"].to_pylist()}
    kept = write_file(table.root, "bad", pa.table({"row_id": sorted(ids - RELEASED)}))
    freed = ranges_of(pa.array(sorted(ids & RELEASED), pa.int64()).to_numpy())
    return Replacement(tuple(f.entry.path for f in files), (kept,), freed, time.time())


def visible(root: str) -> dict[str, set[int]]:
    """The rows that a reader sees in each dataset; fails when anything visible is not committed."""
    reader = CommittedTable(root, log=storage.join(root, "commits"), rows=ROWS)
    reader.refresh()
    while True:
        known = reader.state.last_commit
        try:
            return seen_by(reader)
        except DamagedArtifactError:
            # Files that were exchanged for others meanwhile may be deleted, and no others.
            reader.refresh()
            assert reader.state.last_commit > known


def seen_by(reader: CommittedTable) -> dict[str, set[int]]:
    conservation = Conservation(reader.state.committed)
    found: dict[str, set[int]] = {}
    for dataset in DATASETS:
        found[dataset] = set()
        for file in reader.files(dataset):
            ids = check_file(reader.root, file)["row_id"].to_numpy()
            conservation.add(ranges_of(ids), origin=file.entry.path)
            found[dataset] |= set(ids.tolist())
    assert conservation.finish() == []
    return found


def check_finished(root: str, *, tidy: bool) -> None:
    """Every row once, in its place; if `tidy`, and no file beside."""
    assert visible(root) == {"good": set(range(ROWS)) - BAD, "bad": BAD}
    table = open_table(root)
    assert len(RowSet(table.state.committed.ranges)) == ROWS
    if tidy:
        named = {table.uri(file) for dataset in DATASETS for file in table.files(dataset)}
        folders = (storage.join(root, dataset) for dataset in DATASETS)
        assert {i.uri for f in folders for i in storage.list_files(f, hidden=True)} == named
