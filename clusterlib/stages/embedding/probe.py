"""One encoder tried on a worker before any image is read: does it work, how fast, how large?"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from clusterlib.encoders.check import check_encoder
from clusterlib.encoders.select import Encoder, load_encoder
from clusterlib.encoders.spec import EncoderSpec

FIRST_BATCH = {"cpu": 4, "cuda": 32}
LARGEST_BATCH = 1024
# A batch twice as large must be so much faster, and probing may take so long.
WORTH = 1.03
PROBE_SECONDS = 6.0


@dataclass(frozen=True)
class EncoderProbe:
    """What one encoder actor does, by itself on its device.

    `images_per_second` is of the forward pass with uint8 pixels in and float32 vectors out;
    `memory_mb` what the process takes afterwards.
    """

    dim: int
    batch_size: int
    images_per_second: float
    memory_mb: float


@runtime_checkable
class Batched(Protocol):
    """An encoder whose batch size can be chosen."""

    fitting: int

    def resize_batch(self, size: int) -> None:
        """Work with batches of `size` images from now on."""


@dataclass(frozen=True)
class Runtime:
    """How a worker runs the encoder: `device` cpu or cuda, CPU `threads`, torch or openvino."""

    device: str
    threads: int
    name: str = "torch"

    def load(self, spec: EncoderSpec, *, batch_size: int) -> Encoder:
        """The encoder with its weights.

        Raises:
            ConfigError, InputError: it cannot be loaded, or not run in this way.
        """
        import torch

        torch.set_num_threads(self.threads)
        if self.name == "openvino":
            from clusterlib.encoders.openvino_runtime import OpenVinoEncoder

            return OpenVinoEncoder(spec, batch_size=batch_size, threads=self.threads)
        return load_encoder(spec, device=self.device, batch_size=batch_size)


def probe_encoder(spec: EncoderSpec, *, runtime: Runtime, batch_size: int | None) -> EncoderProbe:
    """Load the encoder, check it, and find the batch size that it is fastest with.

    Runs on a worker of the kind that the encoder actors get.

    Args:
        spec: The encoder.
        runtime: How it is run.
        batch_size: The size to take, or None to look for one.

    Raises:
        ConfigError, InputError: it cannot be loaded, or gives no usable vectors.
    """
    sizes = [batch_size] if batch_size else _sizes(FIRST_BATCH[runtime.device])
    encoder = runtime.load(spec, batch_size=sizes[0])
    dim = check_encoder(encoder, spec)
    if not isinstance(encoder, Batched):
        sizes = sizes[:1]
    best, best_rate = sizes[0], 0.0
    started = time.perf_counter()
    for size in sizes:
        rate = _rate(encoder, spec, size)
        if rate < WORTH * best_rate:
            break
        best, best_rate = size, rate
        if time.perf_counter() - started > PROBE_SECONDS / 2:
            break  # the next would take as long as all so far
    return EncoderProbe(dim, best, best_rate, _memory_mb())


def _sizes(first: int) -> list[int]:
    doubled = (first * 2**power for power in itertools.count())
    return list(itertools.takewhile(lambda size: size <= LARGEST_BATCH, doubled))


def _rate(encoder: Encoder, spec: EncoderSpec, size: int) -> float:
    """Images a second in batches of `size`, the best of two; 0 where they do not fit."""
    noise: Any = np.random.default_rng(0).integers(
        0, 256, (size, *spec.geometry.output, 3), dtype=np.uint8
    )
    if isinstance(encoder, Batched):
        encoder.resize_batch(size)
    encoder.encode(noise)
    if isinstance(encoder, Batched) and encoder.fitting < size:
        return 0.0
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        encoder.encode(noise)
        seconds.append(time.perf_counter() - started)
    return size / min(seconds)


def _memory_mb() -> float:
    try:
        with open("/proc/self/statm") as handle:
            return int(handle.read().split()[1]) * 4096 / 2**20
    except OSError:
        return 0.0
