"""Networks of timm, with weights from the Hugging Face hub or from a safetensors file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from clusterlib.encoders.hub import commit_of, hub_file
from clusterlib.encoders.network import (
    Network,
    file_hash,
    first_line,
    flat_mean,
    load_tensors,
    nearest_names,
)
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry

PREFIX = "timm:"
WEIGHTS = "model.safetensors"


def describe(model: str, *, pooling: str, precision: str) -> EncoderSpec:
    """The spec of `timm:<name>[.<tag>][:<.safetensors file>]`, from timm's data configuration.

    `auto` is the network's own pooled output ('pooler').

    Raises:
        ConfigError: timm is not installed, has no such network, or cannot prepare pictures so.
        InputError: the hub cannot be reached and nothing is cached.
    """
    name, path = _parse(model)
    cfg = _pretrained_cfg(name)
    if pooling == "projection":
        raise ConfigError(f"encoder.pooling: {model} has no projection; 'auto' takes its pooling")
    if path is None and not cfg.hf_hub_id:
        raise ConfigError(
            f"encoder.model: timm has no weights of {name} on the hub; name a file: "
            f"{PREFIX}{name}:<weights.safetensors>"
        )
    return EncoderSpec(
        model=model,
        revision=file_hash(path) if path else commit_of(cfg.hf_hub_id, model=model),
        pooling="pooler" if pooling == "auto" else pooling,
        precision=precision,
        **_preprocessing(name, cfg),
    )


def build(spec: EncoderSpec) -> Network:
    """The network with its weights, without its classifier.

    Raises:
        InputError: the weights are missing or do not fit.
        ConfigError: the network has no such pooling.
    """
    import timm

    name, path = _parse(spec.model)
    if path is None:
        repo = _pretrained_cfg(name).hf_hub_id
        path = hub_file(repo, WEIGHTS, revision=spec.revision, model=spec.model)
    network = timm.create_model(name, pretrained=False, num_classes=0)
    state = load_tensors(path)
    # Families rename what their authors published; timm itself lets missing tensors pass.
    family = sys.modules[type(network).__module__]
    convert = getattr(family, "checkpoint_filter_fn", None)
    try:
        found = network.load_state_dict(convert(state, network) if convert else state, strict=False)
    except (RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{spec.model}: weights cannot be loaded: {first_line(error)}") from None
    if found.missing_keys:
        raise InputError(
            f"{spec.model}: weights cannot be loaded: {path} lacks {len(found.missing_keys)} "
            f"tensors, such as {min(found.missing_keys)}; it is of another network"
        )
    if spec.pooling == "cls" and not getattr(network, "num_prefix_tokens", 0):
        raise ConfigError(f"encoder.pooling: {spec.model} has no class token; choose 'mean'")
    is_convolutional = any(isinstance(m, torch.nn.Conv2d) for m in network.modules()) and not (
        hasattr(network, "num_prefix_tokens")
    )
    memory_format = torch.channels_last if is_convolutional else torch.preserve_format
    return Network(network, _POOLINGS[spec.pooling], memory_format)


def fetch(model: str, folder: Path) -> Path:
    """The weights of `model` as a file in `folder`.

    Raises:
        InputError: they cannot be downloaded.
    """
    name, path = _parse(model)
    if path is not None:
        return path
    repo = _pretrained_cfg(name).hf_hub_id
    if not repo:
        raise ConfigError(f"encoder.model: timm has no weights of {name} on the hub")
    return hub_file(repo, WEIGHTS, revision=None, model=model, folder=folder / name)


def _pooler(network: Any, batch: torch.Tensor) -> torch.Tensor:
    pooled: torch.Tensor = network(batch)
    return pooled.flatten(1)


def _features(network: Any, batch: torch.Tensor) -> torch.Tensor:
    """Tokens (N, T, D), or a map (N, D, H, W)."""
    features: torch.Tensor = network.forward_features(batch)
    is_last = getattr(network, "output_fmt", "NCHW") == "NHWC" and features.ndim == 4
    return features.permute(0, 3, 1, 2) if is_last else features


def _mean(network: Any, batch: torch.Tensor) -> torch.Tensor:
    features = _features(network, batch)
    if features.ndim == 3:
        return features[:, getattr(network, "num_prefix_tokens", 0) :].mean(dim=1)
    return flat_mean(features)


_POOLINGS = {
    "pooler": _pooler,
    "mean": _mean,
    "cls": lambda network, batch: _features(network, batch)[:, 0],
    "flatten": lambda network, batch: _features(network, batch).flatten(1),
}


def _preprocessing(name: str, cfg: Any) -> dict[str, Any]:
    from timm.data import resolve_data_config

    data = resolve_data_config({}, pretrained_cfg=cfg.to_dict(), use_test_size=False)
    height, width = data["input_size"][1:]
    scaled = (int(height // data["crop_pct"]), int(width // data["crop_pct"]))
    mode = data.get("crop_mode") or "center"
    if mode not in ("center", "squash"):
        raise ConfigError(
            f"encoder.model: {PREFIX}{name} crops by '{mode}', which is not supported"
        )
    keeps_aspect = mode == "center" and scaled[0] == scaled[1]
    return {
        "geometry": Geometry(
            resize=scaled[0] if keeps_aspect else scaled,
            crop=(height, width),
            interpolation=data["interpolation"],
        ),
        "mean": tuple(float(value) for value in data["mean"]),
        "std": tuple(float(value) for value in data["std"]),
    }


def _pretrained_cfg(name: str) -> Any:
    import timm

    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None:
        raise ConfigError(f"encoder.model: timm has no pretrained weights called '{name}'")
    return cfg


def _parse(model: str) -> tuple[str, Path | None]:
    try:
        import timm
    except ImportError:
        raise ConfigError(
            "encoder.model: timm:... needs the package timm; install the extra 'timm'"
        ) from None
    name, _, weights = model.removeprefix(PREFIX).partition(":")
    if not timm.is_model(name):
        known = timm.list_models()
        hint = nearest_names(name, known) or "; for example timm:resnet50.a1_in1k"
        raise ConfigError(f"encoder.model: timm has no network '{name}'{hint}")
    base, _, tag = name.partition(".")
    if tag:
        tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{base}.*")]
        if tag not in tags:
            raise ConfigError(
                f"encoder.model: timm has no weights '{tag}' of {base}; there are: "
                f"{', '.join(tags) or 'none'}"
            )
    if not weights:
        return name, None
    path = Path(weights).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ConfigError(f"encoder.model: {weights}: expected an existing .safetensors file")
    return name, path
