"""Small arrays show the whole picture, or there is none."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from clusterlib.images.decode import Limits
from clusterlib.images.thumbnail import thumbnail_array

LIMITS = Limits(max_pixels=10**6)


def picture(form: str, size: tuple[int, int], **options: object) -> bytes:
    image = Image.new("RGB", size, (250, 10, 10))
    image.paste((10, 10, 250), (0, 0, size[0] // 2, size[1]))
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_the_whole_picture_is_there_upright_and_small() -> None:
    for form in ("PNG", "JPEG"):
        found = thumbnail_array(picture(form, (400, 200)), size=80, limits=LIMITS)
        assert found is not None
        assert (found.shape, found.dtype) == ((40, 80, 3), np.uint8)
        np.testing.assert_allclose(found[20, 5], (10, 10, 250), atol=8)
        np.testing.assert_allclose(found[20, 75], (250, 10, 10), atol=8)
    turned = Image.Exif()
    turned[0x0112] = 6
    found = thumbnail_array(picture("JPEG", (400, 200), exif=turned), size=80, limits=LIMITS)
    assert found is not None
    assert found.shape == (80, 40, 3)
    assert found[5, 20, 2] > 200  # its left side is on top


def test_a_small_picture_stays_small_and_a_broken_one_is_none() -> None:
    found = thumbnail_array(picture("PNG", (20, 10)), size=80, limits=LIMITS)
    assert found is not None
    assert found.shape == (10, 20, 3)
    whole = picture("PNG", (400, 200))
    for data in (b"", b"text", whole[: len(whole) // 2]):
        assert thumbnail_array(data, size=80, limits=LIMITS) is None
