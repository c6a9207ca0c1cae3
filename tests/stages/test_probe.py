"""An encoder is tried before any image is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clusterlib.config import EncoderConfig, validate_config
from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.errors import InputError
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.embedding import probe
from clusterlib.stages.embedding.embed_images import embed_images
from clusterlib.stages.embedding.probe import Runtime, probe_encoder
from clusterlib.stages.session import open_session
from tests.conftest import settings

# As many threads as there are: the setting is the whole process's.
RUNTIME = Runtime("cpu", torch.get_num_threads())


@pytest.fixture(scope="module")
def broken_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A ViT whose weights hold one NaN."""
    from transformers import ViTConfig, ViTImageProcessorFast, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes), add_pooling_layer=False)
    with torch.no_grad():
        network.embeddings.cls_token.fill_(float("nan"))
    network.save_pretrained(folder)
    ViTImageProcessorFast(size={"height": 32, "width": 32}).save_pretrained(folder)
    return f"hf:{folder}"


def test_a_probe_says_what_an_encoder_does() -> None:
    spec = describe_encoder(EncoderConfig())
    found = probe_encoder(spec, runtime=RUNTIME, batch_size=2)
    assert (found.dim, found.batch_size) == (1280, 2)
    assert found.images_per_second > 0
    assert found.memory_mb > 50


def test_the_batch_grows_while_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {4: 10.0, 8: 20.0, 16: 25.0, 32: 25.1, 64: 99.0}
    monkeypatch.setattr(probe, "_rate", lambda encoder, spec, size: rates[size])
    spec = describe_encoder(EncoderConfig())
    found = probe_encoder(spec, runtime=RUNTIME, batch_size=None)
    assert (found.batch_size, found.images_per_second) == (16, 25.0)


def test_a_batch_that_does_not_fit_is_no_candidate() -> None:
    spec = describe_encoder(EncoderConfig())
    encoder = load_encoder(spec, device="cpu", batch_size=1)
    assert isinstance(encoder, TorchEncoder)
    forward = encoder._forward

    def tight(network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 2:
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")
        return forward(network, batch)

    encoder._forward = tight
    assert probe._rate(encoder, spec, 2) > 0
    assert probe._rate(encoder, spec, 4) == 0


def test_a_compiled_encoder_gives_the_same_vectors() -> None:
    import numpy as np

    spec = describe_encoder(EncoderConfig(precision="float32"))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), dtype=np.uint8)
    encoder = load_encoder(spec, device="cpu", batch_size=4)
    assert isinstance(encoder, TorchEncoder)
    plain = encoder.encode(pixels)
    # A backend without code generation: the real one takes half a minute.
    torch._dynamo.reset()
    encoder.compile(backend="aot_eager")
    found = encoder.encode(pixels)  # the second batch is padded
    assert found.shape == plain.shape
    assert (found * plain).sum(axis=1).min() > 0.9999


def test_a_broken_network_stops_the_job_before_images_are_read(
    ray_session: None, tmp_path: Path, shapes_folder: Path, broken_model: str
) -> None:
    tree = settings(shapes_folder, tmp_path / "run", encoder={"model": broken_model})
    session = open_session(validate_config(tree))
    build_catalog(session)
    with pytest.raises(InputError, match="NaN, infinite or zero") as caught:
        embed_images(session)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "embeddings").exists()
