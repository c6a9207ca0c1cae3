"""Many small pictures in one file: contact sheets of exemplars, atlases of the sample."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHEET_COLUMNS = 4
ATLAS_COLUMNS = 16
ATLAS_CELLS = ATLAS_COLUMNS**2
ATLAS_CELL = 64  # pixels

# Tried in turn until a sheet is small enough: share of the cell's size, WebP quality.
_ECONOMIES = ((1.0, 82), (1.0, 68), (1.0, 50), (0.75, 50), (0.5, 50), (0.5, 30))


def sheet_webp(
    thumbnails: Sequence[NDArray[np.uint8] | None], *, size: int, max_bytes: int | None = None
) -> bytes:
    """Thumbnails, RGB (H, W, 3), in rows of four cells of `size` pixels, on white, as WebP.

    A thumbnail that is None leaves its cell light grey, an empty one leaves it white. When the file
    exceeds `max_bytes`, quality and then size are lowered, as far as that goes.
    """
    rows = max(1, -(-len(thumbnails) // SHEET_COLUMNS))
    sheet = Image.new("RGB", (size * SHEET_COLUMNS, size * rows), "white")
    for index, data in enumerate(thumbnails):
        row, column = divmod(index, SHEET_COLUMNS)
        left, top = column * size, row * size
        if data is None:
            sheet.paste("#e4e4e4", (left, top, left + size, top + size))
        elif data.size:
            _paste(sheet, Image.fromarray(data), left, top, size)
    encoded = b""
    for share, quality in _ECONOMIES:
        small = sheet
        if share < 1:
            small = sheet.resize((round(sheet.width * share), round(sheet.height * share)))
        encoded = _webp(small, quality)
        if max_bytes is None or len(encoded) <= max_bytes:
            break
    return encoded


def atlas_webp(thumbnails: Sequence[bytes]) -> bytes:
    """At most 256 thumbnails in rows of sixteen 64 px cells, as WebP.

    The file is always 1,024 px wide; it is only as high as it has rows.
    """
    rows = max(1, -(-len(thumbnails) // ATLAS_COLUMNS))
    atlas = Image.new("RGB", (ATLAS_COLUMNS * ATLAS_CELL, rows * ATLAS_CELL), "white")
    for index, data in enumerate(thumbnails):
        row, column = divmod(index, ATLAS_COLUMNS)
        if data:
            with Image.open(io.BytesIO(data), formats=("WEBP",)) as picture:
                _paste(atlas, picture, column * ATLAS_CELL, row * ATLAS_CELL, ATLAS_CELL)
    # A quarter larger than the default effort makes it, in half the time.
    return _webp(atlas, 72, method=0)


def _paste(canvas: Image.Image, picture: Image.Image, left: int, top: int, size: int) -> None:
    """Put `picture` in the middle of a square cell, smaller if it has to be."""
    if max(picture.size) > size:
        picture.thumbnail((size, size))
    left, top = left + (size - picture.width) // 2, top + (size - picture.height) // 2
    canvas.paste(picture, (left, top))


def _webp(image: Image.Image, quality: int, *, method: int = 2) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=method)
    return buffer.getvalue()
