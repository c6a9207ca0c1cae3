"""The sentence about the bottleneck follows from what blocks have taken."""

from __future__ import annotations

import re

import pytest

from clusterlib.stages.embedding.balance import Balance


def block(**seconds: float) -> dict[str, float]:
    return {"images": 100, "pixel_bytes": 100 * 12, "write": 0.1} | seconds


def balance(device: str, cpus: float, **seconds: float) -> Balance:
    found = Balance(device=device, cpus_per_encoder=cpus)
    found.add([block(**seconds), block(**seconds)])
    return found


def test_rates_are_images_by_seconds() -> None:
    found = balance("cpu", 1, fetch=0.5, decode=0.25, forward=1.0)
    assert found.rates() == {"fetch": 200, "decode": 400, "forward": 100, "write": 1000}
    assert (found.images, found.pixel_bytes) == (200, 2400)
    assert "fetch 200, decode 400, forward 100, write 1,000; of the CPU time" in str(found)
    assert "encoder takes 80%, decoding 20%" in found.bottleneck


@pytest.mark.parametrize(
    ("cpus", "fetch", "words"),
    [
        (5.0, 0.01, "the encoder is the bottleneck: it takes 4.0 CPUs to keep one busy"),
        (
            3.0,
            0.01,
            "decoding is the bottleneck: it takes 4.0 CPUs .* there are 3.0; add CPU nodes",
        ),
        (3.0, 2.00, "reading is the bottleneck: it takes 8.0 CPUs"),
    ],
)
def test_a_gpu_needs_so_many_decoding_cpus(cpus: float, fetch: float, words: str) -> None:
    found = balance("cuda", cpus, fetch=fetch, decode=1.0, forward=0.25)
    assert re.search(words, found.bottleneck)


def test_nothing_was_encoded() -> None:
    assert Balance(device="cpu", cpus_per_encoder=1).bottleneck == "nothing was encoded"
