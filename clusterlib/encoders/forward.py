"""The forward pass that every torch encoder shares.

N: images, H, W: pixels, C: channels, D: embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clusterlib.encoders.network import first_line
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError

# A batch that was halved, for want of memory, is doubled again after so many that fitted.
_REGROW_BATCHES = 32


@dataclass(frozen=True)
class _Sent:
    """A uint8 batch on the device, and on a GPU the event of its arrival."""

    pixels_NHWC: torch.Tensor
    arrived: torch.cuda.Event | None


class _Whole(torch.nn.Module):  # type: ignore[misc]
    """Holds the network too, so that whoever walks through modules finds its weights."""

    def __init__(
        self, network: torch.nn.Module, embed: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.network = network
        self._embed = embed

    def forward(self, pixels_NHWC: torch.Tensor) -> torch.Tensor:
        return self._embed(pixels_NHWC)


class TorchEncoder:
    """A network with its preprocessing, on one device.

    Only uint8 goes to the device; on a GPU, a batch is copied from pinned memory, in a stream of
    its own, while the one before is computed.

    Args:
        network: Any module.
        forward: Takes the network and a normalised NCHW batch, returns ND embeddings.
        spec: Normalisation and precision.
        device: `cpu` or `cuda`.
        batch_size: Images in one forward pass; fewer while the device's memory is short.
        memory_format: What the network runs best in; channels last for convolutions.

    Raises:
        ConfigError: `device` is not there.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        forward: Callable[[Any, torch.Tensor], torch.Tensor],
        spec: EncoderSpec,
        device: str,
        batch_size: int,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "compute.embed.device: cuda is asked for, but torch sees no GPU here; "
                "install a CUDA build of torch or set compute.embed.device=cpu"
            )
        self._device = torch.device(device)
        self._dtype = getattr(torch, spec.precision)
        self._network = network.eval().to(self._device, self._dtype, memory_format=memory_format)
        self._forward = forward
        self._input_HW = spec.geometry.output
        self._batch_size = self._fitting = batch_size
        self._fitted = 0  # batches since the size has changed
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._copies = torch.cuda.Stream() if self._device.type == "cuda" else None
        self._memory_format = memory_format
        scale = torch.tensor(spec.std, device=self._device).mul(255).view(1, 3, 1, 1)
        self._scale = 1 / scale
        self._shift = torch.tensor(spec.mean, device=self._device).mul(255).view(1, 3, 1, 1) / scale

    @property
    def fitting(self) -> int:
        """Images in one forward pass at present: fewer where memory is short."""
        return self._fitting

    def resize_batch(self, size: int) -> None:
        """Work with batches of `size` images from now on."""
        self._batch_size = self._fitting = size
        self._fitted = 0

    def compile(self, *, backend: str = "inductor") -> None:
        """Compile normalisation and network into one program for the present batch size.

        Takes tens of seconds with torch's own backend, `inductor`. Every batch is padded to the
        full size afterwards, since another size would be another program.

        Raises:
            ConfigError: torch cannot compile the network here.
        """
        compiled = torch.compile(self._embed, dynamic=False, backend=backend)
        height, width = self._input_HW
        try:
            with torch.inference_mode():
                compiled(
                    torch.zeros(
                        (self._fitting, height, width, 3), dtype=torch.uint8, device=self._device
                    )
                )
        except Exception as error:  # noqa: BLE001 - of the compiler, its driver or the linker
            raise ConfigError(
                f"compute.embed.compile: torch cannot compile this network here "
                f"({first_line(error)}); install a C++ compiler, or set compute.embed.compile=false"
            ) from None
        self._compiled = compiled

    def as_module(self) -> torch.nn.Module:
        """Normalisation, network and unit length as one module: uint8 NHWC in, float32 ND out."""
        return _Whole(self._network, self._embed).eval()

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (N, D), float32, unit rows; a row is NaN where the network fails.

        Args:
            pixels_NHWC: uint8 RGB at the spec's input size.

        Raises:
            InputError: the device's memory does not hold a single image.
        """
        parts: list[torch.Tensor] = []
        start = 0
        with torch.inference_mode():
            coming = self._send(pixels_NHWC[: self._fitting])
            while start < len(pixels_NHWC):
                batch, stop = coming, start + len(coming.pixels_NHWC)
                try:
                    # On its way while this one is computed.
                    coming = self._send(pixels_NHWC[stop : stop + self._fitting])
                    parts.append(self._compute(batch))
                except torch.cuda.OutOfMemoryError as error:
                    self._shrink(stop - start, error)
                    coming = self._send(pixels_NHWC[start : start + self._fitting])
                    continue
                start = stop
                self._regrow()
            result: NDArray[np.float32] = torch.cat(parts).cpu().numpy()
        return result

    def _shrink(self, size: int, error: Exception) -> None:
        if size == 1:
            raise InputError(
                f"compute.embed: the memory of {self._device} does not hold one image ({error}); "
                "free it, or let fewer actors share the device (gpus_per_actor)"
            ) from error
        self._fitting, self._fitted = size // 2, 0
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _regrow(self) -> None:
        self._fitted += 1
        if self._fitting < self._batch_size and self._fitted >= _REGROW_BATCHES:
            self._fitting, self._fitted = min(2 * self._fitting, self._batch_size), 0

    def _send(self, pixels_NHWC: NDArray[np.uint8]) -> _Sent:
        # Copied: arrays from the object store are read-only.
        pixels = torch.from_numpy(np.array(pixels_NHWC))
        if self._copies is None:
            return _Sent(pixels, None)
        with torch.cuda.stream(self._copies):
            sent = pixels.pin_memory().to(self._device, non_blocking=True)
            return _Sent(sent, self._copies.record_event())

    def _compute(self, batch: _Sent) -> torch.Tensor:
        pixels = batch.pixels_NHWC
        if batch.arrived is not None:
            computing = torch.cuda.current_stream(self._device)
            computing.wait_event(batch.arrived)
            pixels.record_stream(computing)  # so that its memory is not given away too early
        if self._compiled is None:
            return self._embed(pixels)
        padding = (0, 0, 0, 0, 0, 0, 0, self._fitting - len(pixels))
        return self._compiled(torch.nn.functional.pad(pixels, padding))[: len(pixels)]

    def _embed(self, pixels_NHWC: torch.Tensor) -> torch.Tensor:
        batch = pixels_NHWC.permute(0, 3, 1, 2).float().mul_(self._scale).sub_(self._shift)
        batch = batch.to(self._dtype, memory_format=self._memory_format)
        x_ND = self._forward(self._network, batch).float()
        # A zero vector becomes NaN here, so that one check finds every bad one.
        return x_ND / x_ND.norm(dim=1, keepdim=True)
