"""A torch encoder run by OpenVINO on CPUs: about twice as fast for convolutional networks.

Figures in benchmarks/embed.md.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.network import first_line
from clusterlib.encoders.select import load_encoder
from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError

_HINTS = {"bfloat16": "bf16", "float32": "f32"}


class OpenVinoEncoder:
    """The encoder of `spec`, normalisation and all, as one program for CPUs.

    OpenVINO reads the float32 network; bfloat16 counts only where the CPU has it.

    Args:
        spec: The encoder; its precision is bfloat16 or float32.
        batch_size: Images in one forward pass.
        threads: CPU threads.

    Raises:
        ConfigError: OpenVINO is not installed, or cannot run this encoder.
        InputError: the weights cannot be loaded.
    """

    def __init__(self, spec: EncoderSpec, *, batch_size: int, threads: int) -> None:
        if spec.precision not in _HINTS:
            raise ConfigError(
                f"compute.embed.runtime: openvino has no {spec.precision} on CPUs; choose "
                f"encoder.precision={' or '.join(_HINTS)}"
            )
        network = load_encoder(replace(spec, precision="float32"), device="cpu", batch_size=1)
        if not isinstance(network, TorchEncoder):
            raise ConfigError(
                f"compute.embed.runtime: {spec.model} has no network for openvino; set "
                "compute.embed.runtime=torch"
            )
        self.fitting = batch_size
        self._run = _compiled(network, spec, threads)

    def resize_batch(self, size: int) -> None:
        """Work with batches of `size` images from now on."""
        self.fitting = size

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """As `TorchEncoder.encode`."""
        starts = range(0, len(pixels_NHWC), self.fitting)
        # Copied: OpenVINO keeps the memory it is given, and arrays of the object store go away.
        parts = [
            np.array(self._run(np.array(pixels_NHWC[s : s + self.fitting]))[0]) for s in starts
        ]
        x_ND: NDArray[np.float32] = np.concatenate(parts).astype(np.float32, copy=False)
        return x_ND


def _compiled(network: TorchEncoder, spec: EncoderSpec, threads: int) -> Any:
    try:
        import openvino
    except ImportError:
        raise ConfigError(
            "compute.embed.runtime: openvino is not installed here; install the extra 'openvino' "
            "or set compute.embed.runtime=torch"
        ) from None
    height, width = spec.geometry.output
    example = torch.zeros((2, height, width, 3), dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, about sizes that do not change here
            model = _traced(network, example)
        model.reshape([-1, height, width, 3])
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": _HINTS[spec.precision],
        }
        return openvino.Core().compile_model(model, "CPU", options)
    except Exception as error:  # noqa: BLE001 - each operator it lacks has an error of its own
        raise ConfigError(
            f"compute.embed.runtime: openvino cannot run {spec.model} ({first_line(error)}); set "
            "compute.embed.runtime=torch"
        ) from None


def _traced(network: TorchEncoder, example: torch.Tensor) -> Any:
    """The network as OpenVINO's own; not by openvino.convert_model, which reports its use."""
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    decoder = TorchScriptPythonDecoder(network.as_module(), example_input=(example,))
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))
