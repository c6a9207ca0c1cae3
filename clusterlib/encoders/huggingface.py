"""Vision models of the Hugging Face hub, or of a local folder in its layout, through transformers.

CLIP image towers, ViT, DINOv2 and any other backbone that returns a pooled or patch output.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from clusterlib.encoders.network import Network, first_line
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry, Interpolation

PREFIX = "hf:"
# What each family's own users take as the image embedding; others: pooler, else mean.
_USUAL_POOLING = {
    "clip": "projection",
    **dict.fromkeys(("vit", "deit", "vit_mae", "vit_msn", "data2vec-vision"), "cls"),
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit"), "cls"),
    "ijepa": "mean",
}
_SINGLE_TOKENS = ("cls_token", "class_token", "class_embedding", "distillation_token")
_PIL_FILTERS: dict[int, Interpolation] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}


def describe(model: str, *, pooling: str, precision: str) -> EncoderSpec:
    """The spec, from the model's configuration files; no weights are read.

    Args:
        model: `hf:<id or folder>[@revision]`.

    Raises:
        ConfigError: no such model, or it takes no images.
        InputError: the hub cannot be reached and nothing is cached.
    """
    name, revision = _parse(model)
    config, processor = _load_description(name, revision)
    family = _family(config)
    if pooling == "auto":
        pooling = _USUAL_POOLING.get(family, "pooler")
    if pooling == "projection" and family != "clip":
        raise ConfigError(f"encoder.pooling: 'projection' needs a CLIP model, {name} is {family}")
    return EncoderSpec(
        model=model,
        revision=getattr(config, "_commit_hash", None) or _folder_hash(name),
        pooling=pooling,
        precision=precision,
        geometry=_geometry(processor, name),
        **_normalization(processor),
    )


def build(spec: EncoderSpec) -> Network:
    """The network with its weights, safetensors only.

    Raises:
        InputError: the weights are missing, incomplete or not safetensors.
        ConfigError: the network takes no images, or has no such pooling.
    """
    name, revision = _parse(spec.model)
    if not spec.revision.startswith("sha256:"):
        revision = spec.revision  # the commit that was described: a branch may have moved since
    config, processor = _load_description(name, revision)
    family = _family(config)
    network = _pretrained(spec, name, revision, family)
    if family != "clip":
        network = getattr(network, "vision_model", network)  # of a model with a text tower
    if getattr(network, "main_input_name", "pixel_values") != "pixel_values":
        raise ConfigError(f"encoder.model: {name} is no image model: it takes no pixels")
    if spec.pooling == "cls" and _prefix_tokens(network) == 0:
        raise ConfigError(f"encoder.pooling: {name} has no class token; choose 'mean' or 'pooler'")
    if getattr(network.config, "mask_ratio", None):
        network.config.mask_ratio = 0.0  # a masked autoencoder hides patches by chance
    is_convolutional = any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    memory_format = torch.channels_last if is_convolutional else torch.preserve_format
    forward = _POOLINGS[spec.pooling]
    if getattr(processor, "do_flip_channel_order", False):
        return Network(network, lambda net, batch: forward(net, batch.flip(1)), memory_format)
    return Network(network, forward, memory_format)


def _pretrained(spec: EncoderSpec, name: str, revision: str | None, family: str) -> Any:
    from safetensors import SafetensorError
    from transformers import AutoModel, CLIPVisionModel, CLIPVisionModelWithProjection

    kind = AutoModel
    if family == "clip":
        # The tower with a projection returns no pooler output.
        is_projected = spec.pooling == "projection"
        kind = CLIPVisionModelWithProjection if is_projected else CLIPVisionModel
    try:
        network, loaded = kind.from_pretrained(
            name,
            output_loading_info=True,
            revision=revision,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=getattr(torch, spec.precision),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{spec.model}: weights cannot be loaded: {_missing(name) or first_line(error)}"
        ) from None
    # transformers fills what is missing with random numbers; many ViT checkpoints lack a pooler.
    missing = [k for k in loaded["missing_keys"] if "pooler" not in k or spec.pooling == "pooler"]
    if missing:
        raise InputError(
            f"{spec.model}: the weights lack {len(missing)} tensors that encoder.pooling="
            f"'{spec.pooling}' needs, such as {min(missing)}; choose another pooling or model"
        )
    return network


def _missing(name: str) -> str:
    """Which file is missing in which folder, when one is."""
    from huggingface_hub import constants, try_to_load_from_cache

    files = ("model.safetensors", "model.safetensors.index.json")
    if Path(name).is_dir():
        found = any((Path(name) / file).is_file() for file in files)
        return "" if found else f"no model.safetensors in {name}"
    if any(isinstance(try_to_load_from_cache(name, file), str) for file in files):
        return ""
    return (
        f"no model.safetensors of {name} in {constants.HF_HUB_CACHE}; run jobs.fetch_models where "
        "there is internet, and name the folder that it makes"
    )


def _projection(network: Any, batch: torch.Tensor) -> torch.Tensor:
    embeds: torch.Tensor = network(pixel_values=batch).image_embeds
    return embeds


def _cls(network: Any, batch: torch.Tensor) -> torch.Tensor:
    tokens: torch.Tensor = network(pixel_values=batch).last_hidden_state
    return tokens[:, 0]


def _mean(network: Any, batch: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = network(pixel_values=batch).last_hidden_state
    if hidden.ndim == 4:  # NCHW feature map of a convolutional network
        return hidden.mean(dim=(2, 3))
    return hidden[:, _prefix_tokens(network) :].mean(dim=1)


def _prefix_tokens(network: Any) -> int:
    """How many tokens come before the patches: class, distillation, registers."""
    names = [name.rpartition(".")[2] for name, _ in network.named_parameters()]
    single = sum(name in _SINGLE_TOKENS for name in names)
    return single + int(getattr(network.config, "num_register_tokens", 0) or 0)


def _pooler(network: Any, batch: torch.Tensor) -> torch.Tensor:
    output = network(pixel_values=batch)
    pooled = getattr(output, "pooler_output", None)
    return _mean(network, batch) if pooled is None else pooled.flatten(1)


def _flatten(network: Any, batch: torch.Tensor) -> torch.Tensor:
    hidden: torch.Tensor = network(pixel_values=batch).last_hidden_state
    return (hidden if hidden.ndim == 4 else hidden[:, _prefix_tokens(network) :]).flatten(1)


_POOLINGS = {
    "projection": _projection,
    "cls": _cls,
    "mean": _mean,
    "pooler": _pooler,
    "flatten": _flatten,
}


def fetch(model: str, folder: Path) -> Path:
    """All that `model` needs, in a folder below `folder`.

    Raises:
        InputError: it cannot be downloaded.
    """
    from clusterlib.encoders.hub import fetch_folder

    name, revision = _parse(model)
    if Path(name).is_dir():
        return Path(name)
    return fetch_folder(name, revision=revision, folder=folder)


def _parse(model: str) -> tuple[str, str | None]:
    text = model.removeprefix(PREFIX)
    folder = os.path.expanduser(text)
    if text and os.path.isdir(folder):
        return folder, None  # whose own name may hold an @
    name, _, revision = text.partition("@")
    if not name:
        raise ConfigError("encoder.model: 'hf:' needs a model id or folder, hf:<id>[@revision]")
    return name, revision or None


def _load_description(name: str, revision: str | None) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoImageProcessor

    if name.startswith((".", "/", "~")) and not Path(name).is_dir():
        raise ConfigError(f"encoder.model: {name}: no such folder")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
        processor = AutoImageProcessor.from_pretrained(
            name, revision=revision, trust_remote_code=False
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # as JSON of another shape
        raise ConfigError(f"encoder.model: {name} is no image model: {first_line(error)}") from None
    except OSError as error:
        raise InputError(
            f"encoder.model: {name} can be read neither from the hub nor from a local folder: "
            f"{first_line(error)}"
        ) from None
    return config, processor


def _family(config: Any) -> str:
    return str(config.model_type).removesuffix("_vision_model")


def _geometry(processor: Any, name: str) -> Geometry:
    size = dict(getattr(processor, "size", None) or {})
    interpolation = _PIL_FILTERS[int(processor.resample)]
    if size.get("shortest_edge"):
        side = int(size["shortest_edge"])
        if getattr(processor, "crop_pct", None):  # ConvNeXt's way
            if side >= 384:
                return Geometry((side, side), None, interpolation)
            return Geometry(int(side / processor.crop_pct), (side, side), interpolation)
        if type(processor).__name__.startswith("Levit"):
            side = int(256 / 224 * side)
        resize: int | tuple[int, int] = side
    elif size.get("height") and size.get("width"):
        resize = (int(size["height"]), int(size["width"]))
    else:
        raise ConfigError(f"encoder.model: the processor of {name} has no fixed size: {size}")
    crop = None
    if getattr(processor, "do_center_crop", False):
        crop_size = dict(processor.crop_size)
        crop = (int(crop_size["height"]), int(crop_size["width"]))
    elif isinstance(resize, int):
        crop = (resize, resize)  # a batch needs one shape
    return Geometry(resize, crop, interpolation)


def _normalization(processor: Any) -> dict[str, tuple[float, float, float]]:
    """`mean` and `std` in units of 0...1, with a processor's own way to scale pixels put in."""
    mean, std = (0.0,) * 3, (1.0,) * 3
    if getattr(processor, "do_normalize", False):
        mean, std = _triple(processor.image_mean), _triple(processor.image_std)
    does_rescale = getattr(processor, "do_rescale", True)
    factor = float(getattr(processor, "rescale_factor", 1 / 255)) if does_rescale else 1.0
    scale = factor * 255
    if abs(scale - 1) < 1e-6:
        return {"mean": mean, "std": std}
    return {"mean": _triple(v / scale for v in mean), "std": _triple(v / scale for v in std)}


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _folder_hash(name: str) -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(name).glob("*")):
        if path.suffix in (".json", ".safetensors"):
            digest.update(path.name.encode())
            with path.open("rb") as handle:
                while chunk := handle.read(1 << 20):
                    digest.update(chunk)
    return f"sha256:{digest.hexdigest()[:16]}"
