"""Fixtures that several rooms share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent

# Ray asks its own questions of these; tests must not depend on the machine's answers.
os.environ["RAY_DATA_PARQUET_FOOTER_NUM_ACTORS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def ray_session(s3_endpoint: str) -> Iterator[None]:
    """One local Ray for the whole test session; its workers inherit the S3 server's address."""
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=2,
        include_dashboard=False,
        object_store_memory=500 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 generated pictures in four kinds that any encoder tells apart, one folder a kind."""
    folder = tmp_path_factory.mktemp("shapes")
    draw_shapes(folder, per_kind=30)
    return folder


def draw_shapes(folder: Path, *, per_kind: int) -> None:
    """Write red discs, green stripes, blue squares and grey noise as PNG files."""
    rng = np.random.default_rng(0)
    for kind in ("disc", "noise", "square", "stripes"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_kind):
            image = Image.new("RGB", (80, 72), "white")
            draw = ImageDraw.Draw(image)
            x, y, side = (int(v) for v in rng.integers((8, 8, 36), (16, 16, 44)))
            if kind == "disc":
                draw.ellipse((x, y, x + side, y + side), fill=(200, 30, 30))
            elif kind == "square":
                draw.rectangle((x, y, x + side, y + side), fill=(30, 30, 200))
            elif kind == "stripes":
                for offset in range(x % 8, 80, 10):
                    draw.line((offset, 0, offset, 72), fill=(20, 150, 20), width=4)
            else:
                image = Image.fromarray(rng.integers(0, 256, (72, 80, 3), dtype=np.uint8))
            image.save(folder / kind / f"{number:03d}.png")


def settings(source: str | Path, run_uri: str | Path, **sections: Any) -> dict[str, Any]:
    """A small configuration tree; `sections` are merged into it."""
    tree: dict[str, Any] = {
        "run_uri": str(run_uri),
        "catalog": {"source": str(source)},
        "clustering": {
            "k": 4,
            "k_min": 2,
            "k_max": 8,
            "k_count": 4,
            "pca_dim": 16,
            "scaling": "centered",
        },
        "manifests": {"rows_per_file": 50},
        "compute": {"commit_seconds": 0.2, "embed": {"block_rows": 16, "device": "cpu"}},
    }
    for name, section in sections.items():
        tree[name] = merged(tree.get(name), section)
    return tree


def merged(old: Any, new: Any) -> Any:
    """`new` laid over `old`, section by section."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merged(old.get(key), value) for key, value in new.items()}
    return new


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Poll until `condition` holds; fail the test with `what` when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 server on loopback; the environment names it as everybody's endpoint."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, seconds=60, what="the S3 server")
    os.environ.update(
        AWS_ENDPOINT_URL=endpoint,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
    )
    yield endpoint
    server.terminate()
    server.wait(20)
