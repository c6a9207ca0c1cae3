"""A JPEG decoded at a reduced scale gives nearly the vector of the whole one."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from clusterlib.encoders.select import load_encoder
from tests.encoders.helpers import cosines, picture, pixels_of, png, spec_of


def test_real_weights_see_little_difference() -> None:
    spec = spec_of("efficientnet-lite0")
    rng = np.random.default_rng(0)
    files, whole = [], []
    for seed in range(6):
        image = picture(20 + seed, (1280, 960))
        grain = rng.normal(0, 8, (960, 1280, 1))
        image = Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
        # As PNG nothing is reduced while decoding.
        whole.append(png(Image.open(buffer).convert("RGB")))
    encoder = load_encoder(spec, device="cpu", batch_size=6)
    reduced, full = pixels_of(spec, files), pixels_of(spec, whole)
    assert not np.array_equal(reduced, full)
    assert cosines(encoder.encode(reduced), encoder.encode(full)).mean() >= 0.99
