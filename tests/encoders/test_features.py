"""Maps of layers are those of the forward pass that makes the embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clusterlib.config import EncoderConfig
from clusterlib.encoders.features import layer_maps
from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.errors import ConfigError
from clusterlib.images.decode import Geometry
from tests.stages.test_compare_encoders import save_vit

LARGE = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
SMALL = np.random.default_rng(2).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def load(model: str) -> Any:
    spec = describe_encoder(EncoderConfig(model=model, precision="float32"))
    return load_encoder(spec, device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    save_vit(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def efficientnet() -> Any:
    return load("efficientnet-lite0")


def test_a_convolutional_network_shows_every_resolution_down_to_the_embedding(
    efficientnet: Any,
) -> None:
    encoder = efficientnet
    before = encoder.encode(LARGE)
    maps = layer_maps(encoder, LARGE, channels=1280)
    assert [layer.maps_NHWC.shape[1] for layer in maps] == [112, 56, 28, 14, 7]
    last = maps[-1]
    assert (last.kind, last.total) == ("channels", 1280)
    head = np.empty((2, 7, 7, 1280), dtype=np.float32)
    head[..., list(last.channels)] = last.maps_NHWC
    rectified = np.clip(head, 0, 6).mean(axis=(1, 2))  # ReLU6 follows
    rectified /= np.linalg.norm(rectified, axis=1, keepdims=True)
    np.testing.assert_allclose(rectified, before, atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(LARGE), before)  # nothing keeps watching


def test_a_chosen_layer_shows_the_channels_that_differ_most(efficientnet: Any) -> None:
    (layer,) = layer_maps(efficientnet, LARGE, layers=["_blocks.4"], channels=3)
    (whole,) = layer_maps(efficientnet, LARGE, layers=["_blocks.4"], channels=40)
    assert layer.maps_NHWC.shape == (2, 28, 28, 3)
    assert layer.channels == whole.channels[:3]
    spread = whole.maps_NHWC.std(axis=(0, 1, 2))
    assert (np.diff(spread) <= 1e-6).all()


def test_a_residual_network_shows_its_stages(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from torchvision import models

    torch.manual_seed(0)
    save_file(models.resnet18(weights=None).state_dict(), tmp_path / "r.safetensors")
    maps = layer_maps(load(f"torchvision:resnet18:{tmp_path / 'r.safetensors'}"), LARGE)
    assert [layer.name for layer in maps] == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert [layer.total for layer in maps] == [64, 64, 128, 256, 512]


def test_channels_may_come_last() -> None:
    class Last(torch.nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(batch, 4).permute(0, 2, 3, 1)

    spec = replace(
        describe_encoder(EncoderConfig(model="efficientnet-lite0", precision="float32")),
        geometry=Geometry(32, (32, 32), "bilinear"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    encoder = TorchEncoder(
        torch.nn.Sequential(Last()),
        forward=lambda network, batch: network(batch).mean(dim=(1, 2)),
        spec=spec,
        device="cpu",
        batch_size=2,
    )
    (layer,) = layer_maps(encoder, SMALL)
    expected = SMALL.reshape(3, 8, 4, 8, 4, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(layer.maps_NHWC, expected[..., list(layer.channels)], atol=1e-5)


def test_attention_is_that_of_the_library(vit: Path) -> None:
    from transformers import ViTModel

    maps = layer_maps(load(f"hf:{vit}"), SMALL)
    looks = [layer for layer in maps if layer.kind == "attention"]
    assert len(looks) == 2
    reference = ViTModel.from_pretrained(vit, attn_implementation="eager").eval()
    batch = torch.from_numpy(SMALL / 127.5 - 1).float().permute(0, 3, 1, 2)
    with torch.inference_mode():
        attentions = reference(batch, output_attentions=True).attentions
    for layer, weights in zip(looks, attentions, strict=True):
        expected = weights.mean(dim=1)[:, 0, 1:].reshape(3, 4, 4, 1).numpy()
        np.testing.assert_allclose(layer.maps_NHWC, expected, atol=1e-5)
        assert layer.has_class


def test_patches_that_are_alike_get_one_color(vit: Path) -> None:
    halves = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    halves[:, :, 16:] = (255, 40, 0)
    maps = layer_maps(load(f"hf:{vit}"), halves)
    first = next(layer for layer in maps if layer.kind == "patches")
    assert first.maps_NHWC.shape == (1, 4, 4, 3)
    assert first.maps_NHWC.min() >= 0
    assert first.maps_NHWC.max() <= 1
    left, right = first.maps_NHWC[0, :, :2, 0], first.maps_NHWC[0, :, 2:, 0]
    assert left.max() < right.min() or right.max() < left.min()


def test_a_layer_that_is_not_there_or_gives_no_map_is_refused(vit: Path) -> None:
    encoder = load(f"hf:{vit}")
    with pytest.raises(ConfigError, match=r"no 'layer\.0'; try layers\.0"):
        layer_maps(encoder, SMALL, layers=["layer.0"])
    with pytest.raises(ConfigError, match=r"'pooler' gives no map; some that do: "):
        layer_maps(encoder, SMALL, layers=["pooler"])


def test_an_encoder_without_a_network_is_refused() -> None:
    class Histogram:
        def encode(self, pixels_NHWC: np.ndarray) -> np.ndarray:
            return pixels_NHWC.mean(axis=(1, 2))

    with pytest.raises(ConfigError, match="no layers to show"):
        layer_maps(Histogram(), SMALL)
