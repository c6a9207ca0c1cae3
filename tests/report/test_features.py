"""Sheets of feature maps."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from clusterlib.report.features import Column, sheet_png, wrapped

PIXELS = np.full((2, 32, 32, 3), 128, dtype=np.uint8)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png), formats=("PNG",))


def test_a_sheet_has_a_row_a_picture_and_a_column_a_map() -> None:
    maps = np.random.default_rng(0).random((2, 4, 4)).astype(np.float32)
    one = [Column("channel 3", maps, "heat")]
    colors = Column("layers.0", np.stack([maps] * 3, axis=-1), "colors")
    three = [*one, Column("$a_1$", maps, "overlay"), colors]
    small = opened(sheet_png(PIXELS, ["a", "b"], one, title="t"))
    wide = opened(sheet_png(PIXELS, ["a$x", "b" * 90], three, title="a title"))
    assert wide.width > 1.5 * small.width
    assert opened(sheet_png(PIXELS[:1], ["a"], one, title="t")).height < 0.7 * small.height


def test_equal_input_gives_equal_files() -> None:
    columns = [Column("c", np.zeros((2, 4, 4), dtype=np.float32), "heat")]
    sheets = {sheet_png(PIXELS, ["a", "b"], columns, title="t") for _ in range(2)}
    assert len(sheets) == 1


def test_long_names_break_after_dots() -> None:
    name = "vision_model.encoder.layers.11.self_attn"
    assert wrapped(name).replace("\n", "") == name
    assert max(len(line) for line in wrapped(name).split("\n")) <= 17
