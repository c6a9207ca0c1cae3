"""Sheets of what a network makes of a few pictures: a row a picture, a column a map."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_CELL = 1.25  # inches
_LINE = 17  # characters that a title has room for above one cell


@dataclass(frozen=True)
class Column:
    """One map of every picture.

    `maps` is (N, H, W), or (N, H, W, 3) with red, green and blue 0...1. `style` heat colors
    numbers, overlay lays them over the grey picture, colors shows them as they are.
    """

    title: str
    maps: NDArray[np.float32]
    style: Literal["heat", "overlay", "colors"]


def sheet_png(
    pixels_NHWC: NDArray[np.uint8], names: Sequence[str], columns: Sequence[Column], *, title: str
) -> bytes:
    """A PNG with the pictures as first column; a column's colors mean the same in every row."""
    rows, width = len(pixels_NHWC), len(columns) + 1
    figure = Figure(
        figsize=(0.35 + _CELL * width, 0.95 + _CELL * 1.04 * rows), layout="constrained"
    )
    axes = figure.subplots(rows, width, squeeze=False)
    for row in range(rows):
        axes[row][0].imshow(pixels_NHWC[row])
        axes[row][0].set_ylabel(_clipped(names[row]), fontsize=7)
        for place, column in enumerate(columns, start=1):
            _draw(axes[row][place], column, row, pixels_NHWC[row])
        for axis in axes[row]:
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
    axes[0][0].set_title("picture", fontsize=8)
    for place, column in enumerate(columns, start=1):
        axes[0][place].set_title(_plain(wrapped(column.title)), fontsize=8)
    figure.suptitle(_plain(title), fontsize=10, x=0.01, ha="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def wrapped(name: str) -> str:
    """A layer's name in lines that fit above a cell, broken after dots and blanks."""
    lines = [""]
    for part in name.replace(".", ".\0").replace(" ", " \0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part.strip()) > _LINE:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def _draw(axis: Any, column: Column, row: int, pixels_HWC: NDArray[np.uint8]) -> None:
    map_ = column.maps[row]
    if column.style == "colors":
        axis.imshow(map_)
        return
    low, high = float(column.maps.min()), float(column.maps.max())
    if column.style == "heat":
        axis.imshow(map_, cmap="viridis", vmin=low, vmax=high)
        return
    height, width = pixels_HWC.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(pixels_HWC.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)
    axis.imshow(
        map_, cmap="inferno", vmin=low, vmax=high, alpha=0.65, extent=extent,
        interpolation="bilinear",
    )  # fmt: skip


def _clipped(name: str) -> str:
    return _plain(name if len(name) <= _LINE else f"…{name[1 - _LINE :]}")


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # which would begin a formula
