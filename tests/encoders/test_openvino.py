"""OpenVINO gives the vectors that torch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clusterlib.encoders.check import check_encoder
from clusterlib.encoders.openvino_runtime import OpenVinoEncoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError
from tests.encoders.helpers import PICTURES, cosines, ours, pixels_of, png, spec_of

pytest.importorskip("openvino")


def compared(spec: EncoderSpec, against: EncoderSpec) -> np.ndarray:
    """Cosines of OpenVINO's vectors, in batches of two, with torch's of `against`."""
    pixels = pixels_of(spec, [png(image) for image in PICTURES])
    found = OpenVinoEncoder(spec, batch_size=2, threads=1).encode(pixels)
    assert found.dtype == np.float32
    return cosines(found, ours(against))


def test_the_default_encoder_is_the_same() -> None:
    exact = spec_of("efficientnet-lite0")
    assert compared(exact, exact).min() > 0.9999
    fast = spec_of("efficientnet-lite0", precision="bfloat16")
    # A CPU without bfloat16 gives the exact ones.
    assert max(compared(fast, fast).min(), compared(fast, exact).min()) > 0.9995


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import ViTConfig, ViTImageProcessorFast, ViTModel

    folder: Path = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = ViTConfig(image_size=32, patch_size=8, **sizes)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorFast(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf:{folder}"


def test_a_transformer_is_the_same(vit: str) -> None:
    spec = spec_of(vit)
    assert compared(spec, spec).min() > 0.9999
    encoder = OpenVinoEncoder(spec, batch_size=4, threads=1)
    assert check_encoder(encoder, spec) == 32
    encoder.resize_batch(1)
    assert encoder.encode(np.zeros((3, 32, 32, 3), dtype=np.uint8)).shape == (3, 32)


@pytest.mark.parametrize(
    ("model", "precision", "words"),
    [
        ("classic:hog", "float32", "has no network for openvino"),
        ("efficientnet-lite0", "float16", "has no float16 on CPUs"),
    ],
)
def test_what_openvino_cannot_run_is_refused(model: str, precision: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        OpenVinoEncoder(spec_of(model, precision=precision), batch_size=1, threads=1)
