"""What is known of an encoder before its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from clusterlib.images.decode import Geometry


@dataclass(frozen=True)
class EncoderSpec:
    """Identity and preprocessing of an encoder: all that decides its output.

    `mean` and `std` are per RGB channel, in units of 0...1 pixel values.
    """

    model: str
    revision: str  # of the weights: a commit id, a content hash or a published name
    pooling: str
    precision: str
    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def settings(self) -> dict[str, Any]:
        """Plain values, for headers and fingerprints."""
        return asdict(self)
