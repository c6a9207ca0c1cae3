"""Pictures in rows and columns of one JPEG, which every labelling tool can show."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image


def grid_jpeg(rows: Sequence[Sequence[bytes | None]], *, size: int) -> bytes:
    """Thumbnails in square cells of `size` pixels, centred on white; None leaves a cell empty."""
    width = max([1, *(len(row) for row in rows)])
    sheet = Image.new("RGB", (size * width, size * max(len(rows), 1)), "white")
    for y, row in enumerate(rows):
        for x, data in enumerate(row):
            if data is None:
                continue
            with Image.open(io.BytesIO(data)) as picture:
                left = x * size + (size - picture.width) // 2
                sheet.paste(picture, (left, y * size + (size - picture.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
