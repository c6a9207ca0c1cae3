"""Networks of timm: our vector of a PNG file is the one of timm's own transform and model."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from clusterlib.errors import ConfigError, InputError
from tests.encoders.helpers import PICTURES, cosines, ours, spec_of

NETWORKS = [
    "resnet10t.c3_in1k",
    "vit_tiny_patch16_224.augreg_in21k",
    "swin_tiny_patch4_window7_224",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_ours_equals_timms_own_way(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    path = tmp_path / "weights.safetensors"
    save_file(network.state_dict(), path)
    # The test size, which some weights were scored with, is another; the training size is taken.
    config = timm.data.resolve_data_config({}, pretrained_cfg=network.pretrained_cfg)
    transform = timm.data.create_transform(**config, is_training=False)
    batch = torch.stack([transform(image) for image in PICTURES[:2]])
    network.reset_classifier(0)
    with torch.inference_mode():
        wanted = network(batch)
        features = network.forward_features(batch)
    found = ours(spec_of(f"timm:{name}:{path}"), PICTURES[:2])
    assert cosines(found, wanted).min() >= 0.9999
    if features.ndim == 3:
        features = features[:, 1:].mean(1)
    else:
        features = features.mean((1, 2) if name.startswith("swin") else (2, 3))
    found = ours(spec_of(f"timm:{name}:{path}", pooling="mean"), PICTURES[:2])
    assert cosines(found, features).min() >= 0.9999


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("timm:resnet5o", "no network 'resnet5o'; did you mean resnet50"),
        ("timm:resnet50.best", "no weights 'best' of resnet50; there are: .*a1_in1k"),
        ("timm:resnet10t:/not/there.safetensors", "expected an existing .safetensors file"),
    ],
)
def test_a_wrong_model_is_named(model: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        spec_of(model)


def test_offline_the_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"no config\.json of timm/resnet10t\.c3_in1k in "):
        spec_of("timm:resnet10t.c3_in1k")


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"fc.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(InputError, match="weights cannot be loaded"):
        ours(spec_of(f"timm:resnet10t:{path}"))
