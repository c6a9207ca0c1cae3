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
from clusterlib.errors import ConfigError


class TorchEncoder:
    """A network with its preprocessing, on one device.

    Args:
        network: Any module.
        forward: Takes the network and a normalised NCHW batch, returns ND embeddings.
        spec: Normalisation and precision.
        device: `cpu` or `cuda`.
        batch_size: Images in one forward pass.
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
        self._batch_size = batch_size
        self._memory_format = memory_format
        scale = torch.tensor(spec.std, device=self._device).mul(255).view(1, 3, 1, 1)
        self._scale = 1 / scale
        self._shift = torch.tensor(spec.mean, device=self._device).mul(255).view(1, 3, 1, 1) / scale

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (N, D), float32, unit rows; a row is NaN where the network fails.

        Args:
            pixels_NHWC: uint8 RGB at the spec's input size.
        """
        parts = [
            self._encode_batch(pixels_NHWC[start : start + self._batch_size])
            for start in range(0, len(pixels_NHWC), self._batch_size)
        ]
        return np.concatenate(parts)

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
