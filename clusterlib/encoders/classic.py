"""Two encoders without weights, the old baselines that every network is measured against.

N: images, H, W: pixels, D: dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clusterlib.encoders.spec import EncoderSpec
from clusterlib.errors import ConfigError
from clusterlib.images.decode import Geometry

PREFIX = "classic:"
_SIDE = 128
_COLOR_BINS = (16, 4, 4)  # hue, saturation, value


def describe(model: str, *, pooling: str, precision: str) -> EncoderSpec:
    """The spec of `classic:hog` or `classic:color`: pictures of 128 x 128 pixels, whole.

    Raises:
        ConfigError: another name or pooling, or scikit-image is missing.
    """
    name = model.removeprefix(PREFIX)
    if name not in _METHODS:
        raise ConfigError(f"encoder.model: no '{model}'; known: classic:hog, classic:color")
    if pooling not in ("auto", "flatten"):
        raise ConfigError(f"encoder.pooling: {model} has only 'flatten', got '{pooling}'")
    _skimage()
    return EncoderSpec(
        model=model,
        revision=_REVISIONS[name],
        pooling="flatten",
        precision=precision,
        geometry=Geometry(resize=(_SIDE, _SIDE), crop=None, interpolation="bilinear"),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )


class ClassicEncoder:
    """`classic:hog` or `classic:color`."""

    def __init__(self, spec: EncoderSpec) -> None:
        _skimage()
        self._method = _METHODS[spec.model.removeprefix(PREFIX)]

    def encode(self, pixels_NHWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Unit rows (N, D), float32; a picture without any edge has all dimensions equal."""
        x_ND = np.stack([self._method(picture) for picture in pixels_NHWC]).astype(np.float32)
        x_ND[~x_ND.any(axis=1)] = 1  # a blank picture is no bad one
        unit: NDArray[np.float32] = x_ND / np.linalg.norm(x_ND, axis=1, keepdims=True)
        return unit


def _hog(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Dalal and Triggs, CVPR 2005: 9 orientations, 16 px cells, blocks of 2 x 2; D = 1,764."""
    from skimage.feature import hog

    gray_HW = pixels_HWC @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    found: NDArray[np.float64] = hog(
        gray_HW,
        orientations=9,
        pixels_per_cell=(16, 16),
        cells_per_block=(2, 2),
        block_norm="L2-Hys",
        transform_sqrt=True,
    )
    return found


def _color(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Square root of the joint histogram of hue, saturation and value; D = 256.

    The root makes inner products Bhattacharyya coefficients, as is usual for histograms.
    """
    from skimage.color import rgb2hsv

    hsv = rgb2hsv(pixels_HWC).reshape(-1, 3)
    counts, _ = np.histogramdd(hsv, bins=_COLOR_BINS, range=((0, 1),) * 3)
    root: NDArray[np.float64] = np.sqrt(counts.ravel() / len(hsv))
    return root


_METHODS: dict[str, Callable[[NDArray[np.uint8]], NDArray[np.float64]]] = {
    "hog": _hog,
    "color": _color,
}
# Changed by hand with whatever changes the numbers.
_REVISIONS = {"hog": "9x16x2 L2-Hys sqrt", "color": "hsv 16x4x4 sqrt"}


def _skimage() -> None:
    try:
        import skimage  # noqa: F401
    except ImportError:
        raise ConfigError(
            "encoder.model: classic:hog and classic:color need the package scikit-image; install "
            "the extra 'classic'"
        ) from None
