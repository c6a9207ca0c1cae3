"""A network that gives no usable vectors is found before any image is read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from clusterlib.encoders.check import check_encoder
from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.select import load_encoder
from clusterlib.errors import ConfigError, InputError
from tests.encoders.helpers import spec_of

SPEC = spec_of("efficientnet-lite0")


def encoder(forward: Callable[[torch.Tensor], torch.Tensor]) -> TorchEncoder:
    return TorchEncoder(
        torch.nn.Identity(),
        forward=lambda net, batch: forward(batch),
        spec=SPEC,
        device="cpu",
        batch_size=2,
    )


def test_a_sound_encoder_tells_its_dimensions() -> None:
    assert check_encoder(load_encoder(SPEC, device="cpu", batch_size=2), SPEC) == 1280


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_vectors_that_are_no_numbers(value: float) -> None:
    bad = encoder(lambda batch: torch.full((len(batch), 4), value))
    with pytest.raises(InputError, match="NaN, infinite or zero in float32; the weights are"):
        check_encoder(bad, SPEC)


def test_pictures_of_a_size_that_the_network_does_not_take() -> None:
    layer = torch.nn.Linear(7, 3)
    with pytest.raises(ConfigError, match="does not take pictures of 224 x 224 pixels"):
        check_encoder(encoder(lambda batch: layer(batch)), SPEC)


def test_an_output_that_is_not_one_vector_a_picture() -> None:
    for bad in (lambda b: b[:1].flatten(1), lambda b: b.mean((1, 2, 3))[:, None]):
        with pytest.raises(ConfigError, match=r"returned an array of shape \(.*not one vector"):
            check_encoder(encoder(bad), SPEC)
    mapped = encoder(lambda b: b)
    with pytest.raises(ConfigError, match="not one vector"):
        check_encoder(mapped, SPEC)


def test_it_reads_no_picture_of_the_users() -> None:
    seen: list[np.ndarray] = []

    class Watched:
        def encode(self, pixels_NHWC: np.ndarray) -> np.ndarray:
            seen.append(pixels_NHWC)
            return np.eye(2, 8, dtype=np.float32)

    assert check_encoder(Watched(), SPEC) == 8
    assert seen[0].shape == (2, 224, 224, 3)
