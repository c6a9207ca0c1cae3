"""What a network makes of a few pictures inside: feature maps, attention, directions of patches.

Hooks watch the encoder's own forward pass, so what is shown is what the embedding is made of.
N: pictures, L: tokens, C: channels, D: dimensions of a token, H, W: cells of a map.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clusterlib.encoders.select import Encoder
from clusterlib.errors import ConfigError

Kind = Literal["channels", "attention", "patches"]
_MAX_PREFIX = 16  # class, distillation and register tokens before the patches
_PROBED = 2  # pictures of the first pass: a batch of one cannot be told from no batch
_SPREAD = 3  # transformer blocks shown: first, middle, last


@dataclass(frozen=True)
class LayerMaps:
    """One layer's answer to N pictures, as maps of H x W cells.

    channels: `maps_NHWC` are some of the layer's `total` channels, numbered in `channels`.
    attention: one map, where the class token looks (without one, `has_class` is False and it is
    where all patches look), mean over `total` heads; each sums to at most 1.
    patches: three channels 0...1, the first principal components of the patch tokens of all N
    pictures together, for red, green and blue.
    """

    name: str
    kind: Kind
    maps_NHWC: NDArray[np.float32]
    total: int
    channels: tuple[int, ...] = ()
    has_class: bool = False


@dataclass(frozen=True)
class _Seen:
    """What a module gave in the first pass: its kind and the cells of its map."""

    kind: Kind
    cells: tuple[int, int]
    prefix: int


def layer_maps(
    encoder: Encoder,
    pixels_NHWC: NDArray[np.uint8],
    *,
    layers: Sequence[str] = (),
    channels: int = 8,
) -> list[LayerMaps]:
    """Maps of `layers`, or of layers spread over the network, for uint8 RGB pictures.

    A convolutional network gives its last layer at every resolution, with the `channels` that
    differ most over the pictures. A transformer gives attention, where it can tell it, and patch
    components of its first, middle and last block.

    Raises:
        ConfigError: a layer that the network lacks or that gives no map, or a network without any.
    """
    network = getattr(encoder, "_network", None)
    if not isinstance(network, torch.nn.Module):
        raise ConfigError("encoder.model: this encoder is no network; it has no layers to show")
    if hasattr(network, "set_attn_implementation"):
        network.set_attn_implementation("eager")  # the fast ones never have the weights
    seen = _look(encoder, network, pixels_NHWC)
    chosen = _asked(network, seen, layers) if layers else _spread(network, seen)
    if not chosen:
        raise ConfigError("encoder.model: no layer of this network gives a map to show")
    kept: dict[str, list[torch.Tensor]] = defaultdict(list)
    with _watching(network, lambda name, out: kept[name].append(out.clone()), only=set(chosen)):
        encoder.encode(pixels_NHWC)
    found = []
    for name in chosen:
        output = torch.cat(kept[name]).float().cpu().numpy()
        found.append(_MAPS[seen[name].kind](name, output, seen[name], channels))
    return found


def _look(encoder: Encoder, network: torch.nn.Module, pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """Every module whose output is a map, by name, in the order in which they finish."""
    seen: dict[str, _Seen] = {}
    calls: dict[str, int] = defaultdict(int)
    ratio = pixels.shape[1] / pixels.shape[2]

    def note(name: str, output: torch.Tensor) -> None:
        calls[name] += 1
        kind = _kind(output, ratio)
        if kind is not None:
            seen.pop(name, None)
            seen[name] = _Seen(*kind)

    with _watching(network, note):
        encoder.encode(np.repeat(pixels[:1], _PROBED, axis=0))
    # A module used in several places, as an activation may be, is no layer.
    return {name: found for name, found in seen.items() if calls[name] == 1}


def _kind(output: torch.Tensor, ratio: float) -> tuple[Kind, tuple[int, int], int] | None:
    """Kind, (H, W) and tokens before the patches, when the output is a map a picture."""
    if output.ndim < 3 or len(output) != _PROBED:  # windows of a picture, or weights
        return None
    if output.ndim == 4 and output.shape[2] == output.shape[3] and _split(output.shape[3], ratio):
        # As (heads, L, L) unless a map of the same shape, which never sums to 1.
        sums = output.float().sum(dim=3)
        if torch.allclose(sums, torch.ones_like(sums), atol=1e-2) and output.min() >= 0:
            prefix, cells = _split(output.shape[3], ratio) or (0, (0, 0))
            return "attention", cells, prefix
    if output.ndim == 4:
        for height, width in (output.shape[2:], output.shape[1:3]):  # Swin's channels are last
            if height > 1 and width > 1 and abs(height - width * ratio) <= 1:
                return "channels", (height, width), 0
    if output.ndim == 3:
        split = _split(output.shape[1], ratio)
        if split is not None:
            return "patches", split[1], split[0]
    return None


def _split(tokens: int, ratio: float) -> tuple[int, tuple[int, int]] | None:
    """Tokens before the patches, and the patches' rows and columns; None when none fit."""
    for prefix in range(min(_MAX_PREFIX, tokens)):
        patches = tokens - prefix
        width = round((patches / ratio) ** 0.5)
        height = round(width * ratio)
        if width > 1 and height > 1 and height * width == patches:
            return prefix, (height, width)
    return None


def _asked(network: torch.nn.Module, seen: dict[str, _Seen], layers: Sequence[str]) -> list[str]:
    known = [name for name, _ in network.named_modules() if name]
    for name in layers:
        if name in seen:
            continue
        if name in known:
            raise ConfigError(
                f"layers: '{name}' gives no map; some that do: {', '.join(_some(list(seen)))}"
            )
        near = difflib.get_close_matches(name, list(seen), n=3, cutoff=0.4) or _some(list(seen))
        raise ConfigError(f"layers: the network has no '{name}'; try {', '.join(near)}")
    return list(layers)


def _some(names: list[str]) -> list[str]:
    return names[:: max(1, len(names) // 6)][:6]


def _spread(network: torch.nn.Module, seen: dict[str, _Seen]) -> list[str]:
    blocks = [name for name in _blocks(network) if name in seen and seen[name].kind == "patches"]
    if not blocks:
        last = _last_of_each_size(network, seen)
        if last:
            return last
        blocks = [name for name, found in seen.items() if found.kind == "patches"]
    looks = [name for name, found in seen.items() if found.kind == "attention"]
    # A module in a module hands the same weights on: the outer one will do.
    outer = [n for n in looks if not any(n.startswith(f"{other}.") for other in looks)]
    return _ends(outer) + _ends(blocks)


def _last_of_each_size(network: torch.nn.Module, seen: dict[str, _Seen]) -> list[str]:
    """The outermost layer of each resolution, of several the last, in their order."""
    modules = dict(network.named_modules())
    best: dict[tuple[int, int], str] = {}
    for name, found in seen.items():
        kind = type(modules[name]).__name__
        if found.kind != "channels" or kind.startswith(("ZeroPad", "ConstantPad", "Identity")):
            continue
        known = best.get(found.cells)
        if known is None or name.count(".") <= known.count("."):
            best[found.cells] = name
    return [name for name in seen if name in best.values()]


def _blocks(network: torch.nn.Module) -> list[str]:
    """Members of the network's longest row of equal modules."""
    longest: list[str] = []
    for parent, module in network.named_modules():
        if not isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential)):
            continue
        children = dict(module.named_children())
        if len({type(child) for child in children.values()}) == 1 and len(children) > len(longest):
            longest = [f"{parent}.{name}".lstrip(".") for name in children]
    return longest


def _ends(names: list[str]) -> list[str]:
    picks = sorted({round(i) for i in np.linspace(0, len(names) - 1, _SPREAD)}) if names else []
    return [names[i] for i in picks]


@contextmanager
def _watching(
    network: torch.nn.Module, see: Any, *, only: set[str] | None = None
) -> Iterator[None]:
    """Call `see(name, output)` for the modules' outputs; of a tuple, its attention or its first."""
    handles = []
    for name, module in network.named_modules():
        if not name or (only is not None and name not in only):
            continue

        def hook(module: Any, args: Any, output: Any, name: str = name) -> None:
            tensor = _main_tensor(output)
            if tensor is not None:
                see(name, tensor)

        handles.append(module.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _main_tensor(output: Any) -> torch.Tensor | None:
    if isinstance(output, torch.Tensor):
        return output
    values = output if isinstance(output, tuple) else tuple(getattr(output, "values", tuple)())
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    weights = [t for t in tensors[1:] if t.ndim == 4 and t.shape[2] == t.shape[3]]
    return (weights or tensors or [None])[0]


def _channel_maps(name: str, x_NCHW: NDArray[np.float32], seen: _Seen, count: int) -> LayerMaps:
    if x_NCHW.shape[2:] != seen.cells:
        x_NCHW = x_NCHW.transpose(0, 3, 1, 2)
    # The spread of a channel over pictures and places, in units of the layer.
    spread_C = x_NCHW.std(axis=(0, 2, 3))
    best = np.argsort(-spread_C, kind="stable")[:count]
    maps = np.ascontiguousarray(x_NCHW[:, best].transpose(0, 2, 3, 1))
    return LayerMaps(name, "channels", maps, x_NCHW.shape[1], tuple(int(c) for c in best))


def _attention_maps(name: str, x_NALL: NDArray[np.float32], seen: _Seen, count: int) -> LayerMaps:
    mean_NLL = x_NALL.mean(axis=1)
    # From the class token; without one, what all patches look at on average.
    from_NL = mean_NLL[:, 0] if seen.prefix else mean_NLL.mean(axis=1)
    maps = from_NL[:, seen.prefix :].reshape(-1, *seen.cells, 1)
    return LayerMaps(name, "attention", maps, x_NALL.shape[1], has_class=seen.prefix > 0)


def _patch_maps(name: str, x_NLD: NDArray[np.float32], seen: _Seen, count: int) -> LayerMaps:
    rows = x_NLD[:, seen.prefix :].reshape(-1, x_NLD.shape[2]).astype(np.float64)
    rows = rows - rows.mean(axis=0)
    _, axes_DD = np.linalg.eigh(rows.T @ rows)
    axes_D3 = axes_DD[:, ::-1][:, :3]
    axes_D3 = axes_D3 * np.sign(
        axes_D3[np.abs(axes_D3).argmax(axis=0), np.arange(axes_D3.shape[1])]
    )
    parts = rows @ axes_D3
    low, high = np.percentile(parts, (2, 98), axis=0)
    scaled = ((parts - low) / np.maximum(high - low, 1e-12)).clip(0, 1).astype(np.float32)
    maps = scaled.reshape(len(x_NLD), *seen.cells, -1)
    return LayerMaps(name, "patches", maps, x_NLD.shape[2])


_MAPS = {"channels": _channel_maps, "attention": _attention_maps, "patches": _patch_maps}
