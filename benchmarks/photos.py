"""Pictures with the detail of photographs, for benchmarks that decode."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def write_photos(folder: Path, count: int) -> None:
    """`count` different JPEGs of 640 x 480 pixels, about 65 KB each."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        coarse = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((640, 480), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=85)
        (folder / f"{number:05d}.jpg").write_bytes(buffer.getvalue())
