"""Decode an image file to an upright uint8 RGB array of a model's input size.

H, W: height and width in pixels. Arrays are uint8, channels last, RGB in sRGB values.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from clusterlib.images.codes import Rejection

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000", "MPO")
MAX_ASPECT = 1000
THUMBNAIL_SIZE = 64

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_TEXT_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<error", b"{", b"[", b"version https")
# PDF, PostScript, PSD, DDS, BLP, JPEG XL (two), ICO, CUR, QOI, PPM, PGM
_OTHER_IMAGE_STARTS = (
    *(b"%PDF", b"%!PS", b"8BPS", b"DDS ", b"BLP", b"\xff\x0a", b"\x00\x00\x00\x0cJXL"),
    *(b"\x00\x00\x01\x00", b"\x00\x00\x02\x00", b"qoif", b"P6", b"P5"),
)
# Pillow's own words for an end of file in the middle of the picture.
_TRUNCATED = ("truncated", "not enough image data", "image file is truncated", "unexpected end")


@dataclass(frozen=True)
class Geometry:
    """How a picture is brought to a model's input size.

    `resize` is the length of the shorter side after resizing (aspect kept), or the exact
    (height, width). `crop` is the (height, width) cut from the centre afterwards, if any.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None
    interpolation: Interpolation

    @property
    def output(self) -> tuple[int, int]:
        """(H, W) of what `decode` returns."""
        if self.crop is not None:
            return self.crop
        if isinstance(self.resize, int):
            return (self.resize, self.resize)
        return self.resize


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding."""

    max_pixels: int


@dataclass(frozen=True)
class DecodedImage:
    """One usable picture. `width` and `height` are the upright original's, in pixels."""

    pixels_HWC: NDArray[np.uint8]
    width: int
    height: int
    n_frames: int


def decode(data: bytes, *, geometry: Geometry, limits: Limits) -> DecodedImage | Rejection:
    """Decode the first frame of `data`, upright, on white, at the size of `geometry`.

    Returns a Rejection for whatever cannot be a picture; raises nothing for any content.
    """
    opened = _open(data, limits)
    if isinstance(opened, Rejection):
        return opened
    image, n_frames = opened
    try:
        width, height = _upright_size(image)
        upright = _to_rgb(image, target=geometry.output)
        if isinstance(upright, Rejection):
            return upright
        fitted = fit(upright, geometry)
    except Exception as error:  # noqa: BLE001 - decoders raise anything; a row must not stop a job
        return _rejection_of(error)
    return DecodedImage(np.asarray(fitted, dtype=np.uint8), width, height, n_frames)


def thumbnail_webp(data: bytes, *, size: int, limits: Limits, quality: int = 80) -> bytes | None:
    """`data` as a WebP picture whose longer side is at most `size` pixels; None if unusable."""
    opened = _open(data, limits)
    if isinstance(opened, Rejection):
        return None
    try:
        image = _to_rgb(opened[0], target=(size, size))
        if isinstance(image, Rejection):
            return None
        image.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality)
    except Exception:  # noqa: BLE001 - see decode
        return None
    return buffer.getvalue()


def array_thumbnail_webp(pixels_HWC: NDArray[np.uint8], *, size: int) -> bytes:
    """A decoded array as a small WebP picture."""
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((size, size), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=75)
    return buffer.getvalue()


def fit(image: Image.Image, geometry: Geometry) -> Image.Image:
    """Resize and crop an RGB image as `geometry` says; short sides are padded with white."""
    resample = _FILTERS[geometry.interpolation]
    if isinstance(geometry.resize, int):
        scale = geometry.resize / min(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    else:
        size = (geometry.resize[1], geometry.resize[0])
    height, width = geometry.output
    # Only the part that survives the crop is resized: strips of extreme aspect stay cheap.
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    x_scale, y_scale = image.width / size[0], image.height / size[1]
    if left >= 0 and top >= 0:
        box = (left * x_scale, top * y_scale, (left + width) * x_scale, (top + height) * y_scale)
        return image.resize((width, height), resample, box=box, reducing_gap=2.0)
    resized = image.resize(size, resample, reducing_gap=2.0)
    canvas = Image.new("RGB", (width, height), "white")
    canvas.paste(resized, ((width - size[0]) // 2, (height - size[1]) // 2))
    return canvas


def _open(data: bytes, limits: Limits) -> tuple[Image.Image, int] | Rejection:
    if not data:
        return Rejection("empty")
    if _looks_like_text(data):
        return Rejection("not_image", "text, not pixels")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if _is_other_image(data):
            return Rejection("unsupported_format")
        return Rejection("undecodable")
    except Exception as error:  # noqa: BLE001 - see decode
        return _rejection_of(error)
    width, height = image.size
    if width < 1 or height < 1:
        return Rejection("corrupt", f"{width}x{height} pixels")
    if width * height > limits.max_pixels:
        return Rejection("too_large", f"{width}x{height} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        return Rejection("aspect", f"{width}x{height} pixels")
    try:
        return image, int(getattr(image, "n_frames", 1))
    except Exception as error:  # noqa: BLE001 - see decode
        return _rejection_of(error)


def _to_rgb(image: Image.Image, *, target: tuple[int, int]) -> Image.Image | Rejection:
    """Upright RGB on white, decoded no larger than about twice `target` where the format allows."""
    if image.format == "JPEG":
        image.draft("RGB", (2 * target[1], 2 * target[0]))
    if image.mode == "F":
        return Rejection("unsupported_mode", "floating-point pixels")
    image.load()
    image = _transposed(image)
    if image.mode in _SIXTEEN_BIT or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.clip(values // 257, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _transposed(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a broken EXIF block says nothing about the pixels
        return image


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # noqa: BLE001 - as in _transposed
        turned = False
    return (height, width) if turned else (width, height)


def _rejection_of(error: Exception) -> Rejection:
    text = str(error).lower()
    name = type(error).__name__
    if isinstance(error, Image.DecompressionBombError):
        return Rejection("too_large", name)
    if "decompressed data too large" in text or "too large chunk" in text:
        return Rejection("bomb", name)
    if isinstance(error, EOFError) or any(words in text for words in _TRUNCATED):
        return Rejection("truncated", name)
    if isinstance(error, (SyntaxError, zlib.error, struct.error, ValueError, KeyError, TypeError)):
        return Rejection("corrupt", name)
    if isinstance(error, OSError):
        return Rejection("undecodable", name)
    return Rejection("corrupt", name)


def _looks_like_text(data: bytes) -> bool:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith((b"<svg", b"<?xml")) and b"<svg" in data[:4096].lower():
        return False  # an image, though of a format that is not decoded
    return head.startswith(_TEXT_STARTS)


def _is_other_image(data: bytes) -> bool:
    head = data[:32]
    return (
        head.startswith(_OTHER_IMAGE_STARTS)
        or head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc")
        or b"<svg" in data[:4096].lower()
    )


# Pillow must refuse what is cut short, whatever other code in the process has set.
ImageFile.LOAD_TRUNCATED_IMAGES = False
