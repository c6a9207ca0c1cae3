"""Contact sheets: the pictures of one cluster side by side in one file."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image


def sheet_webp(thumbnails: Sequence[bytes | None], *, size: int) -> bytes:
    """Thumbnails in a row of square cells of `size` pixels, centred on white, as WebP.

    A missing thumbnail leaves its cell empty.
    """
    sheet = Image.new("RGB", (size * max(len(thumbnails), 1), size), "white")
    for index, data in enumerate(thumbnails):
        if data is None:
            continue
        with Image.open(io.BytesIO(data)) as picture:
            left = index * size + (size - picture.width) // 2
            sheet.paste(picture, (left, (size - picture.height) // 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=82)
    return buffer.getvalue()
