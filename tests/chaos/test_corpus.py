"""The test images of Pillow itself, many of them broken on purpose: each has one outcome."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import FORMATS, HEIF, Geometry, Limits
from clusterlib.images.guard import GuardedDecoder, GuardLimits
from tests.chaos.conftest import Record


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of Tests/images in Pillow's source archive, fetched now."""
    folder = tmp_path_factory.mktemp("pillow")
    version = metadata.version("pillow")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"),
            *("--dest", str(folder), f"pillow=={version}"),
        ],
        check=True,
        timeout=300,
    )
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if "/Tests/images/" in m.name and m.isfile()]
        tar.extractall(folder, members, filter="data")
    return sorted(path for path in folder.rglob("Tests/images/**/*") if path.is_file())


@pytest.mark.chaos
def test_every_file_has_an_outcome(corpus: list[Path], record: Record) -> None:
    assert len(corpus) > 1_000
    decoder = GuardedDecoder(
        geometry=Geometry(resize=224, crop=(224, 224), interpolation="bicubic"),
        limits=Limits(max_pixels=64_000_000, formats=(*FORMATS, HEIF)),
        guard=GuardLimits(max_seconds=20, max_mb=2048),
    )
    decoder.decode(b"")
    codes: Counter[str] = Counter()
    slowest = 0.0
    for path in corpus:
        started = time.monotonic()
        outcome = decoder.decode(path.read_bytes())
        slowest = max(slowest, time.monotonic() - started)
        result = outcome.result
        codes[result.code if isinstance(result, Rejection) else "decoded"] += 1
        assert outcome.attempts == 1, path
    decoder.close()
    assert codes["decoded"] > 500
    assert not [code for code in codes if code.startswith("decoder_")]
    shown = ", ".join(f"{code} {count}" for code, count in codes.most_common())
    record(
        f"Pillow's {len(corpus):,} own test images",
        "every file decoded or coded; 0 crashes, 0 hangs, 0 unknown",
        f"0, 0, 0; slowest {slowest:.1f} s; {shown}",
    )
