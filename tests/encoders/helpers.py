"""What the tests of every library share: pictures as files, and our vectors of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from clusterlib.config import EncoderConfig
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.images.decode import DecodedImage, Limits, decode

LIMITS = Limits(max_pixels=64_000_000)


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth shapes of many colours with a few edges, (width, height) pixels."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    for _ in range(6):
        x, y = (int(rng.integers(0, side)) for side in size)
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        image.paste(color, (x, y, x + size[0] // 5, y + size[1] // 5))
    return image


# Of sides that come to no whole pixels when they are resized.
PICTURES = [picture(seed, size) for seed, size in enumerate([(97, 64), (61, 90), (83, 80)])]


def spec_of(model: str, *, pooling: Any = "auto", precision: Any = "float32") -> EncoderSpec:
    return describe_encoder(EncoderConfig(model=model, pooling=pooling, precision=precision))


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pixels_of(spec: EncoderSpec, files: Sequence[bytes]) -> np.ndarray:
    decoded = [decode(data, geometry=spec.geometry, limits=LIMITS) for data in files]
    assert all(isinstance(found, DecodedImage) for found in decoded)
    return np.stack([found.pixels_HWC for found in decoded])  # type: ignore[union-attr]


def ours(spec: EncoderSpec, pictures: Sequence[Image.Image] = PICTURES) -> np.ndarray:
    """Our vectors of pictures that come as PNG files."""
    encoder = load_encoder(spec, device="cpu", batch_size=2)
    return encoder.encode(pixels_of(spec, [png(image) for image in pictures]))


def cosines(x_ND: np.ndarray, y_ND: torch.Tensor | np.ndarray) -> np.ndarray:
    y_ND = np.asarray(y_ND, dtype=np.float64).reshape(len(x_ND), -1)
    assert x_ND.shape == y_ND.shape
    norms = np.linalg.norm(x_ND, axis=1) * np.linalg.norm(y_ND, axis=1)
    result: np.ndarray = (x_ND * y_ND).sum(axis=1) / norms
    return result
