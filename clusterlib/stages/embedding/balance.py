"""Where the time of embedding goes: what each step could do, and which one holds up the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

STEPS = ("fetch", "decode", "forward", "write")


@dataclass
class Balance:
    """Seconds that the blocks embedded so far have taken in each step.

    Decoding and, on a CPU, the forward pass count CPU seconds, since they share the cores; reading
    and writing wait for a store and count seconds of the clock.
    """

    device: str
    cpus_per_encoder: float  # CPUs of the cluster that decode for each encoder; on a GPU
    told: bool = False  # whether a person has been told
    images: int = 0
    pixel_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, timings: Iterable[dict[str, Any]]) -> None:
        """Add what blocks have taken: keys images, pixel_bytes and STEPS."""
        for block in timings:
            self.images += int(block["images"])
            self.pixel_bytes += int(block["pixel_bytes"])
            for step in STEPS:
                self.seconds[step] += float(block[step])

    def rates(self) -> dict[str, float]:
        """Images a second: one task's reading, one core's decoding, one encoder, its writing."""
        return {
            step: round(self.images / self.seconds[step], 1)
            for step in STEPS
            if self.seconds[step] > 0
        }

    def __str__(self) -> str:
        """One sentence: the rates, the bottleneck, and by how much."""
        words = ", ".join(f"{step} {rate:,.0f}" for step, rate in self.rates().items())
        return f"images/s of one task or actor: {words}; {self.bottleneck}"

    @property
    def bottleneck(self) -> str:
        """Which step holds up the others, and by how much."""
        rates = self.rates()
        decode, forward = rates.get("decode", 0.0), rates.get("forward", 0.0)
        if not decode or not forward:
            return "nothing was encoded"
        if rates.get("fetch", decode) < decode and self.device == "cuda":
            decode = rates["fetch"]
            slower = "reading"
        else:
            slower = "decoding"
        if self.device == "cpu":
            share = (1 / forward) / (1 / forward + 1 / decode)
            return f"of the CPU time the encoder takes {share:.0%}, decoding {1 - share:.0%}"
        needed = forward / decode
        if needed <= self.cpus_per_encoder:
            return (
                f"the encoder is the bottleneck: it takes {needed:.1f} CPUs to keep one busy, "
                f"there are {self.cpus_per_encoder:.1f}"
            )
        return (
            f"{slower} is the bottleneck: it takes {needed:.1f} CPUs to keep an encoder busy, "
            f"there are {self.cpus_per_encoder:.1f}; add CPU nodes"
        )
