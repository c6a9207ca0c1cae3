"""Whether an encoder works at all, before images are read."""

from __future__ import annotations

import numpy as np

from clusterlib.encoders.select import Encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError


def check_encoder(encoder: Encoder, spec: EncoderSpec) -> int:
    """The number of dimensions D, after a try with two pictures of noise.

    Raises:
        ConfigError: no vector for each picture, a vector that is not finite, or the same for both.
    """
    noise = np.random.default_rng(0).integers(0, 256, (2, *spec.geometry.output, 3), dtype=np.uint8)
    x_ND = encoder.encode(noise)
    if x_ND.ndim != 2 or len(x_ND) != 2 or x_ND.shape[1] < 2:
        raise ConfigError(
            f"encoder.model: {spec.model} gave an array of shape {x_ND.shape} for 2 pictures, not "
            "one vector each; choose another model or encoder.pooling"
        )
    if not np.isfinite(x_ND).all():
        raise ConfigError(
            f"encoder.model: {spec.model} gave NaN or infinite vectors for a picture of noise; its "
            "weights are broken, or try encoder.precision=float32"
        )
    if np.array_equal(x_ND[0], x_ND[1]):
        raise ConfigError(
            f"encoder.model: {spec.model} gives one vector for different pictures; choose another "
            "model or encoder.pooling"
        )
    return int(x_ND.shape[1])
