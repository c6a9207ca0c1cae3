"""Carry the names of clusters to their images."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from clusterlib.tables.schemas import LABELS


def label_rows(manifest: pa.Table, names: Mapping[int, str]) -> pa.Table:
    """One label row for each manifest row.

    `label_source` is `cluster` for a named cluster, `unnamed` for one that was left empty, and
    `rejected` for a quarantined image; only the first has a label.
    """
    clusters = manifest["cluster_id"].to_pylist()
    labels = [names.get(cluster) for cluster in clusters]
    sources = [
        "rejected" if cluster is None else "unnamed" if label is None else "cluster"
        for cluster, label in zip(clusters, labels, strict=True)
    ]
    return pa.Table.from_arrays(
        [
            manifest["row_id"],
            manifest["image_id"],
            manifest["uri"],
            manifest["cluster_id"],
            pa.array(labels, pa.string()),
            pa.array(sources, pa.string()),
        ],
        schema=LABELS,
    )
