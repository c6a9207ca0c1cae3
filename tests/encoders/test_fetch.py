"""Fetching says what to use afterwards, or what could not be reached; nothing half-made stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from clusterlib.encoders.select import fetch_model
from clusterlib.errors import ConfigError, InputError


@pytest.mark.parametrize("model", ["efficientnet-lite0", "classic:hog"])
def test_some_encoders_need_nothing(model: str, tmp_path: Path) -> None:
    assert fetch_model(model, tmp_path) == model
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_used(tmp_path: Path) -> None:
    assert fetch_model(f"hf:{tmp_path}", tmp_path / "models") == f"hf:{tmp_path}"


def test_without_a_network_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match="hf:nobody/nothing: cannot be downloaded: .*whole are kept"
    ):
        fetch_model("hf:nobody/nothing", tmp_path)
    assert not list(tmp_path.glob("*@*"))


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown model 'clip'"):
        fetch_model("clip", tmp_path)
