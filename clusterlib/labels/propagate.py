"""Carry answers to every image.

N: rows, C: classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clusterlib.labels.plan import Plan
from clusterlib.tables.schemas import LABELS


@dataclass(frozen=True)
class Beliefs:
    """The classifier's probabilities (N, C) of each row, NaN where it saw no embedding."""

    classes: tuple[str, ...]
    probabilities_NC: NDArray[np.float32]


def label_rows(
    manifest: pa.Table,
    micro_ids_N: NDArray[np.int32],
    plan: Plan,
    *,
    images: Mapping[str, str],
    beliefs: Beliefs | None,
    everywhere: bool,
) -> pa.Table:
    """One label row for each manifest row.

    `label_source` is `image` for what a person said of it, `cluster` for the name of a pure
    cluster or branch, `model` for the classifier's word on the others; without a label it is
    `mixed`, `split`, `junk`, `unnamed`, or `rejected` for a quarantined image. `confidence` in
    0...1 is 1 for `image`, else the classifier's probability of the label, or (silhouette + 1) / 2
    where there is no classifier.

    Args:
        manifest: Manifest rows.
        micro_ids_N: The micro-cluster of each, -1 for none.
        plan: What micro-clusters are called.
        images: Labels by image id.
        beliefs: The classifier's.
        everywhere: Whether the classifier labels unnamed clusters too.
    """
    fallback = [(s or 0.0) / 2 + 0.5 for s in manifest["silhouette"].to_pylist()]
    index = {name: c for c, name in enumerate(beliefs.classes)} if beliefs else {}
    by_model = ("mixed", "split", "unnamed") if everywhere else ("mixed", "split")
    labels: list[str | None] = []
    sources: list[str] = []
    confidences: list[float | None] = []
    rows: Sequence[tuple[str, int | None]] = list(
        zip(manifest["image_id"].to_pylist(), manifest["cluster_id"].to_pylist(), strict=True)
    )
    for n, (image_id, cluster) in enumerate(rows):
        micro = int(micro_ids_N[n])
        state = "rejected" if cluster is None else plan.state(micro)
        label, confidence = None, None
        p_C = beliefs.probabilities_NC[n] if beliefs else None
        if image_id in images and cluster is not None:
            label, state, confidence = images[image_id], "image", 1.0
        elif state == "cluster":
            label = plan.label(micro)
            known = p_C is not None and label in index and not np.isnan(p_C[0])
            confidence = float(p_C[index[label]]) if known else fallback[n]  # type: ignore[index]
        elif state in by_model and beliefs and p_C is not None and not np.isnan(p_C[0]):
            best = int(p_C.argmax())
            label, state, confidence = beliefs.classes[best], "model", float(p_C[best])
        labels.append(label)
        sources.append(state)
        confidences.append(confidence)
    return pa.Table.from_arrays(
        [
            manifest["row_id"],
            manifest["image_id"],
            manifest["uri"],
            manifest["cluster_id"],
            pa.array(labels, pa.string()),
            pa.array(sources, pa.string()),
            pa.array(confidences, pa.float32()),
        ],
        schema=LABELS,
    )
