"""The embedded example: scikit-learn's 1,797 real handwritten digits, written out as PNG files.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998: 8 x 8 pixels,
16 levels of grey.
"""

from __future__ import annotations

import csv
import io

import numpy as np
from PIL import Image

from clusterlib import storage

PREFIX = "digits:"
SIDE = 96
MARGIN = 16
ROWS = 1_797


def write_digits(folder: str) -> str:
    """Write the digits as 96 px PNG files, dark ink on white paper, once. Returns the table's URI.

    The table `digits.csv` has columns uri, digit; it is written last, so its presence says that all
    pictures are there.
    """
    table = storage.join(folder, "digits.csv")
    if storage.exists(table):
        return table
    from sklearn.datasets import load_digits

    digits = load_digits()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["uri", "digit"])
    for number, (grey, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        name = f"{number:04d}.png"
        storage.write_bytes(storage.join(folder, name), _png(grey))
        writer.writerow([name, int(digit)])
    storage.write_bytes(table, text.getvalue().encode())
    return table


def _png(grey: np.ndarray) -> bytes:
    paper = Image.new("L", (SIDE, SIDE), 255)
    ink = Image.fromarray(255 - np.round(grey * (255 / 16)).astype(np.uint8))
    inner = SIDE - 2 * MARGIN
    paper.paste(ink.resize((inner, inner), Image.Resampling.BICUBIC), (MARGIN, MARGIN))
    buffer = io.BytesIO()
    paper.save(buffer, "PNG")
    return buffer.getvalue()
