"""Networks of torchvision with their published weights, or weights from a safetensors file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry

PREFIX = "torchvision:"
_PUBLISHED = {"resnet50": "IMAGENET1K_V2"}


def describe(model: str, *, pooling: str, precision: str) -> EncoderSpec:
    """The spec of `torchvision:resnet50[:<weights.safetensors>]`; no weights are loaded.

    The published weights' own transform: 232 px shorter side, 224 px centre crop, bilinear.

    Raises:
        ConfigError: an unknown network, or a weights file that is not there.
    """
    name, weights = _parse(model)
    revision = _PUBLISHED[name] if weights is None else _file_hash(weights)
    return EncoderSpec(
        model=model,
        revision=revision,
        pooling="mean",
        precision=precision,
        geometry=Geometry(resize=232, crop=(224, 224), interpolation="bilinear"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


def load(spec: EncoderSpec, *, device: str, batch_size: int) -> TorchEncoder:
    """The network without its classifier: 2,048 dimensions after global average pooling.

    Raises:
        InputError: the published weights cannot be downloaded, or the file does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torchvision import models

    name, weights = _parse(spec.model)
    try:
        if weights is None:
            network = models.get_model(name, weights=_PUBLISHED[name])
        else:
            network = models.get_model(name, weights=None)
            network.load_state_dict(load_file(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{spec.model}: weights cannot be loaded: {reason}; without internet, name a file: "
            f"torchvision:{name}:<weights.safetensors>"
        ) from None
    network.fc = torch.nn.Identity()
    return TorchEncoder(
        network,
        forward=lambda net, batch: net(batch),
        spec=spec,
        device=device,
        batch_size=batch_size,
        memory_format=torch.channels_last,
    )


def _parse(model: str) -> tuple[str, Path | None]:
    name, _, weights = model.removeprefix(PREFIX).partition(":")
    if name not in _PUBLISHED:
        raise ConfigError(
            f"encoder.model: torchvision network '{name}' is not supported; known: "
            f"{', '.join(_PUBLISHED)}"
        )
    if not weights:
        return name, None
    path = Path(weights).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ConfigError(f"encoder.model: {weights}: expected an existing .safetensors file")
    return name, path


def _file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()[:16]}"
