"""Encoders on one sample: each in a small run of its own, a failed one stops no other."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from clusterlib.config import validate_config
from clusterlib.errors import ConfigError, InputError
from clusterlib.stages.models.compare_encoders import compare_encoders
from clusterlib.stages.session import open_session
from tests.conftest import settings


def save_vit(folder: Path, *, seed: int) -> None:
    """A ViT of a few thousand random weights, in the layout of the hub."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8,
    )  # fmt: skip
    ViTModel(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def table_of(folder: Path, shapes: Path) -> Path:
    """The shapes as a table with their kind."""
    with (folder / "catalog.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["uri", "kind"])
        writer.writerows([path, path.parent.name] for path in sorted(shapes.rglob("*.png")))
    return folder / "catalog.csv"


def tree_of(folder: Path, source: Path, *models: str, **compare: Any) -> dict[str, Any]:
    return settings(
        source,
        folder / "run",
        catalog={"label_column": "kind"},
        compare={"models": list(models), **compare},
        compute={"embed": {"batch_size": 8}},
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_one_fails_the_others_are_compared_and_a_restart_reads_no_image(
    tmp_path: Path, shapes_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = shutil.copytree(shapes_folder, tmp_path / "shapes")
    for seed, name in enumerate(("vit-a", "vit-broken")):
        save_vit(tmp_path / name, seed=seed)
    (tmp_path / "vit-broken/model.safetensors").unlink()
    models = [f"hf:{tmp_path / name}" for name in ("vit-broken", "vit-a")] + ["classic:color"]
    tree = tree_of(tmp_path, table_of(tmp_path, shapes), *models, rows=60)
    session = open_session(validate_config(tree))

    with pytest.raises(InputError, match="1 of 3 encoders failed.*weights cannot be loaded"):
        compare_encoders(session)
    first = json.loads((tmp_path / "run/compare/comparison.json").read_text())
    broken, a, b = first["trials"]
    assert (a["model"], a["dim"], a["rows"], a["k"]) == (models[1], 24, 60, 4)
    assert broken["problem"]
    assert broken["dim"] is None
    for trial in (a, b):
        assert [row["k"] for row in trial["sweep"]] == [2, 3, 4, 5, 8]
        assert trial["ami"] > 0.3  # colours and noise, which random weights tell apart too
        assert trial["images_per_second"] > 0
    assert a["silhouette"] != b["silhouette"]
    page = (tmp_path / "run/compare/index.html").read_text()
    assert "Failed: " in page
    assert page.count("<svg") == 2
    assert capsys.readouterr().out.count("weights cannot be loaded") >= 2

    shutil.rmtree(shapes)  # nothing is read again
    with pytest.raises(InputError, match="1 of 3 encoders failed"):
        compare_encoders(open_session(validate_config(tree)))
    second = json.loads((tmp_path / "run/compare/comparison.json").read_text())
    assert second["trials"][1:] == [a, b]
    assert not (tmp_path / "run/embeddings").exists()  # the run itself is untouched


def test_without_models_the_setting_is_named(tmp_path: Path) -> None:
    session = open_session(validate_config(tree_of(tmp_path, tmp_path)))
    with pytest.raises(ConfigError, match="compare.models"):
        compare_encoders(session)
