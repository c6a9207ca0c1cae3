"""For each product the image that shows it best: those labelled as such first, then the nearest."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BEST_VIEWS = pa.schema(
    [
        pa.field("group", pa.string(), nullable=False),
        pa.field("row_id", pa.int64(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("label", pa.string()),
        pa.field("distance", pa.float32(), nullable=False),  # to its own cluster's centroid
        pa.field("is_best_view", pa.bool_(), nullable=False),  # whether its label is one asked for
    ]
)


def candidates(manifest: pa.Table, labels: pa.Table, wanted: Collection[str]) -> pa.Table:
    """BEST_VIEWS rows of all clustered images that belong to a product.

    Args:
        manifest: Manifest rows.
        labels: Label rows of the same images in the same order.
        wanted: Labels that stand for a best view, compared without regard to case.
    """
    names = pa.array(sorted({name.casefold() for name in wanted}), pa.string())
    is_best = pc.is_in(pc.utf8_lower(labels["label"]), value_set=names)
    table = pa.Table.from_arrays(
        [
            *(manifest[name] for name in ("group", "row_id", "image_id", "uri")),
            labels["label"],
            manifest["distance"],
            is_best,
        ],
        names=BEST_VIEWS.names,
    )
    known = pc.and_(pc.is_valid(table["group"]), pc.is_valid(table["distance"]))
    return table.filter(known).cast(BEST_VIEWS)


def best_rows(table: pa.Table) -> pa.Table:
    """One row a group: a best view before others, then the smallest distance, then row id.

    Merging is the same call on the union of what parts returned.
    """
    ordered = table.append_column("other", pc.invert(table["is_best_view"])).sort_by(
        [(name, "ascending") for name in ("group", "other", "distance", "row_id")]
    )
    groups = ordered["group"].combine_chunks()
    is_first_N = np.ones(len(groups), dtype=bool)
    if len(groups) > 1:
        is_first_N[1:] = pc.not_equal(groups[1:], groups[:-1]).to_numpy(zero_copy_only=False)
    return ordered.filter(pa.array(is_first_N)).drop_columns(["other"])
