"""The map's points as compact text inside its page: a file:// page can fetch nothing.

N: points.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOP = 65_535


@dataclass(frozen=True)
class Points:
    """The sample on the map, in the order of the atlases: the first `pictures` have a cell."""

    xy_N2: NDArray[np.float32]
    cluster_N: NDArray[np.int32]  # -1 is noise
    label_N: NDArray[np.int32]  # index into `labels`, -1 for none
    labels: Sequence[str]
    image_ids: Sequence[str]
    pictures: int


def pack(points: Points) -> dict[str, str]:
    """Base64 of little-endian uint16 columns, and the ids as JSON text.

    `x` and `y` are on one scale, so that the map keeps its proportions; 65535 stands for no
    cluster or label.
    """
    low_2 = points.xy_N2.min(axis=0) if len(points.xy_N2) else np.zeros(2)
    span = float(np.ptp(points.xy_N2, axis=0).max()) if len(points.xy_N2) else 1.0
    scaled_N2 = np.rint((points.xy_N2 - low_2) * (TOP / max(span, 1e-12))).clip(0, TOP)
    return {
        "x": _base64(scaled_N2[:, 0]),
        "y": _base64(scaled_N2[:, 1]),
        "cluster": _base64(points.cluster_N),
        "label": _base64(points.label_N),
        "ids": json.dumps(list(points.image_ids), ensure_ascii=True, separators=(",", ":")),
    }


def morton_order(xy_N2: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order along a Z-curve, so that neighbours on the map are neighbours in an atlas.

    Morton, "A computer oriented geodetic data base", 1966.
    """
    return np.argsort(_morton(xy_N2), kind="stable")


def _morton(xy_N2: NDArray[np.float32]) -> NDArray[np.uint64]:
    low_2, span_2 = xy_N2.min(axis=0), np.maximum(np.ptp(xy_N2, axis=0), 1e-12)
    cells_N2 = ((xy_N2 - low_2) / span_2 * TOP).astype(np.uint64)
    code_N = np.zeros(len(xy_N2), dtype=np.uint64)
    for bit in range(16):
        for axis in range(2):
            place = np.uint64(2 * bit + axis)
            code_N |= ((cells_N2[:, axis] >> np.uint64(bit)) & np.uint64(1)) << place
    return code_N


def _base64(values_N: NDArray[np.generic]) -> str:
    wrapped_N = np.asarray(values_N).astype(np.int64) & TOP
    return base64.b64encode(wrapped_N.astype("<u2").tobytes()).decode()
