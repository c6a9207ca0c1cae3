"""Which formats are opened, and what lies behind a transparent picture."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusterlib.errors import ConfigError
from clusterlib.images.codes import Rejection
from clusterlib.images.decode import (
    FORMATS,
    HEIF,
    DecodedImage,
    Geometry,
    Limits,
    decode,
    register_heif,
)

SAME = Geometry(resize=(20, 30), crop=None, interpolation="nearest")
RED = Image.new("RGB", (30, 20), (200, 30, 40))


def encoded(file_format: str, image: Image.Image = RED, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def outcome(data: bytes, *formats: str, geometry: Geometry = SAME) -> DecodedImage | Rejection:
    return decode(data, geometry=geometry, limits=Limits(max_pixels=10_000, formats=formats))


@pytest.mark.parametrize("file_format", FORMATS)
def test_only_what_is_allowed_is_opened(file_format: str) -> None:
    data = encoded(file_format)
    assert isinstance(outcome(data, file_format), DecodedImage)
    others = tuple(name for name in FORMATS if name != file_format)
    assert outcome(data, *others) == Rejection("unsupported_format")


def test_heic_by_choice() -> None:
    register_heif()
    data = encoded("HEIF", quality=90)
    result = outcome(data, *FORMATS, HEIF)
    assert isinstance(result, DecodedImage)
    assert (result.width, result.height, result.n_frames) == (30, 20, 1)
    assert np.abs(result.pixels_HWC.mean(axis=(0, 1)) - (200, 30, 40)).max() < 4
    assert outcome(data, *FORMATS) == Rejection("unsupported_format")
    assert isinstance(outcome(data[: len(data) // 2], *FORMATS, HEIF), Rejection)


def test_heic_without_its_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    register_heif.cache_clear()
    with pytest.raises(ConfigError, match="images.formats: HEIF needs .*'heic'"):
        register_heif()


def test_the_chosen_background_shows_through_and_around() -> None:
    clear = Image.new("RGBA", (30, 20), (0, 0, 0, 0))
    behind = replace(SAME, background="#204060")
    result = outcome(encoded("PNG", clear), *FORMATS, geometry=behind)
    assert isinstance(result, DecodedImage)
    assert (result.pixels_HWC == (0x20, 0x40, 0x60)).all()
    around = Geometry(resize=20, crop=(40, 40), interpolation="nearest", background="#010203")
    result = outcome(encoded("PNG"), *FORMATS, geometry=around)
    assert isinstance(result, DecodedImage)
    assert result.pixels_HWC[0, 0].tolist() == [1, 2, 3]
    assert result.pixels_HWC[20, 20].tolist() == [200, 30, 40]
