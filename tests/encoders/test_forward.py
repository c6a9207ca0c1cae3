"""A device with too little memory slows the encoder down and changes nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clusterlib.encoders import forward
from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import InputError
from clusterlib.images.decode import Geometry

SIDE = 8
SPEC = EncoderSpec(
    model="small",
    revision="0",
    pooling="mean",
    precision="float32",
    geometry=Geometry(resize=SIDE, crop=None, interpolation="bilinear"),
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, SIDE, SIDE, 3), dtype=np.uint8)


class Device:
    """Runs a forward pass as a GPU does whose memory holds `room` images."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.sizes: list[int] = []

    def __call__(self, network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")
        return network(batch).mean(dim=(2, 3))


def encoder(device: Device, *, batch_size: int) -> TorchEncoder:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 16, 3)
    return TorchEncoder(network, forward=device, spec=SPEC, device="cpu", batch_size=batch_size)


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    device = Device(room=5)
    found = encoder(device, batch_size=32).encode(PIXELS)
    wanted = encoder(Device(room=99), batch_size=32).encode(PIXELS)
    assert found.shape == wanted.shape == (50, 16)
    assert (found * wanted).sum(axis=1).min() > 0.9999
    assert device.sizes[:4] == [32, 16, 8, 4]
    assert set(device.sizes[4:]) == {4, 2}  # the last two images are a batch of their own


def test_the_size_grows_back_and_stays_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "_REGROW_BATCHES", 2)
    device = Device(room=2)
    network = encoder(device, batch_size=16)
    network.encode(PIXELS[:8])
    device.room, device.sizes = 99, []
    network.encode(PIXELS)
    # Two of eight fit, a third was on its way when the size grew.
    assert device.sizes == [8, 8, 8, 16, 10]


def test_not_even_one_image_fits() -> None:
    with pytest.raises(InputError, match="does not hold one image .*gpus_per_actor"):
        encoder(Device(room=0), batch_size=4).encode(PIXELS)


def test_zero_and_infinite_vectors_become_nan() -> None:
    def bad(network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        vectors = torch.ones(len(batch), 4)
        vectors[0] = 0
        vectors[1, 2] = torch.inf
        return vectors

    encoder = TorchEncoder(torch.nn.Identity(), forward=bad, spec=SPEC, device="cpu", batch_size=4)
    found = encoder.encode(PIXELS[:3])
    assert np.isfinite(found).all(axis=1).tolist() == [False, False, True]
