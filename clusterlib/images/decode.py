"""Decode an image file to an upright uint8 RGB array of a model's input size.

H, W: height and width in pixels. Arrays are uint8, channels last, RGB in sRGB values.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

from clusterlib.errors import ConfigError
from clusterlib.images.codes import Rejection

# Pillow opens MPO through its JPEG entry and knows no format of that name.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "JPEG2000")
HEIF = "HEIF"  # by the extra `heic`
MAX_ASPECT = 1000
WHITE = "#ffffff"

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
_ALPHA = ("RGBA", "LA", "PA", "RGBa")
_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", *_ALPHA, *_SIXTEEN_BIT)
_TEXT_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<error", b"{", b"[", b"<!--")
_SVG_STARTS = (b"<svg", b"<?xml", b"<!doctype svg", b"<!--")
# PDF, PostScript (plain, in a DOS file), PSD, DDS, BLP, JPEG XL (two), ICO, CUR, QOI, PPM, PGM
_OTHER_IMAGE_STARTS = (
    *(
        b"%PDF",
        b"%!PS",
        b"\xc5\xd0\xd3\xc6",
        b"8BPS",
        b"DDS ",
        b"BLP",
        b"\xff\x0a",
        b"\x00\x00\x00\x0cJXL",
    ),
    *(b"\x00\x00\x01\x00", b"\x00\x00\x02\x00", b"qoif", b"P6", b"P5"),
)
# What a whole file of a format starts with and must contain.
_STARTS_ENDS = ((b"\x89PNG\r\n\x1a\n", b"IEND"), (b"\xff\xd8\xff", b"\xff\xd9"))
# Pillow's own words for an end of file in the middle of the picture.
_TRUNCATED = ("truncated", "not enough image data", "unexpected end")


@dataclass(frozen=True)
class Geometry:
    """How a picture is brought to a model's input size.

    `resize` is the length of the shorter side after resizing (aspect kept), or the exact
    (height, width). `crop` is the (height, width) cut from the centre afterwards, if any.
    `background` shows where a picture is transparent or too small for the crop. `spare` is how
    much larger than its size after resizing a JPEG is at least decoded: 1 never enlarges what was
    decoded smaller, inf always decodes at full size.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int] | None
    interpolation: Interpolation
    background: str = WHITE
    # Cosine of EfficientNet-Lite0 embeddings with those of full decoding, photos of 600...2,000
    # pixels: .998 at half the time for 1; .9997 for 2.
    spare: float = 1.0

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
    """What is refused before decoding: large pictures, and formats not named here."""

    max_pixels: int
    formats: tuple[str, ...] = FORMATS


@dataclass(frozen=True)
class DecodedImage:
    """One usable picture. `width` and `height` are the upright original's, in pixels."""

    pixels_HWC: NDArray[np.uint8]
    width: int
    height: int
    n_frames: int


def decode(data: bytes, *, geometry: Geometry, limits: Limits) -> DecodedImage | Rejection:
    """Decode the first frame of `data`, upright, as `geometry` says.

    Returns a Rejection for whatever cannot be a picture; raises nothing for any content.
    """
    opened = open_image(data, limits)
    if isinstance(opened, Rejection):
        return opened
    image, n_frames = opened
    try:
        size = image.size  # a JPEG's changes when it is decoded smaller
        upright = to_rgb(image, smallest=_smallest(size, geometry), background=geometry.background)
        if isinstance(upright, Rejection):
            return upright
        fitted = in_srgb(fit(upright, geometry), profile=image.info.get("icc_profile"))
        width, height = size[::-1] if _is_turned(image) else size
    except Exception as error:  # noqa: BLE001 - decoders raise anything; a row must not stop a job
        return _rejection_of(error)
    return DecodedImage(np.asarray(fitted, dtype=np.uint8), width, height, n_frames)


def fit(image: Image.Image, geometry: Geometry) -> Image.Image:
    """Resize and crop an RGB image as `geometry` says; short sides are padded."""
    resample = _FILTERS[geometry.interpolation]
    size = _resized(image.size, geometry)
    height, width = geometry.output
    # Only the part that survives the crop is resized: strips of extreme aspect stay cheap.
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    x_scale, y_scale = image.width / size[0], image.height / size[1]
    if left >= 0 and top >= 0:
        right = min(image.width, (left + width) * x_scale)
        bottom = min(image.height, (top + height) * y_scale)
        box = (left * x_scale, top * y_scale, right, bottom)
        return image.resize((width, height), resample, box=box, reducing_gap=2.0)
    resized = image.resize(size, resample, reducing_gap=2.0)
    canvas = Image.new("RGB", (width, height), geometry.background)
    canvas.paste(resized, (-left, -top))
    return canvas


def _resized(size: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """(width, height) after resizing and before the crop."""
    if not isinstance(geometry.resize, int):
        return geometry.resize[1], geometry.resize[0]
    width, height = size
    # The longer side is cut to whole pixels, as torchvision and transformers do.
    if width <= height:
        return geometry.resize, int(geometry.resize * height / width)
    return int(geometry.resize * width / height), geometry.resize


def _smallest(size: tuple[int, int], geometry: Geometry) -> tuple[float, float]:
    """(width, height) that a JPEG of `size`, not turned upright yet, must keep when decoded."""
    width, height = _resized(size, geometry)
    if not isinstance(geometry.resize, int):
        width = height = max(width, height)
    return width * geometry.spare, height * geometry.spare


def open_image(data: bytes, limits: Limits) -> tuple[Image.Image, int] | Rejection:
    if not data:
        return Rejection("empty")
    if _looks_like_text(data):
        return Rejection("not_image", "text, not pixels")
    try:
        if HEIF in limits.formats:
            register_heif()
        image = Image.open(io.BytesIO(data), formats=limits.formats)
    except UnidentifiedImageError:
        return _unidentified(data, limits.formats)
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
        if image.format == "PNG":
            # Pillow skips the checksums of the pixel data unless asked, and then cannot go on.
            Image.open(io.BytesIO(data), formats=("PNG",)).verify()
        return image, int(getattr(image, "n_frames", 1))
    except Exception as error:  # noqa: BLE001 - see decode
        return _rejection_of(error)


def to_rgb(
    image: Image.Image, *, smallest: tuple[float, float], background: str
) -> Image.Image | Rejection:
    """Upright RGB; a JPEG decoded smaller, yet no smaller than `smallest` (width, height)."""
    if image.format == "JPEG" and max(smallest) < math.inf:
        image.draft("RGB", (math.ceil(smallest[0]), math.ceil(smallest[1])))
    if image.mode not in _MODES:
        return Rejection("unsupported_mode", f"pixels of mode {image.mode}")
    image.load()
    image = _transposed(image)
    if image.mode in _SIXTEEN_BIT:
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in _ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, background)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def in_srgb(image: Image.Image, *, profile: bytes | None) -> Image.Image:
    """`image` in sRGB values, if its embedded colour profile is for RGB and readable."""
    transform = _srgb_transform(profile) if profile else None
    return image if transform is None else transform.apply(image)


@lru_cache(maxsize=32)
def _srgb_transform(profile: bytes) -> ImageCms.ImageCmsTransform | None:
    try:
        source, target = io.BytesIO(profile), ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(source, target, "RGB", "RGB")
    except Exception:  # noqa: BLE001 - a broken profile says nothing about the pixels
        return None


def _transposed(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - a broken EXIF block says nothing about the pixels
        return image


def _is_turned(image: Image.Image) -> bool:
    """Whether EXIF swaps the sides. Only of a loaded image: for some formats this loads it."""
    try:
        return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # noqa: BLE001 - as in _transposed
        return False


def _rejection_of(error: Exception) -> Rejection:
    text = str(error).lower()
    name = type(error).__name__
    if isinstance(error, MemoryError):
        return Rejection("decoder_oom")
    if isinstance(error, Image.DecompressionBombError):
        return Rejection("too_large", name)
    if "decompressed data too large" in text or "too large chunk" in text:
        return Rejection("bomb", name)
    if isinstance(error, EOFError) or any(words in text for words in _TRUNCATED):
        return Rejection("truncated", name)
    if isinstance(error, OSError) and "broken data stream" not in text:
        return Rejection("undecodable", name)
    return Rejection("corrupt", name)


def _looks_like_text(data: bytes) -> bool:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_SVG_STARTS) and b"<svg" in data[:4096].lower():
        return False  # an image, though of a format that is not decoded
    return head.startswith(_TEXT_STARTS)


@lru_cache(maxsize=1)
def register_heif() -> None:
    """Let Pillow open HEIF files. Raises ConfigError without the extra `heic`."""
    try:
        import pillow_heif
    except ImportError:
        raise ConfigError(
            "images.formats: HEIF needs the package pillow-heif; install the extra 'heic'"
        ) from None
    pillow_heif.register_heif_opener()


def _is_of(data: bytes, formats: tuple[str, ...]) -> bool:
    try:
        Image.open(io.BytesIO(data), formats=formats)
    except Exception:  # noqa: BLE001 - see decode
        return False
    return True


def _unidentified(data: bytes, formats: tuple[str, ...]) -> Rejection:
    """Why Pillow finds no format that it may open."""
    others = tuple(name for name in FORMATS if name not in formats)
    if others and _is_of(data, others):
        return Rejection("unsupported_format")
    head = data[:256]
    if (
        head.startswith(_OTHER_IMAGE_STARTS)
        or head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1", b"ftyphevc")
        or b"<svg" in data[:4096].lower()
    ):
        return Rejection("unsupported_format")
    for start, end in _STARTS_ENDS:
        if head.startswith(start):
            return Rejection("corrupt" if end in data else "truncated", "unreadable header")
    if len(head) > 1 and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        return Rejection("not_image", "text, not pixels")
    return Rejection("undecodable")


# Pillow must refuse what is cut short, whatever other code in the process has set.
ImageFile.LOAD_TRUNCATED_IMAGES = False
