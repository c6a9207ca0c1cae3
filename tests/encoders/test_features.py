"""Maps of layers are those that the network computes, and of a size with the picture's grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clusterlib.encoders.features import layer_maps
from clusterlib.errors import ConfigError
from tests.encoders.helpers import PICTURES, pixels_of, png, spec_of


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    import transformers as hf

    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4}
    config = hf.ViTConfig(**sizes, image_size=32, patch_size=8, intermediate_size=16)
    torch.manual_seed(0)
    hf.ViTModel(config).save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf:{folder}"


def test_a_convolutional_network_is_shown_from_fine_to_coarse() -> None:
    spec = spec_of("efficientnet-lite0")
    found = layer_maps(spec, pixels_of(spec, [png(image) for image in PICTURES[:2]]))
    sizes = [layer.maps_NCHW.shape[2] for layer in found]
    assert sizes == [56, 28, 14, 7]
    assert all(layer.kind == "channels" and len(layer.maps_NCHW) == 2 for layer in found)


def test_a_transformer_shows_patches_and_attention(vit: str) -> None:
    import transformers as hf

    spec = spec_of(vit)
    pixels = pixels_of(spec, [png(image) for image in PICTURES])
    *blocks, attention = layer_maps(spec, pixels)
    assert [layer.maps_NCHW.shape for layer in blocks] == [(3, 32, 4, 4)] * 4
    assert attention.kind == "attention"
    assert attention.maps_NCHW.shape == (3, 4, 4, 4)
    network = hf.ViTModel.from_pretrained(Path(vit.removeprefix("hf:"))).eval()
    network.set_attn_implementation("eager")
    batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        out = network(pixel_values=batch, output_attentions=True, output_hidden_states=True)
    by_hand = out.attentions[-1][:, :, 0, 1:].reshape(3, 4, 4, 4)
    np.testing.assert_allclose(attention.maps_NCHW, by_hand, atol=1e-5)


def test_a_wrong_layer_gets_its_nearest_names(vit: str) -> None:
    spec = spec_of(vit)
    pixels = pixels_of(spec, [png(PICTURES[0])])
    named = layer_maps(spec, pixels)[0].layer
    assert [layer.layer for layer in layer_maps(spec, pixels, layers=[named])] == [named]
    with pytest.raises(ConfigError, match=f"no layer '{named}x' with maps; did you mean"):
        layer_maps(spec, pixels, layers=[named + "x"])


def test_an_encoder_without_layers_says_so() -> None:
    spec = spec_of("classic:hog")
    with pytest.raises(ConfigError, match="has no layers to show"):
        layer_maps(spec, np.zeros((1, 128, 128, 3), dtype=np.uint8))
