"""Feature sheets of a run's images, without Ray."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from clusterlib.config import validate_config
from clusterlib.errors import ConfigError, InputError
from clusterlib.stages.models.show_features import show_features
from clusterlib.stages.session import Session, open_session
from tests.conftest import settings
from tests.stages.test_compare_encoders import save_vit


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> Session:
    folder = tmp_path_factory.mktemp("features")
    shapes = shutil.copytree(shapes_folder / "disc", folder / "shapes")
    (shapes / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    save_vit(folder / "vit", seed=0)
    model = f"hf:{folder / 'vit'}"
    return open_session(validate_config(settings(shapes, folder / "run", encoder={"model": model})))


def test_sheets_lie_in_the_run(session: Session) -> None:
    show_features(session, images="3")
    facts = session.record["stages"]["show_features"]
    assert facts["sheets"] == ["attention.png", "patches.png"]
    folder = Path(facts["folder"])
    assert folder.parent == Path(session.run.uri) / "features"
    for name in facts["sheets"]:
        with Image.open(folder / name) as sheet:
            assert min(sheet.size) > 300


def test_images_and_layers_can_be_chosen(session: Session) -> None:
    show_features(session, images="003.png, 001.png", layers="layers.1")
    assert session.record["stages"]["show_features"]["sheets"] == ["patches.png"]


@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        ("nobody.png", InputError, "nobody.png is no image_id"),
        ("broken.png", InputError, "none of 1 images can be shown; broken.png is "),
        ("0", ConfigError, "room for 1 to 16 images, got 0"),
        ("99", ConfigError, "room for 1 to 16 images, got 99"),
    ],
)
def test_what_cannot_be_shown_is_said(
    session: Session, images: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        show_features(session, images=images)
