"""From the model string of a configuration to an encoder."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clusterlib.config import EncoderConfig
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError

KNOWN = (
    "efficientnet-lite0, hf:<id or folder>[@revision], torchvision:<name>[:<weights>], "
    "timm:<name>[:<file>], classic:hog, classic:color"
)
# Imported when asked for: each brings a large library with it.
_LIBRARIES = {
    "efficientnet-lite0": "efficientnet_lite0",
    "hf:": "huggingface",
    "torchvision:": "torchvision_models",
    "timm:": "timm_models",
    "classic:": "classic",
}
_STARTS = ("efficientnet-lite0", "hf:", "torchvision:", "timm:", "classic:hog", "classic:color")


class Encoder(Protocol):
    """Anything that turns pictures into vectors."""

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit rows (N, D), float32, for uint8 RGB pictures of the spec's size."""


def library_of(model: str) -> ModuleType:
    """The file of this room that knows `model`.

    Raises:
        ConfigError: no file does; the message has the known prefixes and the nearest names.
    """
    start, colon, _ = model.partition(":")
    name = _LIBRARIES.get(start + colon)
    if name is not None:
        return importlib.import_module(f"clusterlib.encoders.{name}")
    near = _suggestions(model)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    raise ConfigError(f"encoder.model: unknown model '{model}'{hint} known: {KNOWN}")


def describe_encoder(config: EncoderConfig) -> EncoderSpec:
    """Identity and preprocessing of the configured encoder, without loading weights.

    Raises:
        ConfigError: the model string or the pooling is not known.
        InputError: the model's description cannot be read.
    """
    spec: EncoderSpec = library_of(config.model).describe(
        config.model, pooling=config.pooling, precision=config.precision
    )
    return spec


def load_encoder(spec: EncoderSpec, *, device: str, batch_size: int) -> Encoder:
    """The encoder with its weights on `device` (`cpu` or `cuda`).

    Raises:
        InputError: the weights cannot be loaded.
        ConfigError: the device is not there.
    """
    library = library_of(spec.model)
    if spec.model.startswith("classic:"):
        encoder: Encoder = library.ClassicEncoder(spec)
        return encoder
    from clusterlib.encoders.forward import TorchEncoder

    network = library.build(spec)
    return TorchEncoder(
        network.module,
        forward=network.forward,
        spec=spec,
        device=device,
        batch_size=batch_size,
        memory_format=network.memory_format,
    )


def fetch_model(model: str, folder: Path) -> str:
    """Download what `model` needs into `folder`; returns the model string that uses it.

    Raises:
        ConfigError: the model string is not known.
        InputError: it cannot be downloaded.
    """
    fetch = getattr(library_of(model), "fetch", None)
    if fetch is None:  # nothing to download
        return model
    start, _, rest = model.partition(":")
    path = fetch(model, folder)
    return f"hf:{path}" if start == "hf" else f"{start}:{rest.partition(':')[0]}:{path}"


def _suggestions(model: str) -> list[str]:
    """Known strings near to `model`; a bare name may be a network of torchvision."""
    found = [start for start in _STARTS if model.lower() == start.lower()]
    found += [start for start in _STARTS if model.lower().startswith(start) and start[-1] == ":"]
    from torchvision import models

    names = models.list_models(module=models)
    bare = model.rpartition(":")[2].lower()
    found += [f"torchvision:{near}" for near in difflib.get_close_matches(bare, names, 2, 0.8)]
    found += difflib.get_close_matches(model.lower(), _STARTS, 2, 0.6)
    if "/" in model and not found:
        found = [f"hf:{model}"]
    return list(dict.fromkeys(found))[:3]
