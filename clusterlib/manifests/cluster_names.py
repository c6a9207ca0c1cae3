"""cluster_names.csv: the sheet on which people write one name a cluster."""

from __future__ import annotations

import csv
import io

import pyarrow as pa

from clusterlib.manifests.flat import inert
from clusterlib.tables.schemas import CLUSTER_NAMES_COLUMNS

EXEMPLARS = 3


def sheet_bytes(clusters: pa.Table, *, run_id: str, fit_id: str) -> bytes:
    """One row a cluster, largest first, with empty name, purity and notes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CLUSTER_NAMES_COLUMNS)
    for row in sorted(clusters.to_pylist(), key=lambda row: (-row["size"], row["cluster_id"])):
        uris = " | ".join(pick["uri"] for pick in row["nearest"][:EXEMPLARS])
        writer.writerow([run_id, fit_id, row["cluster_id"], row["size"], inert(uris), "", "", ""])
    return text.getvalue().encode()
