"""The forward pass that every torch encoder shares.

N: images, H, W: pixels, C: channels, D: embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError, InputError

# A batch that was halved, for want of memory, is doubled again after so many that fitted.
_REGROW_BATCHES = 32


class TorchEncoder:
    """A network with its preprocessing, on one device.

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
        self._batch_size = self._fitting = batch_size
        self._fitted = 0  # batches since the size has changed
        self._memory_format = memory_format
        scale = torch.tensor(spec.std, device=self._device).mul(255).view(1, 3, 1, 1)
        self._scale = 1 / scale
        self._shift = torch.tensor(spec.mean, device=self._device).mul(255).view(1, 3, 1, 1) / scale

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (N, D), float32, unit rows; a row is NaN where the network fails.

        Args:
            pixels_NHWC: uint8 RGB at the spec's input size.

        Raises:
            InputError: the device's memory does not hold a single image.
        """
        parts: list[NDArray[np.float32]] = []
        start = 0
        while start < len(pixels_NHWC):
            batch = pixels_NHWC[start : start + self._fitting]
            try:
                parts.append(self._encode_batch(batch))
            except torch.cuda.OutOfMemoryError as error:
                self._shrink(len(batch), error)
                continue
            start += len(batch)
            self._regrow()
        return np.concatenate(parts)

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

    def _encode_batch(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            # Copied: arrays from the object store are read-only.
            batch = torch.from_numpy(np.array(pixels_NHWC)).to(self._device, non_blocking=True)
            batch = batch.permute(0, 3, 1, 2).float().mul_(self._scale).sub_(self._shift)
            batch = batch.to(self._dtype, memory_format=self._memory_format)
            x_ND = self._forward(self._network, batch).float()
            # A zero vector becomes NaN here, so that one check finds every bad one.
            x_ND = x_ND / x_ND.norm(dim=1, keepdim=True)
            result: NDArray[np.float32] = x_ND.cpu().numpy()
        return result
