"""Encoders fetched from a hub on loopback, cut off and gone on with, then used offline."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from clusterlib.config import EncoderConfig, validate_config
from clusterlib.encoders.select import describe_encoder, load_encoder
from clusterlib.errors import ConfigError, InputError
from clusterlib.stages.models.fetch_models import fetch_models
from clusterlib.stages.session import Session, open_session
from tests.conftest import ROOT, settings
from tests.stages.test_compare_encoders import save_vit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SENT = 9_000  # bytes of the weights that come before the line is cut


class Hub:
    """Just so much of the hub's HTTP interface as a download needs, for one repository."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cuts = 1
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0]
                if body:
                    hub.asked.append(path)
                if path.startswith("/api/models/org/tiny"):
                    names = [{"rfilename": name} for name in hub.files]
                    info = {"id": "org/tiny", "sha": COMMIT, "siblings": names}
                    tree = [
                        {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                        for name, data in hub.files.items()
                    ]
                    found = tree if "/tree/" in path else info
                    self.send(json.dumps(found).encode(), "application/json", body=body)
                    return
                data = hub.files.get(path.removeprefix(f"/org/tiny/resolve/{COMMIT}/"))
                if data is None:
                    self.send(b"", "text/plain", status=404, body=body)
                    return
                self.send(data, "application/octet-stream", body=body)

            def send(self, data: bytes, kind: str, *, body: bool, status: int = 200) -> None:
                start = int(self.headers.get("Range", "bytes=0-").split("=")[1].split("-")[0])
                self.send_response(206 if start else status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
                self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if not body:
                    return
                if self.path.endswith("model.safetensors") and hub.cuts > 0:
                    hub.cuts -= 1
                    self.wfile.write(data[start:SENT])
                    self.close_connection = True
                    return
                self.wfile.write(data[start:])

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    save_vit(tmp_path / "published", seed=3)
    files = {path.name: path.read_bytes() for path in (tmp_path / "published").iterdir()}
    files |= {"pytorch_model.bin": b"a pickle", "modeling_tiny.py": b"raise SystemExit"}
    found = Hub(files)
    threading.Thread(target=found.server.serve_forever, daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


def run(tmp_path: Path, endpoint: str, model: str) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(settings(tmp_path, tmp_path / "run", encoder={"model": model}))
    )
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    return subprocess.run(
        [sys.executable, "-m", "jobs.fetch_models", "--config", config, f"folder={tmp_path}/m"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_model_is_fetched_without_code_or_pickles_and_used_offline(
    tmp_path: Path, hub: Hub
) -> None:
    hub.cuts = 50  # the client's own retries are exhausted
    first = run(tmp_path, hub.endpoint, "hf:org/tiny")
    assert first.returncode == 3, first.stderr
    assert "run the same command again: files that are whole are kept" in first.stderr
    assert "Traceback" not in first.stderr
    assert not [path for path in (tmp_path / "m").iterdir() if path.name.endswith(COMMIT[:12])]

    hub.cuts = 0
    hub.asked.clear()
    second = run(tmp_path, hub.endpoint, "hf:org/tiny")
    assert second.returncode == 0, second.stderr
    fetched = [path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path]
    assert fetched == ["model.safetensors"]  # what was whole is kept
    used = next(line for line in second.stdout.splitlines() if "encoder.model=" in line)
    model = used.strip().removeprefix("encoder.model=")
    folder = Path(model.removeprefix("hf:"))
    visible = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    assert visible == ["config.json", "model.safetensors", "preprocessor_config.json"]

    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    vectors = [
        load_encoder(
            describe_encoder(EncoderConfig(model=name, precision="float32")),
            device="cpu",
            batch_size=2,
        ).encode(pixels)
        for name in (model, f"hf:{tmp_path / 'published'}")
    ]
    np.testing.assert_array_equal(*vectors)

    hub.asked.clear()
    third = run(tmp_path, hub.endpoint, "hf:org/tiny")
    assert third.returncode == 0
    assert "already in" in third.stdout
    assert hub.asked == []
    copy = (tmp_path / "m").rename(tmp_path / "copy")
    moved = session_for(tmp_path, "hf:org/tiny")
    fetch_models(moved, folder=str(copy))  # offline, as all tests
    assert moved.record["stages"]["fetch_models"]["models"] == {
        "hf:org/tiny": f"hf:{copy / folder.name}"
    }


def session_for(tmp_path: Path, model: str, **sections: Any) -> Session:
    tree = settings(tmp_path, tmp_path / "run", encoder={"model": model}, **sections)
    return open_session(validate_config(tree))


def test_what_is_installed_or_local_is_left_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vit(tmp_path / "vit", seed=0)
    monkeypatch.setenv("HOME", str(tmp_path))
    local = "hf:~/vit"
    session = session_for(tmp_path, "efficientnet-lite0", compare={"models": [local]})
    fetch_models(session)
    out = capsys.readouterr().out
    assert "efficientnet-lite0: nothing to download" in out
    assert "  encoder.model=efficientnet-lite0\n" in out
    assert f"'compare.models={json.dumps([local])}'" in out


def test_without_network_it_is_said_and_the_others_are_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("CLUSTERLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens
    models = ["torchvision:resnet18", "efficientnet-lite0"]
    session = session_for(tmp_path, "hf:org/tiny", compare={"models": models})
    with pytest.raises(InputError, match="2 of 3 models could not be fetched.*hf:org/tiny: "):
        fetch_models(session, folder=str(tmp_path / "m"))
    out = capsys.readouterr().out
    assert "torchvision:resnet18: failed: " in out
    assert "efficientnet-lite0: nothing to download" in out
    assert "Traceback" not in out


def test_a_store_is_no_place_for_models(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no local folder; give folder="):
        fetch_models(session_for(tmp_path, "efficientnet-lite0"), folder="s3://bucket/models")
