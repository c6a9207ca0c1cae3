"""Encoders are compared and shown by their jobs, on real digits, without Ray."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from clusterlib.config import validate_config
from clusterlib.errors import ConfigError
from clusterlib.stages.compare_encoders import compare_encoders
from clusterlib.stages.session import Session, open_session
from clusterlib.stages.show_features import show_features


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


def session(root: Path, **settings: object) -> Session:
    config = {
        "run_uri": str(root / "run"),
        "catalog": {"source": f"digits:{root / 'digits'}", "label_column": "digit"},
        "clustering": {"k": 10, "k_min": 5, "k_max": 12, "k_count": 2},
    }
    return open_session(validate_config(config | settings))


def test_encoders_are_compared_and_kept(root: Path) -> None:
    compare = {"models": ["classic:hog", "classic:color"], "rows": 300}
    compare_encoders(session(root, compare=compare))
    folder = root / "run" / "compare_encoders"
    hog, color = json.loads((folder / "comparison.json").read_text())["encoders"]
    assert (hog["dim"], color["dim"], hog["true_k"]) == (1764, 256, 10)
    nmi = {result["model"]: max(row["nmi"] for row in result["by_k"]) for result in (hog, color)}
    # Shape tells gray digits apart, colour does not.
    assert nmi["classic:hog"] > 0.5 > nmi["classic:color"]
    assert "classic:hog" in (folder / "index.html").read_text()
    compare_encoders(session(root, compare=compare))
    # Speeds differ from time to time, so equal ones were kept.
    assert json.loads((folder / "comparison.json").read_text())["encoders"] == [hog, color]


def test_features_are_drawn(root: Path) -> None:
    show_features(session(root), images="2")
    sheets = sorted((root / "run/report/features/efficientnet-lite0").glob("*.png"))
    assert len(sheets) == 4
    with Image.open(sheets[0]) as sheet:
        assert min(sheet.size) > 200


def test_what_cannot_be_done_is_said(root: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean classic:"):
        compare_encoders(session(root, compare={"models": ["classic:hog", "clasic:hog"]}))
    with pytest.raises(ConfigError, match="has no layers to show"):
        show_features(session(root, encoder={"model": "classic:hog"}))
    with pytest.raises(ConfigError, match="expected 1 to 12, got '0'"):
        show_features(session(root), images="0")
