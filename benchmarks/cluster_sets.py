"""Labelled sets that the clustering benchmarks run on; labels are used to judge, never to cluster.

digits: 1,797 handwritten digits, embedded by the built-in encoder; ten classes.
pixels: the same digits as 64 grey values: an encoder that was never trained.
stamps: drawings and photos of the Debian package tuxpaint-stamps-default, by top-level folder;
    left out where that package is not installed.
letters: the capitals A...Z, each drawn in every Latin font below /usr/share/fonts; 26 classes.
    letter-pixels: the same as 28 x 28 grey values. Both were made after the defaults were chosen.
balanced, zipf, overlapping: 16,000 rows x 768, 100 groups in 10 families with a decaying spectrum;
    equal sizes, Zipf sizes, Zipf sizes with groups at half the distance.
noise: uniform on the cube, no group at all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

STAMPS = Path("/usr/share/tuxpaint/stamps")
FONTS = Path("/usr/share/fonts")
# Fonts of signs, not of letters, by parts of their files' names.
_SIGNS = ("Symbol", "Dingbat", "D050000L", "Math")
SYNTHETIC = {
    "balanced": {"zipf": 0.0, "separation": 1.0},
    "zipf": {"zipf": 1.0, "separation": 1.0},
    "overlapping": {"zipf": 1.0, "separation": 0.55},
}


def embedded(files: Sequence[Path]) -> np.ndarray:
    """Embeddings (N, 1280) float32 of pictures by the built-in encoder, in this process."""
    from clusterlib.config import EncoderConfig
    from clusterlib.encoders.select import describe_encoder, load_encoder
    from clusterlib.images.decode import DecodedImage, Limits, decode

    spec = describe_encoder(EncoderConfig())
    encoder = load_encoder(spec, device="cpu", batch_size=16)
    limits = Limits(max_pixels=10**8)
    parts = []
    for start in range(0, len(files), 256):
        pictures = [
            decode(f.read_bytes(), geometry=spec.geometry, limits=limits)
            for f in files[start : start + 256]
        ]
        pixels = [p.pixels_HWC for p in pictures if isinstance(p, DecodedImage)]
        assert len(pixels) == len(pictures)
        parts.append(encoder.encode(np.stack(pixels)))
    return np.concatenate(parts).astype(np.float32)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Embedded digits (1797, 1280) and their classes."""
    from sklearn.datasets import load_digits

    from clusterlib.catalog.digits import write_digits

    with tempfile.TemporaryDirectory() as folder:
        write_digits(folder)
        return embedded(sorted(Path(folder).glob("*.png"))), load_digits().target


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Grey values (1797, 64) of the digits and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.data.astype(np.float32), found.target


def stamps() -> tuple[np.ndarray, np.ndarray] | None:
    """Embedded stamps and their top-level folders; None where they are not installed."""
    files = sorted(f for f in STAMPS.rglob("*.png") if not f.stem.endswith("_mirror"))
    if not files:
        return None
    names = [f.relative_to(STAMPS).parts[0] for f in files]
    return embedded(files), np.unique(names, return_inverse=True)[1]


def drawn_letters() -> tuple[list[np.ndarray], np.ndarray] | None:
    """Grey pictures (112, 112) uint8 of capitals and their classes; None with few fonts here."""
    from PIL import Image, ImageDraw, ImageFont

    files = [f for kind in ("ttf", "otf") for f in sorted(FONTS.rglob(f"*.{kind}"))]
    files = [f for f in files if not any(sign in f.name for sign in _SIGNS)]
    pictures, classes = [], []
    for file in files:
        font = ImageFont.truetype(str(file), 72)
        for number, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
            picture = Image.new("L", (112, 112), 255)
            ImageDraw.Draw(picture).text((56, 56), letter, font=font, fill=0, anchor="mm")
            pictures.append(np.asarray(picture))
            classes.append(number)
    return (pictures, np.array(classes)) if len(files) >= 20 else None


def letters() -> tuple[np.ndarray, np.ndarray] | None:
    """Embedded letters and their classes; None where fonts are missing."""
    from PIL import Image

    found = drawn_letters()
    if found is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        for number, picture in enumerate(found[0]):
            Image.fromarray(picture).save(f"{folder}/{number:05d}.png")
        return embedded(sorted(Path(folder).glob("*.png"))), found[1]


def letter_pixels() -> tuple[np.ndarray, np.ndarray] | None:
    """Grey values (N, 784) of the letters and their classes."""
    found = drawn_letters()
    if found is None:
        return None
    small = np.stack(found[0]).reshape(-1, 28, 4, 28, 4).mean(axis=(2, 4))
    return small.reshape(len(small), -1).astype(np.float32), found[1]


def mixture(
    *, rows: int, dim: int, groups: int, zipf: float, separation: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows (rows, dim) float32 around group centers within families, and their groups."""
    rng = np.random.default_rng(seed)
    weights = 1.0 / np.arange(1, groups + 1) ** zipf
    y = rng.choice(groups, rows, p=weights / weights.sum())
    spectrum = np.arange(1, dim + 1) ** -0.5
    spectrum /= np.linalg.norm(spectrum)
    families = max(8, groups // 10)
    family = rng.standard_normal((families, dim)) * spectrum
    own = rng.standard_normal((groups, dim)) * spectrum
    centers = 0.8 * separation * (family[rng.integers(0, families, groups)] + own)
    centers += 0.7 * rng.standard_normal(dim) * spectrum  # embeddings are never centred
    spread = rng.uniform(0.5, 1.2, groups)
    x = np.empty((rows, dim), dtype=np.float32)
    for start in range(0, rows, 8192):
        part = slice(start, start + 8192)
        noise = rng.standard_normal((len(y[part]), dim), dtype=np.float32) * spectrum
        x[part] = centers[y[part]] + spread[y[part], None] * noise
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, y


def synthetic(name: str, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One of SYNTHETIC."""
    return mixture(rows=16_000, dim=768, groups=100, seed=seed, **SYNTHETIC[name])


def noise(*, seed: int) -> np.ndarray:
    """Uniform on the cube: (4000, 128) float32."""
    return np.random.default_rng(seed).random((4_000, 128), dtype=np.float32)
