"""From the model string of a configuration to an encoder."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clusterlib.config import EncoderConfig
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError

KNOWN = "efficientnet-lite0, hf:<id or folder>[@revision], torchvision:resnet50"


class Encoder(Protocol):
    """Anything that turns pictures into vectors."""

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit rows (N, D), float32, for uint8 RGB pictures of the spec's size."""


def describe_encoder(config: EncoderConfig) -> EncoderSpec:
    """Identity and preprocessing of the configured encoder, without loading weights.

    Raises:
        ConfigError: the model string or the pooling is not known.
        InputError: the model's description cannot be read.
    """
    model, pooling, precision = config.model, config.pooling, config.precision
    if model.startswith("hf:"):
        from clusterlib.encoders import huggingface

        return huggingface.describe(model, pooling=pooling, precision=precision)
    if pooling not in ("auto", "mean"):
        raise ConfigError(f"encoder.pooling: {model} has only 'mean', got '{pooling}'")
    if model.startswith("torchvision:"):
        from clusterlib.encoders import torchvision_models

        return torchvision_models.describe(model, pooling=pooling, precision=precision)
    if model == "efficientnet-lite0":
        from clusterlib.encoders import efficientnet_lite0

        return efficientnet_lite0.describe(pooling=pooling, precision=precision)
    raise ConfigError(f"encoder.model: unknown model '{model}'; known: {KNOWN}")


def load_encoder(spec: EncoderSpec, *, device: str, batch_size: int) -> Encoder:
    """The encoder with its weights on `device` (`cpu` or `cuda`).

    Raises:
        InputError: the weights cannot be loaded.
        ConfigError: the device is not there.
    """
    if spec.model.startswith("hf:"):
        from clusterlib.encoders import huggingface

        return huggingface.load(spec, device=device, batch_size=batch_size)
    if spec.model.startswith("torchvision:"):
        from clusterlib.encoders import torchvision_models

        return torchvision_models.load(spec, device=device, batch_size=batch_size)
    from clusterlib.encoders import efficientnet_lite0

    return efficientnet_lite0.load(spec, device=device, batch_size=batch_size)
