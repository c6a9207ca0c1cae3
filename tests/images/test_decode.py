"""Every kind of picture and of bad input has one expected outcome."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps

from clusterlib.images import decode as decode_module
from clusterlib.images.codes import CODES, Rejection
from clusterlib.images.decode import (
    DecodedImage,
    Geometry,
    Limits,
    decode,
    fit,
)
from clusterlib.images.thumbnail import array_thumbnail_webp, thumbnail_webp

WIDTH, HEIGHT = 90, 60
LIMITS = Limits(max_pixels=64_000_000)
# The pictures' own size, so that pixels can be compared one by one.
SAME = Geometry(resize=(HEIGHT, WIDTH), crop=None, interpolation="nearest")
TURNED = Geometry(resize=(WIDTH, HEIGHT), crop=None, interpolation="nearest")


def photo(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth and without any symmetry, so that neither codecs nor turns go unnoticed."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    red, green = 255 * x / width, 255 * y / height
    blue = 255 * (x / width) * (1 - y / height)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_chunks(width: int, height: int, *chunks: bytes, color: int = 0, depth: int = 8) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def zero_png(width: int, height: int) -> bytes:
    """A black 1-bit PNG of any size in a few kilobytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return png_of_chunks(width, height, chunk(b"IDAT", body), depth=1)


def bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 0xFF
    return bytes(changed)


def good(data: bytes, geometry: Geometry = SAME) -> DecodedImage:
    result = decode(data, geometry=geometry, limits=LIMITS)
    assert isinstance(result, DecodedImage), result
    return result


def code(data: bytes, limits: Limits = LIMITS) -> str:
    result = decode(data, geometry=SAME, limits=limits)
    assert isinstance(result, Rejection), (result.width, result.height)
    return result.code


def difference(pixels_HWC: np.ndarray, expected: Image.Image) -> float:
    return float(np.abs(pixels_HWC.astype(int) - np.asarray(expected).astype(int)).mean())


JPEG = encoded(photo(), "JPEG", quality=95, subsampling=0)
PNG = encoded(photo(), "PNG")


# --- modes


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(JPEG, photo(), id="jpeg"),
        pytest.param(encoded(photo(), "JPEG", quality=95, progressive=True), photo(), id="progr"),
        pytest.param(
            encoded(photo().convert("CMYK"), "JPEG", quality=95, subsampling=0), photo(), id="cmyk"
        ),
        pytest.param(
            encoded(photo().convert("L"), "JPEG", quality=95), photo().convert("L"), id="l"
        ),
        pytest.param(encoded(photo().convert("L"), "PNG"), photo().convert("L"), id="l-png"),
        pytest.param(encoded(photo().convert("1"), "PNG"), photo().convert("1"), id="1-bit"),
        pytest.param(encoded(photo().quantize(200), "PNG"), photo().quantize(200), id="palette"),
        pytest.param(encoded(photo().quantize(16), "GIF"), photo().quantize(16), id="gif"),
        pytest.param(encoded(photo().convert("CMYK"), "TIFF"), photo(), id="cmyk-tiff"),
        pytest.param(PNG, photo(), id="png"),
        pytest.param(encoded(photo(), "BMP"), photo(), id="bmp"),
        pytest.param(encoded(photo(), "TIFF", compression="tiff_lzw"), photo(), id="tiff"),
        pytest.param(encoded(photo(), "WEBP", lossless=True), photo(), id="webp"),
        pytest.param(encoded(photo(), "AVIF", quality=95), photo(), id="avif"),
        pytest.param(encoded(photo(), "JPEG2000"), photo(), id="jpeg2000"),
    ],
)
def test_modes_and_formats_keep_their_colors(data: bytes, expected: Image.Image) -> None:
    result = good(data)
    assert (result.width, result.height, result.n_frames) == (WIDTH, HEIGHT, 1)
    assert result.pixels_HWC.dtype == np.uint8
    assert result.pixels_HWC.shape == (HEIGHT, WIDTH, 3)
    assert difference(result.pixels_HWC, expected.convert("RGB")) < 3


def test_transparency_becomes_white() -> None:
    rgba = photo().convert("RGBA")
    rgba.putalpha(Image.new("L", rgba.size, 0))
    assert good(encoded(rgba, "PNG")).pixels_HWC.min() == 255
    gray_alpha = Image.merge("LA", [Image.new("L", (WIDTH, HEIGHT), v) for v in (0, 0)])
    assert good(encoded(gray_alpha, "PNG")).pixels_HWC.min() == 255
    half = Image.merge("LA", [Image.new("L", (WIDTH, HEIGHT), v) for v in (0, 128)])
    assert abs(int(good(encoded(half, "PNG")).pixels_HWC[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_becomes_white(file_format: str) -> None:
    image = Image.new("P", (WIDTH, HEIGHT), 0)
    image.putpalette([10, 20, 30, 200, 0, 0])
    image.paste(1, (0, 0, WIDTH // 2, HEIGHT))
    pixels = good(encoded(image, file_format, transparency=0)).pixels_HWC
    assert pixels[0, 0].tolist() == [200, 0, 0]
    assert pixels[0, -1].tolist() == [255, 255, 255]


def test_a_transparent_color_becomes_white() -> None:
    image = photo()
    image.paste((1, 2, 3), (0, 0, 10, 10))
    pixels = good(encoded(image, "PNG", transparency=(1, 2, 3))).pixels_HWC
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[-1, -1].tolist() == list(image.getpixel((WIDTH - 1, HEIGHT - 1)))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(file_format: str) -> None:
    ramp = np.linspace(0, 65535, WIDTH).astype(np.uint16)
    image = Image.fromarray(np.broadcast_to(ramp, (HEIGHT, WIDTH)).copy())
    row = good(encoded(image, file_format)).pixels_HWC[0, :, 0]
    np.testing.assert_allclose(row, ramp / 257, atol=1)


def test_big_endian_sixteen_bit_tiff_is_scaled_too() -> None:
    image = Image.fromarray(np.full((HEIGHT, WIDTH), 0x8000, dtype=">u2"))
    assert good(encoded(image, "TIFF")).pixels_HWC[0, 0, 0] == 0x80 - 1


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_an_agreed_white_are_refused(mode: str) -> None:
    assert code(encoded(photo().convert("L").convert(mode), "TIFF")) == "unsupported_mode"


# --- color profiles


def swapped_profile() -> bytes:
    """An RGB profile whose red is sRGB's green and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"...."), (b"gXYZ", b"rXYZ"), (b"....", b"gXYZ")):
        profile = profile.replace(old, new, 1)
    return profile


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_color_profile_is_applied(file_format: str) -> None:
    red = Image.new("RGB", (WIDTH, HEIGHT), (255, 0, 0))
    data = encoded(red, file_format, icc_profile=swapped_profile())
    pixel = good(data).pixels_HWC[9, 9].astype(int)
    assert np.abs(pixel - [0, 255, 0]).max() < 12
    thumbnail = Image.open(io.BytesIO(thumbnail_webp(data, size=32, limits=LIMITS) or b""))
    assert np.abs(np.array(thumbnail.convert("RGB").getpixel((9, 9))) - [0, 255, 0]).max() < 12


@pytest.mark.parametrize("profile", [b"junk" * 50, swapped_profile()[:200]])
def test_a_broken_color_profile_is_ignored(profile: bytes) -> None:
    assert difference(good(encoded(photo(), "PNG", icc_profile=profile)).pixels_HWC, photo()) == 0


def test_a_profile_of_other_channels_is_ignored() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert difference(good(encoded(photo(), "PNG", icc_profile=lab)).pixels_HWC, photo()) == 0


# --- orientation


def with_orientation(image: Image.Image, file_format: str, orientation: int) -> bytes:
    if file_format == "TIFF":
        return encoded(image, "TIFF", tiffinfo={0x0112: orientation})
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
    return encoded(image, file_format, exif=exif, **lossless.get(file_format, {}))


# What a viewer must do for each value of the EXIF tag.
TURNS: dict[int, Callable[[Image.Image], Image.Image]] = {
    1: lambda image: image,
    2: lambda image: ImageOps.mirror(image),
    3: lambda image: image.rotate(180),
    4: lambda image: ImageOps.flip(image),
    5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    6: lambda image: image.rotate(-90, expand=True),
    7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    8: lambda image: image.rotate(90, expand=True),
}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_upright(orientation: int, file_format: str) -> None:
    expected = TURNS[orientation](photo())
    result = good(
        with_orientation(photo(), file_format, orientation),
        SAME if expected.size == (WIDTH, HEIGHT) else TURNED,
    )
    assert (result.width, result.height) == expected.size
    assert difference(result.pixels_HWC, expected) < 4


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_unknown_orientation_is_ignored(orientation: int) -> None:
    result = good(with_orientation(photo(), "PNG", orientation))
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    assert difference(result.pixels_HWC, photo()) == 0


@pytest.mark.parametrize("exif", [b"Exif\x00\x00" + b"\xff" * 40, b"Exif\x00\x00II*\x00\x08", b"x"])
def test_a_corrupt_exif_block_is_ignored(exif: bytes) -> None:
    assert difference(good(encoded(photo(), "JPEG", quality=95, exif=exif)).pixels_HWC, photo()) < 3


# --- frames


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_the_first_frame_of_several_is_taken(file_format: str) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), c) for c in ("red", "lime", "blue")]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    result = good(data)
    assert result.n_frames == 3
    assert difference(result.pixels_HWC, frames[0]) < 3


def test_a_cycle_of_tiff_directories_ends() -> None:
    data = bytearray(encoded(photo(), "TIFF"))
    start = struct.unpack("<I", data[4:8])[0]
    (entries,) = struct.unpack("<H", data[start : start + 2])
    end = start + 2 + 12 * entries
    data[end : end + 4] = struct.pack("<I", start)
    result = decode(bytes(data), geometry=SAME, limits=LIMITS)
    assert isinstance(result, Rejection) or result.n_frames == 1


# --- what is not a picture, or none that is decoded

HTML = b"\n<!DOCTYPE html><html><body>404 <svg viewBox='0 0 1 1'></svg></body></html>"
S3_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
    b"<Message>Access Denied</Message></Error>"
)
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(HTML, "not_image", id="html"),
        pytest.param(b"\xef\xbb\xbf<html>sign in</html>", "not_image", id="html-bom"),
        pytest.param(b'{"error": "not found"}', "not_image", id="json"),
        pytest.param(S3_DENIED, "not_image", id="s3-xml"),
        pytest.param(LFS, "not_image", id="lfs-pointer"),
        pytest.param(b"404 page not found\n", "not_image", id="plain-text"),
        pytest.param(b"\x01", "undecodable", id="one-byte"),
        pytest.param(bytes(2**20), "undecodable", id="nuls"),
        pytest.param(b"\xef\xbb\xbf" + PNG, "undecodable", id="png-bom"),
        pytest.param(PNG.replace(b"\r\n", b"\n"), "undecodable", id="png-newlines"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_format", id="svg"),
        pytest.param(b"<?xml version='1.0'?>\n<svg/>", "unsupported_format", id="svg-xml"),
        pytest.param(b"<!DOCTYPE svg PUBLIC 'x'><svg/>", "unsupported_format", id="svg-doctype"),
        pytest.param(encoded(photo(), "PDF"), "unsupported_format", id="pdf"),
        pytest.param(encoded(photo(), "EPS"), "unsupported_format", id="eps"),
        pytest.param(encoded(photo(), "PPM"), "unsupported_format", id="ppm"),
        pytest.param(encoded(photo(), "ICO", sizes=[(16, 16)]), "unsupported_format", id="ico"),
        pytest.param(encoded(photo(), "DDS"), "unsupported_format", id="dds"),
        pytest.param(b"8BPS\x00\x01" + bytes(40), "unsupported_format", id="psd"),
        pytest.param(b"BLP2" + bytes(40), "unsupported_format", id="blp"),
        pytest.param(b"\xff\x0a" + bytes(range(40)), "unsupported_format", id="jxl"),
        pytest.param(
            b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(40), "unsupported_format", id="jxl-box"
        ),
        pytest.param(
            b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40),
            "unsupported_format",
            id="heic",
        ),
    ],
)
def test_what_is_no_usable_picture_has_a_code(data: bytes, expected: str) -> None:
    assert code(data) == expected
    assert thumbnail_webp(data, size=32, limits=LIMITS) is None


# --- damage


def first_idat(png: bytes) -> int:
    return png.index(b"IDAT") + 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(JPEG[: len(JPEG) // 10], "truncated", id="jpeg-10"),
        pytest.param(JPEG[: len(JPEG) * 9 // 10], "truncated", id="jpeg-90"),
        pytest.param(JPEG[:-2], "truncated", id="jpeg-no-end"),
        pytest.param(JPEG[:3], "truncated", id="jpeg-3-bytes"),
        pytest.param(PNG[: len(PNG) // 2], "truncated", id="png-half"),
        pytest.param(PNG[:20], "truncated", id="png-20-bytes"),
        pytest.param(PNG[:-12], "truncated", id="png-no-end"),
        pytest.param(encoded(photo(), "BMP")[:-100], "truncated", id="bmp"),
        pytest.param(encoded(photo(), "GIF")[:-100], "truncated", id="gif"),
        pytest.param(encoded(photo(), "TIFF")[:-100], "truncated", id="tiff"),
        pytest.param(flipped(PNG, 20), "corrupt", id="png-header-crc"),
        pytest.param(flipped(PNG, len(PNG) - 16 + 3), "corrupt", id="png-data-crc"),
        pytest.param(flipped(PNG, first_idat(PNG) + 500), "corrupt", id="png-data"),
        pytest.param(png_of_chunks(0, 5, chunk(b"IDAT", zlib.compress(b""))), "corrupt", id="zero"),
        pytest.param(
            png_of_chunks(4, 4, chunk(b"IDAT", b"\xff" * 30)), "corrupt", id="png-no-zlib"
        ),
    ],
)
def test_damage_is_found(data: bytes, expected: str) -> None:
    assert code(data) == expected


@pytest.mark.parametrize("file_format", ["WEBP", "AVIF", "JPEG2000"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_file_of_any_format_is_refused(file_format: str, share: float) -> None:
    data = encoded(photo(), file_format)
    assert code(data[: int(len(data) * share)]) in ("truncated", "corrupt", "undecodable")


def test_other_code_cannot_make_truncated_files_pass() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("data", [JPEG, PNG], ids=["jpeg", "png"])
def test_bytes_after_the_picture_do_no_harm(data: bytes) -> None:
    result = good(data + b"trailing garbage" * 99)
    assert difference(result.pixels_HWC, photo()) < 3


# --- bombs


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(bmp_header(2_000_000, 3_000_000), "too_large", id="bmp-6-terapixel"),
        pytest.param(bmp_header(20_000, 20_000), "too_large", id="bmp-400-megapixel"),
        pytest.param(zero_png(13_400, 13_360), "too_large", id="png-179-megapixel"),
        pytest.param(zero_png(9_000, 9_000), "too_large", id="png-81-megapixel"),
        pytest.param(zero_png(1, 1_000_000), "aspect", id="strip-high"),
        pytest.param(zero_png(50_000, 40), "aspect", id="strip-wide"),
        pytest.param(
            png_of_chunks(
                1,
                1,
                chunk(b"zTXt", b"k\x00\x00" + zlib.compress(bytes(70 * 2**20), 1)),
                chunk(b"IDAT", zlib.compress(b"\x00\x00")),
            ),
            "bomb",
            id="ztxt-70-mb",
        ),
    ],
)
def test_bombs_are_refused(data: bytes, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        pytest.fail("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    assert len(data) < 500_000
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert code(data) == expected


def test_the_pixel_limit_is_inclusive() -> None:
    assert code(PNG, Limits(max_pixels=WIDTH * HEIGHT - 1)) == "too_large"
    assert isinstance(decode(PNG, geometry=SAME, limits=Limits(WIDTH * HEIGHT)), DecodedImage)


def test_the_smallest_picture_is_one() -> None:
    pixel = png_of_chunks(1, 1, chunk(b"IDAT", zlib.compress(b"\x00\x7b")))
    result = good(pixel, Geometry(resize=8, crop=(8, 8), interpolation="bicubic"))
    assert (result.width, result.height) == (1, 1)
    assert (result.pixels_HWC == 0x7B).all()


# --- geometry


@pytest.mark.parametrize("size", [(300, 60), (60, 300), (64, 64), (7, 5), (1, 900)])
@pytest.mark.parametrize(
    ("geometry", "shape"),
    [
        (Geometry(48, (32, 32), "bicubic"), (32, 32, 3)),
        (Geometry(48, (32, 40), "bilinear"), (32, 40, 3)),
        (Geometry(48, None, "lanczos"), (48, 48, 3)),
        (Geometry((20, 30), None, "box"), (20, 30, 3)),
        (Geometry((40, 50), (20, 30), "hamming"), (20, 30, 3)),
        (Geometry(24, (32, 32), "nearest"), (32, 32, 3)),
    ],
)
def test_every_picture_gets_the_models_shape(
    size: tuple[int, int], geometry: Geometry, shape: tuple[int, int, int]
) -> None:
    assert (*geometry.output, 3) == shape
    assert good(encoded(photo(*size), "PNG"), geometry).pixels_HWC.shape == shape


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (128, 128)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resize_and_crop_are_those_of_torchvision(
    size: tuple[int, int], interpolation: str
) -> None:
    from torchvision.transforms import v2

    image = photo(*size)
    mode = v2.InterpolationMode(interpolation)
    reference = v2.Compose([v2.Resize(48, interpolation=mode), v2.CenterCrop(32)])(image)
    pixels = np.asarray(fit(image, Geometry(48, (32, 32), interpolation)))  # type: ignore[arg-type]
    assert difference(pixels, reference) < 1.5


def test_the_crop_is_central() -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("red", (100, 0, 200, 100))
    pixels = np.asarray(fit(image, Geometry(100, (100, 100), "nearest")))
    assert (pixels == [255, 0, 0]).all()
    assert (np.asarray(fit(image, Geometry(100, (100, 102), "nearest")))[:, [0, -1]] == 0).all()


def test_an_exact_resize_ignores_the_aspect() -> None:
    image = Image.new("RGB", (300, 100), "black")
    image.paste("red", (150, 0, 300, 100))
    pixels = np.asarray(fit(image, Geometry((50, 50), None, "nearest")))
    assert (pixels[:, :25] == 0).all()
    assert (pixels[:, 25:] == [255, 0, 0]).all()


def test_a_crop_larger_than_the_picture_is_padded_with_white() -> None:
    image = Image.new("RGB", (20, 20), "black")
    pixels = np.asarray(fit(image, Geometry(20, (30, 30), "nearest")))
    assert (pixels[5:25, 5:25] == 0).all()
    assert pixels.sum() == 255 * 3 * (30 * 30 - 20 * 20)


def test_large_jpegs_are_reduced_without_a_shift() -> None:
    large = photo(1600, 1200)
    result = good(encoded(large, "JPEG", quality=95), Geometry(48, (32, 32), "bicubic"))
    assert (result.width, result.height) == (1600, 1200)
    exact = fit(large, Geometry(48, (32, 32), "bicubic"))
    assert difference(result.pixels_HWC, exact) < 2


@pytest.mark.parametrize(
    ("resize", "spare", "size"),
    [
        (300, 1.0, (400, 300)),
        (301, 1.0, (800, 600)),
        (150, 2.0, (400, 300)),
        (151, 2.0, (800, 600)),
        (30, math.inf, (1600, 1200)),
        ((150, 400), 1.0, (800, 600)),  # both sides at least 400: it may be turned
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_it_is_shown(
    resize: int | tuple[int, int],
    spare: float,
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    original = decode_module.fit

    def look(image: Image.Image, geometry: Geometry) -> Image.Image:
        seen.append(image.size)
        return original(image, geometry)

    monkeypatch.setattr(decode_module, "fit", look)
    data = encoded(photo(1600, 1200), "JPEG")
    result = good(data, Geometry(resize, None, "bicubic", spare=spare))
    assert (result.width, result.height) == (1600, 1200)
    assert seen == [size]


@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    resize=st.integers(1, 64) | st.tuples(st.integers(1, 64), st.integers(1, 64)),
    crop=st.none() | st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
@settings(max_examples=150, deadline=None)
def test_any_geometry_fits_any_picture(
    width: int, height: int, resize: int | tuple[int, int], crop: tuple[int, int] | None
) -> None:
    geometry = Geometry(resize, crop, "bilinear")
    image = Image.new("RGB", (width, height))
    assert fit(image, geometry).size == geometry.output[::-1]


# --- thumbnails


def test_thumbnails_keep_the_aspect_and_the_turn() -> None:
    data = with_orientation(photo(), "JPEG", 6)
    thumbnail = Image.open(io.BytesIO(thumbnail_webp(data, size=30, limits=LIMITS) or b""))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (20, 30))
    upright = photo().rotate(-90, expand=True).resize((20, 30))
    assert difference(np.asarray(thumbnail.convert("RGB")), upright) < 12


def test_thumbnails_of_arrays_keep_the_aspect() -> None:
    data = array_thumbnail_webp(np.asarray(photo()), size=30)
    thumbnail = Image.open(io.BytesIO(data))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (30, 20))
    assert difference(np.asarray(thumbnail.convert("RGB")), photo().resize((30, 20))) < 12


# --- anything at all


def outcome_is_defined(data: bytes) -> None:
    result = decode(data, geometry=Geometry(16, (16, 16), "bilinear"), limits=LIMITS)
    if isinstance(result, Rejection):
        assert result.code in CODES
    else:
        assert result.pixels_HWC.shape == (16, 16, 3)
        assert result.pixels_HWC.dtype == np.uint8
        assert min(result.width, result.height, result.n_frames) >= 1


@pytest.mark.filterwarnings("ignore")
@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_random_bytes_have_an_outcome(data: bytes) -> None:
    outcome_is_defined(data)


SEEDS = {
    "jpeg": JPEG,
    "png": PNG,
    "gif": encoded(photo(), "GIF", save_all=True, append_images=[photo().rotate(9)]),
    "webp": encoded(photo(), "WEBP"),
    "tiff": encoded(photo(), "TIFF", compression="tiff_lzw"),
    "bmp": encoded(photo().convert("P"), "BMP"),
    "avif": encoded(photo(), "AVIF"),
    "jpeg2000": encoded(photo(), "JPEG2000"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", SEEDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_have_an_outcome(seed: str, data: st.DataObject) -> None:
    content = bytearray(SEEDS[seed])
    # Half of the hits go to the header, where most decisions are made.
    places = st.integers(0, 200) | st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=12)):
        content[place] = value
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    outcome_is_defined(bytes(content[:cut]))


def test_a_rejection_has_a_known_code() -> None:
    with pytest.raises(ValueError, match="unknown quarantine code 'broken'"):
        Rejection("broken")
    assert all(Rejection(code).code == code for code in CODES)
