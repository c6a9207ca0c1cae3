"""Small RGB arrays for sheets that are encoded as a whole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import WHITE, Limits, _in_srgb, _open, _to_rgb


def thumbnail_array(data: bytes, *, size: int, limits: Limits) -> NDArray[np.uint8] | None:
    """`data` as uint8 RGB (H, W, 3), its longer side at most `size` pixels; None if unusable."""
    opened = _open(data, limits)
    if isinstance(opened, Rejection):
        return None
    try:
        image = _to_rgb(opened[0], smallest=(2 * size, 2 * size), background=WHITE)
        if isinstance(image, Rejection):
            return None
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        image = _in_srgb(image, profile=opened[0].info.get("icc_profile"))
        return np.asarray(image, dtype=np.uint8)
    except Exception:  # noqa: BLE001 - as in decode: Pillow's decoders raise almost anything
        return None
