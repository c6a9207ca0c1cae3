"""Vision models of the Hugging Face hub, or of a local folder in its layout, through transformers.

CLIP image towers, ViT, DINOv2 and any other backbone that returns a pooled or patch output.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch

from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry, Interpolation

PREFIX = "hf:"
# What each family's own users take as the image embedding; others: pooler, else mean.
_USUAL_POOLING = {"clip": "projection", "vit": "cls", "dinov2": "cls", "siglip": "pooler"}
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
        mean=_triple(processor.image_mean if processor.do_normalize else (0, 0, 0)),
        std=_triple(processor.image_std if processor.do_normalize else (1, 1, 1)),
    )


def load(spec: EncoderSpec, *, device: str, batch_size: int) -> TorchEncoder:
    """The encoder with its weights, safetensors only.

    Raises:
        InputError: the weights are missing, incomplete or not safetensors.
        ConfigError: the network takes no images, or has no such pooling.
    """
    from safetensors import SafetensorError
    from transformers import AutoModel, CLIPVisionModel, CLIPVisionModelWithProjection

    name, revision = _parse(spec.model)
    config, _ = _load_description(name, revision)
    family = _family(config)
    options: dict[str, Any] = {
        "revision": revision,
        "use_safetensors": True,
        "trust_remote_code": False,
        "dtype": getattr(torch, spec.precision),
    }
    kind = AutoModel
    if family == "clip":
        # The tower with a projection returns no pooler output.
        is_projected = spec.pooling == "projection"
        kind = CLIPVisionModelWithProjection if is_projected else CLIPVisionModel
    try:
        network, loaded = kind.from_pretrained(name, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{spec.model}: weights cannot be loaded: {_first_line(error)}") from None
    # transformers fills what is missing with random numbers; many ViT checkpoints lack a pooler.
    missing = [k for k in loaded["missing_keys"] if "pooler" not in k or spec.pooling == "pooler"]
    if missing:
        raise InputError(
            f"{spec.model}: the weights lack {len(missing)} tensors that encoder.pooling="
            f"'{spec.pooling}' needs, such as {min(missing)}; choose another pooling or model"
        )
    if family != "clip":
        network = getattr(network, "vision_model", network)  # of a model with a text tower
    if getattr(network, "main_input_name", "pixel_values") != "pixel_values":
        raise ConfigError(f"encoder.model: {name} is no image model: it takes no pixels")
    if spec.pooling == "cls" and _prefix_tokens(network) == 0:
        raise ConfigError(f"encoder.pooling: {name} has no class token; choose 'mean' or 'pooler'")
    is_convolutional = any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    return TorchEncoder(
        network,
        forward=_POOLINGS[spec.pooling],
        spec=spec,
        device=device,
        batch_size=batch_size,
        memory_format=torch.channels_last if is_convolutional else torch.preserve_format,
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


_POOLINGS = {"projection": _projection, "cls": _cls, "mean": _mean, "pooler": _pooler}


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
        raise ConfigError(
            f"encoder.model: {name} is no image model: {_first_line(error)}"
        ) from None
    except OSError as error:
        raise InputError(
            f"encoder.model: {name} can be read neither from the hub nor from a local folder: "
            f"{_first_line(error)}"
        ) from None
    return config, processor


def _family(config: Any) -> str:
    return str(config.model_type).removesuffix("_vision_model")


def _geometry(processor: Any, name: str) -> Geometry:
    size = dict(processor.size or {})
    if "shortest_edge" in size:
        resize: int | tuple[int, int] = int(size["shortest_edge"])
    elif "height" in size:
        resize = (int(size["height"]), int(size["width"]))
    else:
        raise ConfigError(f"encoder.model: the processor of {name} has no fixed size: {size}")
    crop = None
    if getattr(processor, "do_center_crop", False):
        crop_size = dict(processor.crop_size)
        crop = (int(crop_size["height"]), int(crop_size["width"]))
    elif isinstance(resize, int):
        crop = (resize, resize)  # a batch needs one shape
    return Geometry(resize, crop, _PIL_FILTERS[int(processor.resample)])


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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
