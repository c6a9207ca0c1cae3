"""Whether an encoder gives usable vectors, before any image is read."""

from __future__ import annotations

import numpy as np

from clusterlib.encoders.network import first_line
from clusterlib.encoders.select import Encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError


def check_encoder(encoder: Encoder, spec: EncoderSpec) -> int:
    """Embed a picture of noise and its mirror image; returns the number of dimensions.

    Raises:
        ConfigError: the network does not take pictures of the spec's size, or does not return one
            vector a picture.
        InputError: its vectors are NaN, infinite or zero, as damaged weights make them.
    """
    height, width = spec.geometry.output
    noise = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    pixels_NHWC = np.concatenate([noise, noise[:, :, ::-1]])
    try:
        x_ND = encoder.encode(pixels_NHWC)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ConfigError(
            f"encoder.model: {spec.model} does not take pictures of {width} x {height} pixels "
            f"with encoder.pooling='{spec.pooling}': {first_line(error)}"
        ) from None
    if x_ND.ndim != 2 or len(x_ND) != 2 or x_ND.shape[1] < 2:
        raise ConfigError(
            f"encoder.model: {spec.model} with encoder.pooling='{spec.pooling}' returned an array "
            f"of shape {x_ND.shape} for 2 pictures, not one vector each; choose another pooling"
        )
    if not np.isfinite(x_ND).all():
        raise InputError(
            f"{spec.model}: vectors are NaN, infinite or zero in {spec.precision}; the weights are "
            "damaged, or encoder.precision=float32 is needed"
        )
    return int(x_ND.shape[1])
