"""Read what people return: cluster_names.csv, or an export of Label Studio.

A group is a cluster, `7`, or a branch of its hierarchy, `7/412` (cluster and node).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from clusterlib.errors import InputError

PURITIES = ("pure", "mixed", "split", "junk")
_NAMES_COLUMNS = ("run_id", "fit_id", "cluster_id", "name")
_IMAGE_COLUMNS = ("run_id", "fit_id", "image_id")
# What our CSV puts before text that a spreadsheet would run.
_INERT = re.compile(r"'(?=[=+\-@\t\r])")


@dataclass(frozen=True)
class Answers:
    """What people said.

    `names` and `purities` are by group; `labels` by image id; `moves` are images that people put
    into a cluster, by image id, and get its name.
    """

    names: dict[str, str] = field(default_factory=dict)
    purities: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    moves: dict[str, int] = field(default_factory=dict)

    @property
    def image_ids(self) -> set[str]:
        return {*self.labels, *self.moves}

    def __or__(self, other: Answers) -> Answers:
        both = Answers(dict(self.names), dict(self.purities), dict(self.labels), dict(self.moves))
        for mine, theirs, what in (
            (both.names, other.names, "cluster"),
            (both.purities, other.purities, "cluster"),
            (both.labels, other.labels, "image"),
            (both.moves, other.moves, "image"),
        ):
            for key, value in theirs.items():
                _put(mine, key, value, what)  # type: ignore[arg-type]
        return both


def read_answers(data: bytes, *, run_id: str, fit_id: str, groups: Collection[str]) -> Answers:
    """The answers in a names sheet or in a Label Studio export (JSON, JSON_MIN or CSV).

    Rows of naming tasks and of image tasks may stand in one file. One name may serve many groups.

    Raises:
        InputError: another run's file, a missing column, an unknown cluster, or two answers to one
            question.
    """
    rows = _rows(data)
    answers = Answers()
    for row in rows:
        found = (_text(row.get("run_id")), _text(row.get("fit_id")))
        if found != (run_id, fit_id):
            raise InputError(
                f"names: made for run {found[0]} fit {found[1]}, but this is run {run_id} fit "
                f"{fit_id}; use its own manifests/cluster_names.csv"
            )
        if "image_id" in row:
            _take_image(answers, row, groups)
        else:
            _take_group(answers, row, groups)
    return answers


def fit_of(data: bytes) -> str | None:
    """The fit id that the first row of a file names, if there is one."""
    try:
        return next((_text(row.get("fit_id")) or None for row in _rows(data)), None)
    except InputError:
        return None  # read_answers says what is wrong


def fill_names(data: bytes, names: Mapping[int, str]) -> bytes:
    """The sheet `data` with `names` written into its name column."""
    reader = _reader(data)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(reader.fieldnames or ()), lineterminator="\r\n")
    writer.writeheader()
    for row in reader:
        writer.writerow(row | {"name": names.get(int(row["cluster_id"]), row["name"])})
    return text.getvalue().encode()


def _take_group(answers: Answers, row: Mapping[str, Any], groups: Collection[str]) -> None:
    group = _text(row["cluster_id"])
    if group not in groups:
        raise InputError(f"names: unknown cluster '{group}'; this fit has {_known(groups)}")
    name, purity = _text(row.get("name")), _text(row.get("purity")).lower()
    if purity and purity not in PURITIES:
        raise InputError(
            f"names: cluster {group} has purity '{purity}'; it is one of {', '.join(PURITIES)} or "
            "empty"
        )
    if name:
        _put(answers.names, group, name, "cluster")
    if purity:
        _put(answers.purities, group, purity, "cluster")


def _take_image(answers: Answers, row: Mapping[str, Any], groups: Collection[str]) -> None:
    image_id = str(row["image_id"])
    label, cluster = _text(row.get("label")), _text(row.get("cluster"))
    if label:
        _put(answers.labels, image_id, label, "image")
    elif cluster:
        group = str(int(cluster[8:])) if cluster[8:].isdecimal() else cluster
        if not cluster.startswith("cluster_") or group not in groups:
            raise InputError(
                f"names: image {image_id!r} was put into unknown cluster '{cluster}'; this fit has "
                f"{_known(groups)}"
            )
        _put(answers.moves, image_id, int(group), "image")  # type: ignore[arg-type]


def _put(into: dict[str, str], key: str, value: str, what: str) -> None:
    if into.setdefault(key, value) != value:
        raise InputError(
            f"names: {what} {key} is called both '{into[key]}' and '{value}'; keep one"
        )


def _known(groups: Collection[str]) -> str:
    clusters = sorted(int(group) for group in groups if group.isdecimal())
    return f"{clusters[0]} to {clusters[-1]}" if clusters else "none"


def _rows(data: bytes) -> list[dict[str, Any]]:
    """Rows of a sheet or export, one an answer, with what was shown and what was said."""
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start in (b"[", b"{"):
        return _json_rows(data)
    reader = _reader(data)
    try:
        rows: list[dict[str, Any]] = [dict(row) for row in reader if any(row.values())]
    except csv.Error as error:
        raise InputError(f"names: not a CSV file: {error}") from None
    columns = list(reader.fieldnames or ())
    if "image_id" not in columns:
        _require(columns, _NAMES_COLUMNS)
        return rows
    _require(columns, _IMAGE_COLUMNS)
    return [row | {"image_id": _INERT.sub("", row["image_id"] or "")} for row in rows]


def _json_rows(data: bytes) -> list[dict[str, Any]]:
    try:
        tasks = json.loads(data.decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"names: not a JSON file: {error}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise InputError("names: not an export of Label Studio: a JSON array of tasks is expected")
    rows = [row for task in tasks for row in _task_rows(task)]
    for row in rows:
        _require(row, ("run_id", "fit_id"))
        if "image_id" not in row:
            _require(row, ("cluster_id",))
    return rows


def _task_rows(task: dict[str, Any]) -> Iterable[dict[str, Any]]:
    if "annotations" not in task:  # JSON_MIN: what was shown and said, side by side
        yield task
        return
    for annotation in task["annotations"]:
        if annotation.get("was_cancelled"):
            continue
        said = {
            item["from_name"]: (item["value"].get("text") or item["value"].get("choices") or "")
            for item in annotation.get("result", ())
            if "from_name" in item
        }
        yield {**task.get("data", {}), **said}


def _require(columns: Collection[str], required: Collection[str]) -> None:
    missing = [column for column in required if column not in columns]
    if missing:
        raise InputError(
            f"names: the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing; start from manifests/cluster_names.csv"
        )


def _text(value: Any) -> str:
    """One answer as text; of several lines that a person entered, the first."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return "" if value is None else str(value).strip()


def _reader(data: bytes) -> csv.DictReader[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"names: not a UTF-8 CSV file: {error}") from None
    # Spreadsheets of many countries save with semicolons.
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
