"""What every torch library hands over: a network, and how one embedding comes out of it."""

from __future__ import annotations

import difflib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clusterlib.errors import InputError


@dataclass(frozen=True)
class Network:
    """A module with its weights; `forward` takes it and a normalised NCHW batch, returns (N, D)."""

    module: torch.nn.Module
    forward: Callable[[Any, torch.Tensor], torch.Tensor]
    memory_format: torch.memory_format = torch.preserve_format


def flat_mean(features: torch.Tensor) -> torch.Tensor:
    """The mean over height and width of an NCHW map; (N, C) rows are left as they are."""
    return features.mean(dim=(2, 3)) if features.ndim == 4 else features


def file_hash(path: Path) -> str:
    """`sha256:` and 16 hex digits of a file's content."""
    with path.open("rb") as handle:
        digest = hashlib.sha256()
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()[:16]}"


def cache_folder() -> Path:
    """Where converted weights are kept: $CLUSTERLIB_CACHE, else below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CLUSTERLIB_CACHE") or Path(base) / "clusterlib")


def save_tensors(
    state: dict[str, torch.Tensor], path: Path, *, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file that is either whole or not there."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    os.close(descriptor)
    try:
        # Cloned: tensors that share memory are refused.
        whole = {name: value.contiguous().clone() for name, value in state.items()}
        save_file(whole, temporary, metadata=metadata)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is missing or not one.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except FileNotFoundError:
        raise InputError(f"weights cannot be loaded: no {path.name} in {path.parent}") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"weights cannot be loaded: {path}: {first_line(error)}") from None
    return tensors


def nearest_names(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` for a name that is nearly one of `known`, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
