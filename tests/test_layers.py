"""The import table: which room may import what."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

# Room -> what it may import of ours. A room may always import itself.
FOUNDATION = {"errors", "config", "storage", "run", "tables"}
LEAF_ROOMS = {"catalog", "images", "encoders", "clustering", "manifests", "labels", "report"}
ALLOWED = {
    "errors": set(),
    "config": {"errors"},
    "storage": {"errors", "config"},
    "run": {"errors", "config", "storage"},
    "tables": {"errors", "config", "storage"},
    **{room: FOUNDATION for room in LEAF_ROOMS},
    "stages": FOUNDATION | LEAF_ROOMS,
    "jobs": {"config", "errors", "stages"},
}
# Plain result types that a leaf room may take from another.
PLAIN_TYPES = {("encoders", "clusterlib.images.decode")}
# Field libraries and the only rooms that may import them.
OWNERS = {
    "ray": {"stages"},
    "fsspec": {"storage"},
    "faiss": {"clustering"},
    "torch": {"encoders", "stages"},
    "torchvision": {"encoders"},
    "transformers": {"encoders"},
    "timm": {"encoders"},
    "skimage": {"encoders"},
    "huggingface_hub": {"encoders"},
    "safetensors": {"encoders"},
    "PIL": {"images", "report", "catalog"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "rich": {"stages"},
    "yaml": {"config"},
    "pydantic": {"config"},
}

SOURCES = sorted([*(ROOT / "clusterlib").rglob("*.py"), *(ROOT / "jobs").glob("*.py")])


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "jobs" if parts[0] == "jobs" else parts[1]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            if module == "clusterlib":
                yield from (f"clusterlib.{alias.name}" for alias in node.names)
            else:
                yield module


def violations(path: Path) -> list[str]:
    room = room_of(path)
    found = []
    for module in imports_of(path):
        top, *rest = module.split(".")
        if top in OWNERS and room not in OWNERS[top]:
            found.append(f"{room} imports {module}")
        if top == "jobs" and room != "jobs":
            found.append(f"{room} imports {module}")
        if top != "clusterlib" or not rest or rest[0] in (room, "__version__"):
            continue
        if rest[0] not in ALLOWED.get(room, set()) and (room, module) not in PLAIN_TYPES:
            found.append(f"{room} imports {module}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_table(path: Path) -> None:
    assert violations(path) == []


def test_the_check_sees_a_forbidden_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = tmp_path / "clusterlib" / "clustering" / "bad.py"
    bad.parent.mkdir(parents=True)
    bad.write_text(
        "import ray\nfrom clusterlib import stages\nfrom clusterlib.report import page\n"
    )
    monkeypatch.setattr("tests.test_layers.ROOT", tmp_path)
    assert violations(bad) == [
        "clustering imports ray",
        "clustering imports clusterlib.stages",
        "clustering imports clusterlib.report",
    ]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    limit = 60 if path.parent.name == "jobs" and path.name != "cli.py" else 400
    assert len(path.read_text().splitlines()) < limit
