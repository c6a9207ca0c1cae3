"""Small pictures for people: contact sheets, pages, the map."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import WHITE, Limits, in_srgb, open_image, to_rgb

MAP_SIZE = 64


def thumbnail_array(data: bytes, *, size: int, limits: Limits) -> NDArray[np.uint8] | None:
    """`data` as uint8 RGB (H, W, 3), its longer side at most `size` pixels; None if unusable."""
    opened = open_image(data, limits)
    if isinstance(opened, Rejection):
        return None
    try:
        image = to_rgb(opened[0], smallest=(2 * size, 2 * size), background=WHITE)
        if isinstance(image, Rejection):
            return None
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        image = in_srgb(image, profile=opened[0].info.get("icc_profile"))
        return np.asarray(image, dtype=np.uint8)
    except Exception:  # noqa: BLE001 - as in decode: Pillow's decoders raise almost anything
        return None


def thumbnail_webp(data: bytes, *, size: int, limits: Limits, quality: int = 80) -> bytes | None:
    """`thumbnail_array` as a WebP picture; None if `data` is unusable."""
    pixels_HWC = thumbnail_array(data, size=size, limits=limits)
    return None if pixels_HWC is None else _webp(Image.fromarray(pixels_HWC), quality)


def array_thumbnail_webp(pixels_HWC: NDArray[np.uint8], *, size: int) -> bytes:
    """A decoded array as a small WebP picture."""
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((size, size), Image.Resampling.BILINEAR)
    return _webp(image, 75)


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
