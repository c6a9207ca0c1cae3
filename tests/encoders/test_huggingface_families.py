"""Our vector of a PNG file is what transformers' own processor and model make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from clusterlib.encoders.select import load_encoder
from clusterlib.errors import InputError
from tests.encoders.helpers import PICTURES, cosines, ours, pixels_of, png, spec_of

SIDE = 32
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_VIT = _SIZES | {"image_size": SIDE, "patch_size": 8}
_CROP = {"size": {"shortest_edge": 36}, "crop_size": {"height": SIDE, "width": SIDE}}
_EXACT = {"size": {"height": SIDE, "width": SIDE}}
_SWIN = {"image_size": SIDE, "patch_size": 4, "embed_dim": 16, "depths": [1, 1]}
_SWIN |= {"num_heads": [2, 2], "window_size": 4}
_STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}


def _pooled(output: Any) -> torch.Tensor:
    return output.pooler_output.flatten(1)


def _cls(output: Any) -> torch.Tensor:
    return output.last_hidden_state[:, 0]


def _clip() -> Any:
    text = hf.CLIPTextConfig(**_SIZES, intermediate_size=16, vocab_size=20)
    vision = hf.CLIPVisionConfig(**_VIT, intermediate_size=37, projection_dim=24)
    return hf.CLIPModel(
        hf.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24)
    )


def _siglip() -> Any:
    text = hf.SiglipTextConfig(**_SIZES, intermediate_size=16, vocab_size=20)
    vision = hf.SiglipVisionConfig(**_VIT, intermediate_size=37)
    return hf.SiglipModel(
        hf.SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    )


# Network, its processor, and what its users take as the embedding.
FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[], Any], Callable[[Any], torch.Tensor]]] = {
    "clip": (_clip, lambda: hf.CLIPImageProcessor(**_CROP), lambda out: out.image_embeds),
    "siglip": (_siglip, lambda: hf.SiglipImageProcessor(**_EXACT), _pooled),
    "vit": (
        lambda: hf.ViTModel(hf.ViTConfig(**_VIT, intermediate_size=37)),
        lambda: hf.ViTImageProcessor(**_EXACT),
        _cls,
    ),
    "deit": (
        lambda: hf.DeiTModel(hf.DeiTConfig(**_VIT, intermediate_size=37)),
        lambda: hf.DeiTImageProcessor(**_CROP),
        _cls,
    ),
    "beit": (
        lambda: hf.BeitModel(hf.BeitConfig(**_VIT, intermediate_size=37)),
        lambda: hf.BeitImageProcessor(**_EXACT, do_center_crop=False),
        _pooled,
    ),
    "dinov2": (
        lambda: hf.Dinov2Model(hf.Dinov2Config(**_VIT)),
        lambda: hf.BitImageProcessor(**_CROP),
        _cls,
    ),
    "dinov2-registers": (
        lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**_VIT)),
        lambda: hf.BitImageProcessor(**_CROP),
        _cls,
    ),
    "dinov3-vit": (
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**_VIT, intermediate_size=37)),
        lambda: hf.DINOv3ViTImageProcessor(**_EXACT),
        _cls,
    ),
    "dinov3-convnext": (
        lambda: hf.DINOv3ConvNextModel(
            hf.DINOv3ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
        ),
        lambda: hf.DINOv3ViTImageProcessor(**_EXACT),
        _pooled,
    ),
    "swin": (
        lambda: hf.SwinModel(hf.SwinConfig(**_SWIN)),
        lambda: hf.ViTImageProcessor(**_EXACT),
        _pooled,
    ),
    "swinv2": (
        lambda: hf.Swinv2Model(hf.Swinv2Config(**_SWIN)),
        lambda: hf.ViTImageProcessor(**_EXACT),
        _pooled,
    ),
    "convnext": (
        lambda: hf.ConvNextModel(
            hf.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1])
        ),
        lambda: hf.ConvNextImageProcessor(size={"shortest_edge": SIDE}, crop_pct=0.875),
        _pooled,
    ),
    "resnet": (
        lambda: hf.ResNetModel(hf.ResNetConfig(embedding_size=8, **_STAGES)),
        lambda: hf.ConvNextImageProcessor(size={"shortest_edge": SIDE}, crop_pct=0.875),
        _pooled,
    ),
    "mobilevit": (
        lambda: hf.MobileViTModel(
            hf.MobileViTConfig(
                image_size=64,
                initializer_range=0.4,
                hidden_sizes=[16, 16, 16],
                neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16],
            )
        ),
        lambda: hf.MobileViTImageProcessor(
            size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
        ),
        _pooled,
    ),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("families")

    def folder(kind: str) -> Path:
        path = root / kind
        if not path.exists():
            torch.manual_seed(1)
            FAMILIES[kind][0]().save_pretrained(path)
            FAMILIES[kind][1]().save_pretrained(path)
        return path

    return folder


@pytest.mark.parametrize("kind", FAMILIES)
def test_ours_equals_the_librarys_own_way(saved: Callable[[str], Path], kind: str) -> None:
    folder = saved(kind)
    spec = spec_of(f"hf:{folder}")
    found = ours(spec)
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    prepared = processor(PICTURES, return_tensors="pt").pixel_values
    loader = hf.CLIPVisionModelWithProjection if kind == "clip" else hf.AutoModel
    network = loader.from_pretrained(folder).eval()
    network = getattr(network, "vision_model", network) if kind == "siglip" else network
    with torch.inference_mode():
        wanted = FAMILIES[kind][2](network(pixel_values=prepared))
    assert cosines(found, wanted).min() >= 0.9999
    # Random networks see little difference between pictures; what differs must agree as well.
    unit = torch.nn.functional.normalize(wanted.float(), dim=1).numpy()
    assert np.abs(found - unit).max() < 0.5 * np.abs(unit - unit[::-1]).max()


@pytest.mark.parametrize("kind", ["clip", "vit", "dinov3-vit", "swin", "convnext", "resnet"])
def test_bfloat16_is_near_float32(saved: Callable[[str], Path], kind: str) -> None:
    exact, rough = (
        ours(spec_of(f"hf:{saved(kind)}", precision=precision))
        for precision in ("float32", "bfloat16")
    )
    assert cosines(exact, rough).min() >= 0.999
    assert not np.array_equal(exact, rough)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_neither_batch_size_nor_order_changes_a_vector(
    saved: Callable[[str], Path], kind: str
) -> None:
    spec = spec_of(f"hf:{saved(kind)}")
    pixels = pixels_of(spec, [png(image) for image in PICTURES])
    one, all_at_once = (load_encoder(spec, device="cpu", batch_size=n) for n in (1, 3))
    wanted = one.encode(pixels)
    np.testing.assert_allclose(all_at_once.encode(pixels), wanted, atol=1e-3)
    np.testing.assert_allclose(all_at_once.encode(pixels[::-1])[::-1], wanted, atol=1e-3)


def test_flatten_is_the_whole_map(saved: Callable[[str], Path]) -> None:
    assert ours(spec_of(f"hf:{saved('resnet')}", pooling="flatten")).shape == (3, 16 * 4 * 4)
    assert ours(spec_of(f"hf:{saved('vit')}", pooling="flatten")).shape == (3, 32 * 16)


def test_other_preprocessing_is_another_identity(saved: Callable[[str], Path]) -> None:
    path = saved("beit") / "preprocessor_config.json"
    before = spec_of(f"hf:{saved('beit')}")
    text = path.read_text()
    try:
        path.write_text(text.replace('"do_normalize": true', '"do_normalize": false'))
        after = spec_of(f"hf:{saved('beit')}")
    finally:
        path.write_text(text)
    assert (before.mean, before.revision) != (after.mean, after.revision)
    assert before.mean != after.mean
    assert before.revision != after.revision


def test_missing_weights_name_file_and_folder(saved: Callable[[str], Path]) -> None:
    weights = saved("deit") / "model.safetensors"
    weights.rename(weights.with_suffix(".moved"))
    try:
        with pytest.raises(InputError, match=r"no model\.safetensors in .*deit"):
            ours(spec_of(f"hf:{saved('deit')}"))
    finally:
        weights.with_suffix(".moved").rename(weights)
