"""Networks of torchvision: our vector of a PNG file is the one of their own transforms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from clusterlib.encoders import torchvision_models
from clusterlib.encoders.select import load_encoder
from clusterlib.errors import ConfigError, InputError
from tests.encoders.helpers import PICTURES, cosines, ours, spec_of

# Name, pooling asked and used, and the module whose input is the same by hand (flattened), pooled
# over the map where it is one.
NETWORKS = [
    ("resnet18", "auto", "mean", "fc"),
    ("alexnet", "auto", "pooler", "classifier.6"),
    ("alexnet", "flatten", "flatten", "classifier.0"),
    ("alexnet", "mean", "mean", "avgpool"),
    ("inception_v3", "auto", "mean", "fc"),
    ("efficientnet_b0", "auto", "mean", "classifier"),
    ("mobilenet_v3_small", "auto", "mean", "classifier"),
    ("mobilenet_v3_small", "pooler", "pooler", "classifier.3"),
    ("densenet121", "auto", "mean", "classifier"),
    ("squeezenet1_1", "auto", "mean", "classifier"),
    ("convnext_tiny", "auto", "pooler", "classifier.2"),
    ("swin_t", "auto", "mean", "head"),
    ("vit_b_32", "auto", "cls", "heads"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, Path]]:
    """A random network as its users build it, and the file of its weights; the last one is kept."""
    folder = tmp_path_factory.mktemp("torchvision")
    kept: dict[str, tuple[Any, Path]] = {}

    def make(name: str) -> tuple[Any, Path]:
        if name not in kept:
            kept.clear()
            torch.manual_seed(0)
            # With published weights, Inception turns their normalisation into its own.
            options = {"transform_input": True, "init_weights": True} if "incep" in name else {}
            network = models.get_model(name, weights=None, **options).eval()
            path = folder / f"{name}.safetensors"
            save_file(network.state_dict(), path)
            kept[name] = network, path
        return kept[name]

    return make


@pytest.mark.parametrize(
    ("name", "asked", "used", "module"), NETWORKS, ids=[f"{n[0]}-{n[1]}" for n in NETWORKS]
)
def test_ours_equals_the_networks_own_way(
    saved: Callable[[str], tuple[Any, Path]], name: str, asked: str, used: str, module: str
) -> None:
    network, path = saved(name)
    spec = spec_of(f"torchvision:{name}:{path}", pooling=asked)
    assert spec.pooling == used
    transform = models.get_model_weights(name).DEFAULT.transforms()
    seen: list[torch.Tensor] = []
    handle = network.get_submodule(module).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0])
    )
    with torch.inference_mode():
        network(torch.stack([transform(image) for image in PICTURES[:2]]))
    handle.remove()
    wanted = seen[0]
    if wanted.ndim == 4 and used == "mean":
        wanted = wanted.mean(dim=(2, 3))
    found = ours(spec, PICTURES[:2])
    assert cosines(found, wanted.flatten(1)).min() >= 0.9999


def test_preprocessing_is_that_of_the_weights() -> None:
    inception = spec_of("torchvision:inception_v3").geometry
    assert (inception.resize, inception.crop) == (342, (299, 299))
    first, second = (
        spec_of(f"torchvision:resnet50:IMAGENET1K_{version}") for version in ("V1", "V2")
    )
    assert (first.geometry.resize, second.geometry.resize) == (256, 232)
    assert first.revision == "IMAGENET1K_V1 sha256:0676ba61"
    assert second.revision == spec_of("torchvision:resnet50").revision
    assert spec_of("torchvision:vit_b_16:IMAGENET1K_SWAG_E2E_V1").geometry.crop == (384, 384)


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_every_network_is_described(name: str) -> None:
    spec = spec_of(f"torchvision:{name}")
    digest = spec.revision.rpartition("sha256:")[2]
    assert len(digest) >= 8
    assert int(digest, 16) >= 0


def test_published_weights_are_checked_converted_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where torch.hub would have put it; its name has the digits of another content."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("CLUSTERLIB_CACHE", str(tmp_path / "cache"))
    weights = models.get_model_weights("squeezenet1_1").DEFAULT
    pickled = tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2]
    pickled.parent.mkdir(parents=True)
    torch.save(models.squeezenet1_1(weights=None).state_dict(), pickled)
    spec = spec_of("torchvision:squeezenet1_1")
    with pytest.raises(InputError, match="is not what its name says; delete it"):
        load_encoder(spec, device="cpu", batch_size=1)
    # As if these were the published ones.
    digest = torchvision_models.file_hash(pickled).removeprefix("sha256:")[:8]
    monkeypatch.setattr(torchvision_models, "_url_hash", lambda weights: digest)
    found = ours(spec, PICTURES[:1])
    assert found.shape == (1, 512)
    pickled.unlink()
    np.testing.assert_array_equal(ours(spec, PICTURES[:1]), found)
    made = torchvision_models.fetch("torchvision:squeezenet1_1:IMAGENET1K_V1", tmp_path / "cache")
    assert made.suffix == ".safetensors"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("torchvision:resnet51", r"no classification network 'resnet51'; did you mean resnet50"),
        ("torchvision:", "no classification network ''; for example torchvision:resnet50"),
        ("torchvision:resnet50:IMAGENET1K_V3", "published weights of resnet50: IMAGENET1K_V1, IM"),
        ("torchvision:resnet50:/not/there.safetensors", "expected an existing .safetensors file"),
        ("torchvision:resnet50:" + __file__, "expected an existing .safetensors file"),
    ],
)
def test_a_wrong_model_is_named(model: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        spec_of(model)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [("resnet50", "cls"), ("resnet50", "projection"), ("vit_b_16", "flatten")],
)
def test_a_pooling_that_is_not_there_lists_those_that_are(name: str, pooling: str) -> None:
    with pytest.raises(ConfigError, match=f"torchvision:{name} has only .*, got '{pooling}'"):
        spec_of(f"torchvision:{name}", pooling=pooling)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"fc.weight": torch.zeros(3, 3)}, path)
    spec = spec_of(f"torchvision:resnet18:{path}")
    with pytest.raises(InputError, match="weights cannot be loaded"):
        load_encoder(spec, device="cpu", batch_size=1)
    path.write_bytes(b"these are no tensors")
    with pytest.raises(InputError, match="weights cannot be loaded"):
        load_encoder(spec, device="cpu", batch_size=1)


def test_missing_weights_name_file_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("CLUSTERLIB_CACHE", str(tmp_path / "cache"))

    def unreachable(url: str, *rest: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(InputError, match=r"no resnet18-f37072fd\.pth in .*checkpoints.*fetch_mod"):
        load_encoder(spec_of("torchvision:resnet18"), device="cpu", batch_size=1)
