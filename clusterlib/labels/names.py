"""Read cluster_names.csv as people return it."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping

from clusterlib.errors import InputError

_REQUIRED = ("run_id", "fit_id", "cluster_id", "name")


def read_names(
    data: bytes, *, run_id: str, fit_id: str, cluster_ids: Collection[int]
) -> dict[int, str]:
    """Cluster id to name; clusters without a name are left out. One name may serve many clusters.

    Raises:
        InputError: another run's sheet, a missing column, an unknown cluster, or two names for one.
    """
    reader = _reader(data)
    try:
        rows = [row for row in reader if any(row.values())]
    except csv.Error as error:
        raise InputError(f"names: not a CSV file: {error}") from None
    missing = [column for column in _REQUIRED if column not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"names: the column{'s' * (len(missing) > 1)} {', '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} missing; start from manifests/cluster_names.csv"
        )
    names: dict[int, str] = {}
    for row in rows:
        found = (row["run_id"], row["fit_id"])
        if found != (run_id, fit_id):
            raise InputError(
                f"names: made for run {found[0]} fit {found[1]}, but this is run {run_id} fit "
                f"{fit_id}; use its own manifests/cluster_names.csv"
            )
        cluster = _known_cluster(row["cluster_id"], cluster_ids)
        name = (row["name"] or "").strip()
        if not name:
            continue
        if names.get(cluster, name) != name:
            raise InputError(
                f"names: cluster {cluster} is called both '{names[cluster]}' and '{name}'; keep one"
            )
        names[cluster] = name
    return names


def fill_names(data: bytes, names: Mapping[int, str]) -> bytes:
    """The sheet `data` with `names` written into its name column."""
    reader = _reader(data)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(reader.fieldnames or ()), lineterminator="\n")
    writer.writeheader()
    for row in reader:
        writer.writerow(row | {"name": names.get(int(row["cluster_id"]), row["name"])})
    return text.getvalue().encode()


def fit_of(data: bytes) -> str | None:
    """The fit id that the first row of a sheet names, if there is one."""
    first = next(iter(_reader(data)), {})
    return first.get("fit_id") or None


def _reader(data: bytes) -> csv.DictReader[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"names: not a UTF-8 CSV file: {error}") from None
    # Spreadsheets of many countries save with semicolons.
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    return csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)


def _known_cluster(text: str, cluster_ids: Collection[int]) -> int:
    cluster = int(text) if text and text.strip().isdecimal() else None
    if cluster is None or cluster not in cluster_ids:
        raise InputError(
            f"names: unknown cluster '{text}'; this fit has {min(cluster_ids)} to "
            f"{max(cluster_ids)}"
        )
    return cluster
