"""What a layer makes of pictures, as a PNG sheet: a row a picture.

N: images, C: channels, H, W: rows and columns of a map.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_COLUMNS = 6  # maps of a row, besides the mean
_TITLES = {
    "channels": "feature maps: the mean of all channels, and the channels that vary most",
    "tokens": "patches: three principal axes of their vectors as red, green and blue",
    "attention": "the mean of all heads, and the first heads",
}


def feature_sheet(
    maps_NCHW: NDArray[np.float32],
    pixels_NHWC: NDArray[np.uint8],
    *,
    kind: str,
    title: str,
    names: Sequence[str],
) -> bytes:
    """One layer as PNG. `names` are the pictures' own, `kind` that of encoders.features."""
    channels = maps_NCHW.shape[1]
    if kind == "tokens":
        columns = [("PCA", _pca_rgb(maps_NCHW))]
    else:
        spread_C = maps_NCHW.std(axis=(0, 2, 3))
        order = np.argsort(-spread_C) if kind == "channels" else np.arange(channels)
        word = "channel" if kind == "channels" else "head"
        columns = [("mean", maps_NCHW.mean(axis=1))]
        columns += [(f"{word} {c}", maps_NCHW[:, c]) for c in order[: min(_COLUMNS, channels)]]
    rows, wide = len(pixels_NHWC), len(columns) + 1
    figure = Figure(figsize=(max(1.55 * wide, 6.5), 1.6 * rows + 0.9), layout="constrained")
    size = f"{maps_NCHW.shape[2]} x {maps_NCHW.shape[3]}, {channels:,} {_word(kind)}"
    figure.suptitle(f"{title} ({size})\n{_TITLES[kind]}", fontsize=10)
    grid: Any = figure.subplots(rows, wide, squeeze=False)
    for row in range(rows):
        _show(grid[row, 0], pixels_NHWC[row], names[row][-24:])
        for column, (words, values) in enumerate(columns, start=1):
            _show(grid[row, column], values[row], words if row == 0 else "")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _word(kind: str) -> str:
    return {"channels": "channels", "tokens": "dimensions", "attention": "heads"}[kind]


def _show(axes: Any, values: NDArray[Any], title: str) -> None:
    axes.imshow(values, cmap="viridis", interpolation="nearest")
    axes.set_title(title, fontsize=8)
    axes.set_axis_off()


def _pca_rgb(maps_NCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, H, W, 3) in 0...1: the patches of all pictures on their first three axes together."""
    n, channels, height, width = maps_NCHW.shape
    x_PC = maps_NCHW.transpose(0, 2, 3, 1).reshape(-1, channels).astype(np.float64)
    x_PC -= x_PC.mean(axis=0)
    _, _, axes = np.linalg.svd(x_PC, full_matrices=False)
    rgb = x_PC @ axes[:3].T
    if rgb.shape[1] < 3:
        rgb = np.pad(rgb, ((0, 0), (0, 3 - rgb.shape[1])))
    low, high = np.percentile(rgb, [2, 98], axis=0)
    rgb = np.clip((rgb - low) / np.maximum(high - low, 1e-9), 0, 1)
    result: NDArray[np.float32] = rgb.reshape(n, height, width, 3).astype(np.float32)
    return result
