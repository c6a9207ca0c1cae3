"""Text towers give vectors that agree with what transformers itself makes of pictures and texts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from clusterlib.config import EncoderConfig
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.encoders.text import check_text_tower, encode_texts
from clusterlib.errors import ConfigError, InputError
from tests.encoders.tiny_clip import SIDE, save_clip, save_siglip

PIXELS = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
TEXTS = ["a photo of a disc.", "stripes", "a very long phrase " * 9, "日本 ünï"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.mark.parametrize(("family", "pooling"), [("clip", "projection"), ("siglip", "pooler")])
def test_cosines_are_the_logits_of_the_whole_model(
    family: str, pooling: str, request: pytest.FixtureRequest
) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = request.getfixturevalue(family)
    config = EncoderConfig(model=f"hf:{folder}", precision="float32")
    spec = describe_encoder(config)
    assert spec.pooling == pooling  # what auto comes to is the space of the texts
    images_ND = load_encoder(spec, device="cpu", batch_size=2).encode(PIXELS)
    texts_TD = encode_texts(spec.model, TEXTS, pooling=spec.pooling, batch_size=3)
    assert (texts_TD.dtype, texts_TD.shape) == (np.float32, (4, images_ND.shape[1]))
    np.testing.assert_allclose(np.linalg.norm(texts_TD, axis=1), 1, atol=1e-5)

    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    padding = "max_length" if family == "siglip" else "longest"
    tokens = tokenizer(TEXTS, padding=padding, truncation=True, max_length=16, return_tensors="pt")
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    pixels = torch.from_numpy((PIXELS / np.float32(255) - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = network(**tokens, pixel_values=pixels.float()).logits_per_image
        logits = (logits - getattr(network, "logit_bias", 0)) / network.logit_scale.exp()
    np.testing.assert_allclose(images_ND @ texts_TD.T, logits.numpy(), atol=2e-5)


def test_other_poolings_and_models_are_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pooling 'cls', but the texts of clip lie in the space"):
        check_text_tower(f"hf:{clip}", pooling="cls")
    with pytest.raises(ConfigError, match="CLIP or SigLIP encoder only"):
        check_text_tower("efficientnet-lite0", pooling="mean")
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ConfigError, match="has no text tower"):
        check_text_tower(f"hf:{tmp_path}", pooling="pooler")


def test_missing_files_are_named(clip: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(clip, tmp_path / "clip")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="tokenizer has . tokens for a text tower of 514"):
        encode_texts(f"hf:{folder}", ["x"], pooling="projection")
    folder = shutil.copytree(clip, tmp_path / "vision")
    weights = load_file(folder / "model.safetensors")
    kept = {k: v.clone() for k, v in weights.items() if not k.startswith("text_")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lack .* tensors of the text tower"):
        encode_texts(f"hf:{folder}", ["x"], pooling="projection")
