"""The encoders without weights see shape and colour, each its own, and no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from clusterlib.encoders.check import check_encoder
from clusterlib.encoders.select import load_encoder
from clusterlib.errors import ConfigError
from tests.encoders.helpers import PICTURES, ours, picture, spec_of

PHOTO = picture(7, (160, 120))


@pytest.mark.parametrize(("model", "dim"), [("classic:hog", 1764), ("classic:color", 256)])
def test_unit_rows_that_tell_pictures_apart(model: str, dim: int) -> None:
    spec = spec_of(model)
    assert check_encoder(load_encoder(spec, device="cpu", batch_size=1), spec) == dim
    x_ND = ours(spec)
    assert (x_ND.shape, x_ND.dtype) == ((3, dim), np.float32)
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-5)
    assert (x_ND[0] * x_ND[1]).sum() < 0.95
    np.testing.assert_array_equal(ours(spec, PICTURES[::-1])[::-1], x_ND)


def test_color_is_blind_to_place_and_hog_to_hue() -> None:
    mirrored = PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    red, green, blue = PHOTO.split()
    gray = Image.merge("RGB", [PHOTO.convert("L")] * 3)
    color = ours(spec_of("classic:color"), [PHOTO, mirrored, gray])
    hog = ours(spec_of("classic:hog"), [PHOTO, mirrored, gray])
    assert color[0] @ color[1] > 0.99 > 0.5 > color[0] @ color[2]
    assert hog[0] @ hog[2] > 0.97 > 0.9 > hog[0] @ hog[1]


def test_hog_is_that_of_scikit_image() -> None:
    from skimage.feature import hog

    gray = np.asarray(PHOTO.convert("L").resize((128, 128), Image.Resampling.BILINEAR))
    gray_picture = Image.fromarray(gray).convert("RGB")
    wanted = hog(
        gray.astype(float),
        orientations=9,
        pixels_per_cell=(16, 16),
        cells_per_block=(2, 2),
        transform_sqrt=True,
    )
    # Decoding reduces in steps, and the weights of red, green and blue are not rounded.
    assert (
        ours(spec_of("classic:hog"), [gray_picture])[0] @ (wanted / np.linalg.norm(wanted)) > 0.999
    )


def test_a_blank_picture_is_no_bad_one() -> None:
    x_ND = ours(spec_of("classic:hog"), [Image.new("RGB", (50, 50), "white")])
    np.testing.assert_allclose(np.linalg.norm(x_ND, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("model", ["classic:sift", "classic:"])
def test_others_are_refused_by_name(model: str) -> None:
    with pytest.raises(ConfigError, match="known: classic:hog, classic:color"):
        spec_of(model)
    with pytest.raises(ConfigError, match="has only 'flatten'"):
        spec_of("classic:hog", pooling="mean")


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from clusterlib.encoders import classic\n"
        "spec = classic.describe('classic:hog', pooling='auto', precision='float32')\n"
        "classic.ClassicEncoder(spec).encode(np.zeros((1, 128, 128, 3), np.uint8))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
