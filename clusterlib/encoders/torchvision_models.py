"""Every classification network of torchvision, without its classifier.

Published weights are pickled files with a part of their SHA-256 in the name. They are downloaded
once, checked against it, read with `weights_only`, and kept as safetensors in the cache.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from clusterlib.encoders.network import (
    Network,
    cache_folder,
    file_hash,
    first_line,
    load_tensors,
    nearest_names,
    save_tensors,
)
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry

PREFIX = "torchvision:"
# A file made by `fetch` says which published weights it holds, for their preprocessing.
METADATA_KEY = "torchvision_weights"
# The layer before the classifier, which is more than a mean of the last feature map.
_USUAL_POOLING = {"vgg": "pooler", "alexnet": "pooler", "convnext": "pooler", "maxvit": "pooler"}
_NO_MAP = ("densenet", "mobilenet_v2", "mnasnet", "shufflenet", "squeezenet", "maxvit")
_HEADS = ("fc", "classifier", "heads", "head")
_DENSENET_KEY = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def describe(model: str, *, pooling: str, precision: str) -> EncoderSpec:
    """The spec of `torchvision:<name>[:<weights name or .safetensors file>]`; loads no weights.

    Preprocessing is the transform that belongs to the weights; for a file that does not name its
    published weights, the one of the network's best published weights.

    Raises:
        ConfigError: an unknown network, weights or pooling, or a weights file that is not there.
    """
    name, weights, path = _parse(model)
    preset = weights.transforms()
    published = f"{weights.name} sha256:{_url_hash(weights)}"
    return EncoderSpec(
        model=model,
        revision=published if path is None else file_hash(path),
        pooling=_pooling(name, pooling),
        precision=precision,
        geometry=Geometry(
            resize=int(preset.resize_size[0]),
            crop=(int(preset.crop_size[0]), int(preset.crop_size[0])),
            interpolation=preset.interpolation.value,
        ),
        mean=_triple(preset.mean),
        std=_triple(preset.std),
    )


def build(spec: EncoderSpec) -> Network:
    """The network with its weights; its output is the pooling of the spec.

    Raises:
        InputError: the published weights cannot be downloaded, or the file does not fit.
    """
    name, weights, path = _parse(spec.model)
    state = load_tensors(path or _converted(name, weights))
    if name == "googlenet":  # its auxiliary heads are of no use here
        state = {key: value for key, value in state.items() if not key.startswith("aux")}
    network = _empty(name, weights)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise InputError(f"{spec.model}: weights cannot be loaded: {reason}") from None
    if name.startswith("vit_") and spec.pooling == "mean":
        return Network(network, _patch_mean)
    _take(network, spec.pooling)
    is_transformer = name.startswith(("vit_", "swin_"))
    memory_format = torch.preserve_format if is_transformer else torch.channels_last
    return Network(network, lambda net, batch: net(batch).flatten(1), memory_format)


def fetch(model: str, folder: Path) -> Path:
    """The published weights of `model` as a safetensors file in `folder`, atomically.

    Raises:
        InputError: they cannot be downloaded.
    """
    name, weights, path = _parse(model)
    if path is not None:
        return path
    target = folder / f"{name}-{weights.name}.safetensors"
    if not target.exists():
        state = load_tensors(_converted(name, weights))
        save_tensors(state, target, metadata={METADATA_KEY: weights.name})
    return target


def _pooling(name: str, asked: str) -> str:
    family = re.split(r"[\d_]", name)[0]
    known: tuple[str, ...] = ("mean", "pooler", "flatten")
    if name.startswith("vit_"):
        known = ("cls", "mean")
    elif name.startswith(_NO_MAP):
        known = ("mean", "pooler") if family == "maxvit" else ("mean",)
    used = asked if asked != "auto" else _USUAL_POOLING.get(family, known[0])
    if used not in known:
        words = ", ".join(f"'{word}'" for word in known)
        raise ConfigError(f"encoder.pooling: torchvision:{name} has only {words}, got '{asked}'")
    return used


def _take(network: torch.nn.Module, pooling: str) -> None:
    """Replace what comes after the wanted output."""
    if pooling == "pooler":
        linear = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)][-1]
        network.set_submodule(linear, torch.nn.Identity())
        return
    head = next(name for name in _HEADS if hasattr(network, name))
    # SqueezeNet and MaxViT pool in their head, the others before it.
    pools = type(network).__name__ in ("SqueezeNet", "MaxVit")
    setattr(network, head, torch.nn.AdaptiveAvgPool2d(1) if pools else torch.nn.Identity())
    if pooling == "mean" and hasattr(network, "avgpool"):
        network.avgpool = torch.nn.AdaptiveAvgPool2d(1)
    elif pooling == "flatten" and head != "classifier":
        network.avgpool = torch.nn.Identity()  # VGG and AlexNet keep theirs: 7 x 7 and 6 x 6


def _patch_mean(network: Any, batch: torch.Tensor) -> torch.Tensor:
    tokens = network._process_input(batch)
    class_token = network.class_token.expand(len(tokens), -1, -1)
    encoded: torch.Tensor = network.encoder(torch.cat([class_token, tokens], dim=1))
    return encoded[:, 1:].mean(dim=1)


def _empty(name: str, weights: Any) -> torch.nn.Module:
    """The network as its weights want it, without them."""
    from torchvision import models

    options: dict[str, Any] = {"num_classes": len(weights.meta["categories"])}
    if name in ("inception_v3", "googlenet"):  # published for pictures normalised another way
        options |= {"transform_input": True, "init_weights": False, "aux_logits": True}
    if name == "googlenet":
        options["aux_logits"] = False
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    network: torch.nn.Module = models.get_model(name, weights=None, **options)
    return network


def _converted(name: str, weights: Any) -> Path:
    path = cache_folder() / f"{name}-{weights.name}-{_url_hash(weights)}.safetensors"
    if not path.exists():
        save_tensors(_download(name, weights), path, metadata={METADATA_KEY: weights.name})
    return path


def _download(name: str, weights: Any) -> dict[str, torch.Tensor]:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / os.path.basename(weights.url)
    try:
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(weights.url, str(target), _url_hash(weights), False)
        elif _url_hash(weights) not in file_hash(target).removeprefix("sha256:")[:16]:
            raise RuntimeError(f"{target} is not what its name says; delete it")
        state = torch.load(target, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{PREFIX}{name}: weights cannot be loaded: {first_line(error)}; no {target.name} in "
            f"{folder}: without internet put it there, or run jobs.fetch_models where there is and "
            f"name its file: {PREFIX}{name}:<weights.safetensors>"
        ) from None
    return {_DENSENET_KEY.sub(r"\1\2", key): value for key, value in state.items()}


def _parse(model: str) -> tuple[str, Any, Path | None]:
    """Name, published weights whose preprocessing counts, and a weights file if one is named."""
    from torchvision import models

    name, _, asked = model.removeprefix(PREFIX).partition(":")
    known = models.list_models(module=models)
    if name not in known:
        raise ConfigError(
            f"encoder.model: torchvision has no classification network '{name}'"
            f"{nearest_names(name, known) or '; for example torchvision:resnet50'}"
        )
    enum = models.get_model_weights(name)
    if not asked:
        return name, enum.DEFAULT, None
    if asked in enum.__members__:
        return name, enum[asked], None
    path = Path(asked).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise ConfigError(
            f"encoder.model: {asked}: expected an existing .safetensors file, or one of the "
            f"published weights of {name}: {', '.join(enum.__members__)}"
        )
    published = _metadata(path).get(METADATA_KEY, "DEFAULT")
    return name, enum[published] if published in enum.__members__ else enum.DEFAULT, path


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file: only its header is read."""
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > path.stat().st_size:
            return {}
        try:
            found = json.loads(handle.read(length)).get("__metadata__", {})
        except (ValueError, AttributeError):
            return {}
    return found if isinstance(found, dict) else {}


def _url_hash(weights: Any) -> str:
    """The first digits of the SHA-256, which end the published file's name."""
    return str(os.path.basename(weights.url).rsplit(".", 1)[0].rsplit("-", 1)[-1])


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
