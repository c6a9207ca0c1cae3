"""Whatever an image does to the decoder, it costs that image alone.

The pictures are real; what is rigged is Pillow in the decoder's process, by tests/chaos/rigged.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import DecodedImage, Geometry, Limits, decode
from clusterlib.images.guard import ATTEMPTS, GuardedDecoder, GuardLimits
from tests.chaos.poison import POISON, poisoned

GEOMETRY = Geometry(resize=24, crop=(24, 24), interpolation="bicubic")
LIMITS = Limits(max_pixels=10**7)
MAX_SECONDS = 2.0


def jpeg(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def decoder() -> Iterator[GuardedDecoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAOS_POISON", "1")
        patch.syspath_prepend(str(Path(__file__).parents[1] / "chaos/rigged"))
        decoder = GuardedDecoder(
            geometry=GEOMETRY, limits=LIMITS, guard=GuardLimits(MAX_SECONDS, max_mb=256)
        )
        decoder.decode(jpeg())  # the process has started with the rigged environment
        yield decoder
    decoder.close()


def test_the_picture_is_that_of_decode(decoder: GuardedDecoder) -> None:
    for seed in range(5):
        found = decoder.decode(jpeg(seed))
        plain = decode(jpeg(seed), geometry=GEOMETRY, limits=LIMITS)
        assert isinstance(found.result, DecodedImage)
        assert isinstance(plain, DecodedImage)
        assert (found.result.pixels_HWC == plain.pixels_HWC).all()
        assert (found.result.width, found.result.height, found.attempts) == (80, 60, 1)


def test_a_rejection_comes_back(decoder: GuardedDecoder) -> None:
    assert decoder.decode(b"").result == Rejection("empty")
    assert decoder.decode(jpeg()[:500]).result.code == "truncated"


@pytest.mark.parametrize(
    ("kind", "code"),
    [("segfault", "decoder_crash"), ("hang", "decoder_timeout"), ("memory", "decoder_oom")],
)
def test_poison_costs_one_image(decoder: GuardedDecoder, kind: str, code: str) -> None:
    assert kind in POISON
    before = decoder.decode(jpeg(1))
    started = time.monotonic()
    outcome = decoder.decode(poisoned(jpeg(2), kind))
    seconds = time.monotonic() - started
    assert isinstance(outcome.result, Rejection)
    assert outcome.result.code == code
    assert outcome.attempts <= ATTEMPTS
    assert seconds < ATTEMPTS * (MAX_SECONDS + 5)
    after = decoder.decode(jpeg(1))
    assert isinstance(after.result, DecodedImage)
    assert (after.result.pixels_HWC == before.result.pixels_HWC).all()


def test_closing_ends_the_process(decoder: GuardedDecoder) -> None:
    decoder.decode(jpeg())
    child = decoder._child
    assert child is not None
    decoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
