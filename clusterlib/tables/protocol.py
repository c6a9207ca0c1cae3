"""The exactly-once protocol, pure: what is committed, what may be committed, what is missing.

Workers propose files that settle ranges of row ids; the driver accepts a proposal only when none of
its rows is settled yet. A replacement exchanges committed files for others: compaction keeps every
row, a release gives rows back so that they are done again. The state is the fold of the commit log,
so any two readers of the same log agree. No I/O happens here.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from sys import intern
from typing import Any

from clusterlib.tables.ranges import Ranges, RowSet, rows_in, subtract


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One data file."""

    dataset: str
    path: str  # relative to the table's root
    rows: int
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"dataset": self.dataset} | {name: getattr(self, name) for name in _FILE_FIELDS}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FileEntry:
        """Raises KeyError or TypeError for anything that is no file entry."""
        return FileEntry(intern(data["dataset"]), *(data[name] for name in _FILE_FIELDS))


_FILE_FIELDS = ("path", "rows", "bytes", "sha256")


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one worker call has written and not yet made visible.

    `ranges` are the half-open row-id ranges it settles, whichever dataset each row went to.
    """

    files: tuple[FileEntry, ...]
    ranges: Ranges
    started_at: float  # Unix time on the worker's clock

    @property
    def rows(self) -> int:
        return rows_in(self.ranges)

    def to_json(self) -> dict[str, Any]:
        return {
            "files": [file.to_json() for file in self.files],
            "ranges": self.ranges,
            "started_at": self.started_at,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Proposal:
        return Proposal(
            files=tuple(FileEntry.from_json(file) for file in data["files"]),
            ranges=tuple((int(start), int(stop)) for start, stop in data["ranges"]),
            started_at=float(data["started_at"]),
        )


@dataclass(frozen=True, slots=True)
class Replacement:
    """Committed files of one dataset that are exchanged for others.

    The new files hold the rows of the removed ones, less the rows in `release`, which are settled
    no longer.
    """

    remove: tuple[str, ...]  # paths
    files: tuple[FileEntry, ...]
    release: Ranges
    started_at: float

    def to_json(self) -> dict[str, Any]:
        return {
            "remove": self.remove,
            "files": [file.to_json() for file in self.files],
            "release": self.release,
            "started_at": self.started_at,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Replacement:
        return Replacement(
            remove=tuple(str(path) for path in data["remove"]),
            files=tuple(FileEntry.from_json(file) for file in data["files"]),
            release=tuple((int(start), int(stop)) for start, stop in data["release"]),
            started_at=float(data["started_at"]),
        )


Change = Proposal | Replacement


def change_from_json(data: Mapping[str, Any]) -> Change:
    """What `to_json` of either kind of change has made."""
    return Replacement.from_json(data) if "remove" in data else Proposal.from_json(data)


@dataclass(frozen=True, slots=True)
class CommittedFile:
    """A visible file and the row ids that its rows are among."""

    entry: FileEntry
    ranges: Ranges


@dataclass
class LogState:
    """The fold of a commit log: settled rows and the files that hold them."""

    rows: int
    committed: RowSet = field(default_factory=RowSet)
    files: dict[str, CommittedFile] = field(default_factory=dict)  # by path
    counts: Counter[str] = field(default_factory=Counter)  # visible rows of each dataset
    last_commit: int = 0
    releases: int = 0  # how often settled rows were given back

    @property
    def is_complete(self) -> bool:
        """Whether every row is settled."""
        return len(self.committed) == self.rows

    def missing(self) -> Ranges:
        """The rows that are not settled."""
        return self.committed.missing(self.rows)

    def admissible(self, changes: Iterable[Change]) -> list[Change]:
        """The changes that may be committed together, in order.

        A proposal may settle only rows that nobody has settled; a replacement may remove only
        visible files, must account for every one of their rows, and may release settled rows only.
        """
        taken, replaced = RowSet(), set[str]()
        accepted: list[Change] = []
        for change in changes:
            if isinstance(change, Proposal):
                if self._may_add(change) and not taken.overlaps(change.ranges):
                    taken.add(change.ranges)
                    accepted.append(change)
            elif self._may_replace(change) and replaced.isdisjoint(change.remove):
                replaced.update(change.remove)
                accepted.append(change)
        return accepted

    def apply(self, number: int, entry: Sequence[Change] | None) -> None:
        """Take commit `number` into the state; `None` is a void (torn) entry."""
        if number != self.last_commit + 1:
            raise ValueError(f"commit {number} does not follow {self.last_commit}")
        self.last_commit = number
        for change in self.admissible(entry or ()):
            if isinstance(change, Proposal):
                self.committed.add(change.ranges)
                self._add_files(change.files, change.ranges)
            else:
                self._apply_replacement(change)

    def _may_add(self, proposal: Proposal) -> bool:
        in_bounds = all(0 <= a < b <= self.rows for a, b in proposal.ranges)
        if not (in_bounds and proposal.ranges) or self.committed.overlaps(proposal.ranges):
            return False
        return len(proposal.ranges) == 1 or len(RowSet(proposal.ranges)) == proposal.rows

    def _may_replace(self, change: Replacement) -> bool:
        if not change.remove or any(path not in self.files for path in change.remove):
            return False
        removed = [self.files[path].entry for path in change.remove]
        names = {entry.dataset for entry in (*removed, *change.files)}
        released = RowSet(change.release)
        kept = sum(e.rows for e in removed) - sum(e.rows for e in change.files)
        return (
            len(names) == 1
            and len(set(change.remove)) == len(removed)
            and kept == len(released) == rows_in(change.release)
            and self.committed.covers(change.release)
        )

    def _apply_replacement(self, change: Replacement) -> None:
        covered = RowSet()
        for path in change.remove:
            old = self.files.pop(path)
            self.counts[old.entry.dataset] -= old.entry.rows
            covered.add(old.ranges)
        self._add_files(change.files, covered.ranges)
        if change.release:
            self.releases += 1
            self.committed.remove(change.release)
            # Every dataset of a block names the same ranges: none may claim a released row still.
            for path, file in self.files.items():
                left = subtract(file.ranges, change.release)
                if left != file.ranges:
                    self.files[path] = CommittedFile(file.entry, left)

    def _add_files(self, files: Iterable[FileEntry], ranges: Ranges) -> None:
        for entry in files:
            self.files[entry.path] = CommittedFile(entry, ranges)
            self.counts[entry.dataset] += entry.rows


def encode_entry(changes: Sequence[Change], *, writer: str) -> bytes:
    """A commit entry as JSON. `writer` is unique to the writing process."""
    body: dict[str, Any] = {"writer": writer, "add": [], "replace": []}
    for change in changes:
        body["add" if isinstance(change, Proposal) else "replace"].append(change.to_json())
    return json.dumps(body, separators=(",", ":")).encode()


def decode_entry(data: bytes) -> list[Change] | None:
    """The changes of a commit entry, or None when the file is torn and therefore void."""
    try:
        return _changes(json.loads(data))
    except (ValueError, KeyError, TypeError):
        return None


def encode_segment(entries: Sequence[bytes]) -> bytes:
    """Consecutive commit entries as one file; a void one becomes null."""
    kept = [entry if decode_entry(entry) is not None else b"null" for entry in entries]
    return b'{"entries":[' + b",\n".join(kept) + b"]}"


def decode_segment(data: bytes) -> list[list[Change] | None] | None:
    """What `encode_segment` has packed, or None when the file is torn."""
    try:
        entries = json.loads(data)["entries"]
        return [None if entry is None else _changes(entry) for entry in entries]
    except (ValueError, KeyError, TypeError):
        return None


def _changes(body: Mapping[str, Any]) -> list[Change]:
    return [
        *(Proposal.from_json(item) for item in body["add"]),
        *(Replacement.from_json(item) for item in body.get("replace", ())),
    ]
