"""Files of the Hugging Face hub: from its cache, or downloaded; only those of an image model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from clusterlib.encoders.network import first_line
from clusterlib.errors import InputError

# Nothing that could hold code or pickles.
_DESCRIPTION = ["config.json", "preprocessor_config.json", "processor_config.json"]
_WEIGHTS = ["model.safetensors", "model-*.safetensors", "model.safetensors.index.json"]


def commit_of(repo: str, *, model: str) -> str:
    """The commit that `main` of a repository names now, or did when it was cached.

    Raises:
        InputError: the hub cannot be reached and nothing is cached.
    """
    return hub_file(repo, "config.json", revision=None, model=model).parent.name


def hub_file(
    repo: str, filename: str, *, revision: str | None, model: str, folder: Path | None = None
) -> Path:
    """One file of a repository, in the cache or in `folder`.

    Raises:
        InputError: it is not there and cannot be downloaded.
    """
    from huggingface_hub import constants, hf_hub_download

    where = str(folder or constants.HF_HUB_CACHE)
    options: dict[str, Any] = {"local_dir": folder} if folder else {}
    try:
        return Path(hf_hub_download(repo, filename, revision=revision, **options))
    except (OSError, ValueError) as error:  # the hub's own errors are both
        raise InputError(
            f"{model}: no {filename} of {repo} in {where}, and it cannot be downloaded: "
            f"{first_line(error)}"
        ) from None


def fetch_folder(repo: str, *, revision: str | None, folder: Path) -> Path:
    """All that `hf:<folder>` needs of a repository; whole when it has its name; a file at a time.

    Raises:
        InputError: it cannot be downloaded, or it has no safetensors weights.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        commit = HfApi().model_info(repo, revision=revision).sha
        target = folder / f"{repo.replace('/', '--')}@{(commit or 'main')[:12]}"
        if target.is_dir():
            return target
        partial = target.with_name(target.name + ".partial")
        snapshot_download(
            repo, revision=commit, local_dir=partial, allow_patterns=_DESCRIPTION + _WEIGHTS
        )
    except Exception as error:  # noqa: BLE001 - the hub's client raises whatever its own does
        raise InputError(
            f"hf:{repo}: cannot be downloaded: {first_line(error)}; check the name and the "
            "network, and run the same command again: files that are whole are kept"
        ) from None
    if not any(partial.glob("*.safetensors")):
        raise InputError(f"hf:{repo}: it has no model.safetensors; other formats are not loaded")
    os.replace(partial, target)
    return target
