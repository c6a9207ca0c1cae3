"""cluster_names.csv: the sheet on which people write one name a cluster."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import pyarrow as pa

from clusterlib.manifests.flat import inert
from clusterlib.tables.schemas import CLUSTER_NAMES_COLUMNS

EXEMPLARS = 3


def sheet_bytes(
    clusters: pa.Table, *, run_id: str, fit_id: str, proposals: Mapping[int, str]
) -> bytes:
    """One row a cluster, largest first, with empty name, purity and notes.

    `proposals` are names to take or leave, by cluster.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CLUSTER_NAMES_COLUMNS)
    for row in sorted(clusters.to_pylist(), key=lambda row: (-row["size"], row["cluster_id"])):
        cluster = row["cluster_id"]
        uris = " | ".join(pick["uri"] for pick in row["nearest"][:EXEMPLARS])
        shown = (inert(uris), inert(proposals.get(cluster, "")))
        writer.writerow([run_id, fit_id, cluster, row["size"], *shown, "", "", ""])
    return text.getvalue().encode()


def is_filled_in(data: bytes) -> bool:
    """Whether somebody has written into a sheet, or it is no sheet of ours."""
    try:
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error):
        return True
    return any(row.get(name) != "" for row in rows for name in ("name", "purity", "notes"))
