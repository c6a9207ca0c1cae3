"""What the layers of a network make of pictures: feature maps, patch tokens, attention.

N: images, C: channels or heads, T: tokens, D: dimensions of a token, H, W: rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clusterlib.encoders.network import nearest_names
from clusterlib.encoders.select import library_of
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError

_MOST_PREFIX_TOKENS = 8
_DEFAULT_LAYERS = 4
_NO_LAYERS = (torch.nn.Identity, torch.nn.ZeroPad2d, torch.nn.Dropout)


@dataclass(frozen=True)
class LayerMaps:
    """One layer's maps (N, C, H, W), float32; `tokens` are patch vectors, with C = D."""

    layer: str
    kind: Literal["channels", "tokens", "attention"]
    maps_NCHW: NDArray[np.float32]


def layer_maps(
    spec: EncoderSpec, pixels_NHWC: NDArray[np.uint8], *, layers: Iterable[str] = ()
) -> list[LayerMaps]:
    """Maps of the named layers, in the order of the network; on the CPU, in float32.

    Without names: the last layer at each of the last four sizes of a convolutional network; four
    blocks of a transformer and, where it can be asked for, the attention of its class token.

    Raises:
        ConfigError: the encoder has no layers, or none of such a name that has maps.
    """
    if spec.model.startswith("classic:"):
        raise ConfigError(f"encoder.model: {spec.model} has no layers to show")
    network = library_of(spec.model).build(spec)
    module = network.module.eval().float()
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (spec.mean, spec.std))
    batch = (torch.from_numpy(pixels_NHWC).permute(0, 3, 1, 2) / 255 - mean) / std
    shapes = {name: value.shape for name, value in _outputs(network, module, batch[:1], None)}
    asked = list(layers)
    for name in asked:
        if name not in shapes:
            raise ConfigError(
                f"layers: {spec.model} has no layer '{name}' with maps"
                f"{nearest_names(name, shapes) or '; the last is ' + list(shapes)[-1]}"
            )
    wanted = asked or _usual_layers(shapes)
    found = [
        LayerMaps(name, "tokens" if value.ndim == 3 else "channels", _as_map(value))
        for name, value in _outputs(network, module, batch, set(wanted))
    ]
    return found + ([] if asked else _attention(module, batch))


def _outputs(
    network: Any, module: torch.nn.Module, batch: torch.Tensor, names: set[str] | None
) -> list[tuple[str, torch.Tensor]]:
    """Name and output of every layer (or of `names`) that has a map, in the order of the pass."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: Any, inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) and output else output
            if isinstance(value, torch.Tensor) and _grid(value) is not None:
                found.pop(name, None)  # a layer that runs twice counts where it ran last
                found[name] = value.detach()

        return hook

    handles = [
        layer.register_forward_hook(keep(name))
        for name, layer in module.named_modules()
        if name and (names is None or name in names) and not isinstance(layer, _NO_LAYERS)
    ]
    try:
        with torch.inference_mode():
            network.forward(module, batch)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.items())


def _grid(value: torch.Tensor) -> tuple[int, int] | None:
    """Rows and columns of a map or of square patches; None for anything else."""
    if value.ndim == 4 and min(value.shape[1:]) > 1:
        rows = 1 if _is_last(value) else 2
        return int(value.shape[rows]), int(value.shape[rows + 1])
    if value.ndim == 3:
        side = math.isqrt(value.shape[1])
        if side > 1 and value.shape[1] - side * side <= _MOST_PREFIX_TOKENS:
            return side, side
    return None


def _is_last(value: torch.Tensor) -> bool:
    """Whether a map has its channels last, as Swin's have."""
    _, first, second, third = value.shape
    return bool(first == second != third)


def _as_map(value: torch.Tensor) -> NDArray[np.float32]:
    grid = _grid(value)
    assert grid is not None
    if value.ndim == 3:
        patches = value[:, value.shape[1] - grid[0] * grid[1] :]
        value = patches.reshape(len(value), *grid, -1).permute(0, 3, 1, 2)
    elif _is_last(value):
        value = value.permute(0, 3, 1, 2)
    result: NDArray[np.float32] = value.float().contiguous().numpy()
    return result


def _usual_layers(shapes: dict[str, torch.Size]) -> list[str]:
    if not shapes:
        return []
    kinds = [len(shape) for shape in shapes.values()]
    if kinds.count(3) > kinds.count(4):
        last = list(shapes.values())[-1]
        # Blocks are numbered: encoder.layer.3, blocks.11, layers.encoder_layer_5.
        blocks = [name for name, shape in shapes.items() if shape == last and name[-1].isdigit()]
        depth = min((name.count(".") for name in blocks), default=0)
        blocks = [name for name in blocks if name.count(".") == depth] or list(shapes)[-1:]
        chosen = np.linspace(0, len(blocks) - 1, min(_DEFAULT_LAYERS, len(blocks)))
        return [blocks[round(index)] for index in chosen]
    by_size: dict[int, str] = {}
    for name, shape in shapes.items():
        if len(shape) == 4:
            by_size[int(shape[2])] = name
    return list(by_size.values())[-_DEFAULT_LAYERS:]


def _attention(module: torch.nn.Module, batch: torch.Tensor) -> list[LayerMaps]:
    """How much the class token looks at each patch, a map a head; transformers' networks only."""
    if not hasattr(module, "set_attn_implementation"):
        return []
    try:
        module.set_attn_implementation("eager")  # the fast ways keep no attention
        with torch.inference_mode():
            weights = module(pixel_values=batch, output_attentions=True).attentions[-1]
    except (TypeError, ValueError, AttributeError, IndexError):
        return []  # a network without attention
    side = math.isqrt(weights.shape[-1])
    prefix = weights.shape[-1] - side * side
    if weights.shape[-1] != weights.shape[-2] or not 0 < prefix <= _MOST_PREFIX_TOKENS:
        return []
    maps = weights[:, :, 0, prefix:].reshape(len(batch), -1, side, side).float().numpy()
    return [LayerMaps("attention of the class token, last block", "attention", maps)]
