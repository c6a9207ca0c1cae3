"""Other ways through EfficientNet-Lite0 on a CPU: how fast, and what they cost in agreement.

    pip install openvino nncf && python -m benchmarks.faster_forward

- eager: what the stage runs by default, bfloat16, folded, channels last
- compiled: the same with compute.embed.compile=true
- openvino: the float32 network in OpenVINO, which picks its own precision (bfloat16 where the CPU
  has it)
- int8: weights and activations quantised by NNCF, calibrated on 300 of the stamps

Images/s are of one thread with batches of 16, medians of RUNS alternating runs. AMI is that of the
default clustering at the true k, mean of three seeds, on digits and stamps as `cluster_sets` has
them.
"""

from __future__ import annotations

import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from benchmarks import cluster_sets
from clusterlib.catalog.digits import write_digits
from clusterlib.clustering.space import fit_space
from clusterlib.config import EncoderConfig
from clusterlib.encoders.forward import TorchEncoder
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.images.decode import DecodedImage, Limits, decode

RUNS = 5
BATCH = 16
CALIBRATION = 300
Encode = Callable[[np.ndarray], np.ndarray]


def torch_encoder(*, precision: str, compiled: bool = False) -> TorchEncoder:
    """The built-in encoder as the stage loads it."""
    spec = describe_encoder(EncoderConfig.model_validate({"precision": precision}))
    encoder = load_encoder(spec, device="cpu", batch_size=BATCH)
    assert isinstance(encoder, TorchEncoder)
    if compiled:
        encoder.compile()
    return encoder


def openvino_encoders(calibration: np.ndarray) -> dict[str, Encode]:
    """The float32 network in OpenVINO, and its quantised copy."""
    import nncf
    import openvino

    encoder = torch_encoder(precision="float32")

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = encoder._network

        def forward(self, pixels_NHWC: torch.Tensor) -> torch.Tensor:
            return encoder._embed(pixels_NHWC)

    example = torch.from_numpy(calibration[:BATCH])
    model = openvino.convert_model(Whole().eval(), example_input=example, input=[-1, 224, 224, 3])
    parts = [calibration[i : i + BATCH] for i in range(0, len(calibration), BATCH)]
    small = nncf.quantize(model, nncf.Dataset(parts), subset_size=len(parts))

    def run(model: object) -> Encode:
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})

        def encode(pixels: np.ndarray) -> np.ndarray:
            found = [compiled(pixels[i : i + BATCH])[0] for i in range(0, len(pixels), BATCH)]
            return np.concatenate(found)

        return encode

    return {"openvino": run(model), "int8": run(small)}


def decoded(files: list[Path]) -> np.ndarray:
    """Pixels (N, 224, 224, 3) uint8 as the encoder takes them."""
    geometry, limits = describe_encoder(EncoderConfig()).geometry, Limits(max_pixels=10**8)
    pictures = [decode(f.read_bytes(), geometry=geometry, limits=limits) for f in files]
    return np.stack([p.pixels_HWC for p in pictures if isinstance(p, DecodedImage)])


def agreement(x: np.ndarray, labels: np.ndarray) -> float:
    """AMI of k-means in the default space at the true k, mean of three seeds."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_mutual_info_score

    y = fit_space(x, dim=64, scaling="partial").transform(x)
    found = [
        KMeans(len(np.unique(labels)), n_init=3, random_state=seed).fit_predict(y)
        for seed in range(3)
    ]
    return float(np.mean([adjusted_mutual_info_score(labels, one) for one in found]))


def main() -> None:
    """Print the table."""
    logging.getLogger("nncf").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_digits(folder)
        digits = decoded(sorted(Path(folder).glob("*.png")))
    stamp_files = sorted(
        f for f in cluster_sets.STAMPS.rglob("*.png") if not f.stem.endswith("_mirror")
    )
    stamps = decoded(stamp_files)
    names = [f.relative_to(cluster_sets.STAMPS).parts[0] for f in stamp_files]
    from sklearn.datasets import load_digits

    sets = {
        "digits": (digits, load_digits().target),
        "stamps": (stamps, np.unique(names, return_inverse=True)[1]),
    }
    calibration = stamps[np.random.default_rng(0).permutation(len(stamps))[:CALIBRATION]]
    encoders: dict[str, Encode] = {
        "eager": torch_encoder(precision="bfloat16").encode,
        "compiled": torch_encoder(precision="bfloat16", compiled=True).encode,
        **openvino_encoders(calibration),
    }
    rates: dict[str, list[float]] = {name: [] for name in encoders}
    sample = digits[: 8 * BATCH]
    for encode in encoders.values():
        encode(sample)
    for _ in range(RUNS):
        for name, encode in encoders.items():
            started = time.perf_counter()
            encode(sample)
            rates[name].append(len(sample) / (time.perf_counter() - started))
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "openvino", "nncf"))
    print(f"{os.cpu_count()} cores, {platform.machine()}, {versions}\n")
    print(f"| forward | images/s, median of {RUNS} | min-max | times eager | AMI digits, stamps |")
    print("|---|---|---|---|---|")
    for name, encode in encoders.items():
        values = rates[name]
        pairs = [ours / base for ours, base in zip(values, rates["eager"], strict=True)]
        scores = [f"{agreement(encode(x), labels):.3f}" for x, labels in sets.values()]
        print(
            f"| {name} | {statistics.median(values):.0f} | {min(values):.0f}-{max(values):.0f} | "
            f"{statistics.median(pairs):.2f} ({min(pairs):.2f}-{max(pairs):.2f}) | "
            f"{', '.join(scores)} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
