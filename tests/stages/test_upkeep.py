"""Compaction, verification, garbage, and second attempts, on one real run."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from clusterlib.config import validate_config
from clusterlib.errors import ConfigError, DamagedArtifactError
from clusterlib.stages.build_catalog import build_catalog
from clusterlib.stages.clusters.assign_clusters import assign_clusters
from clusterlib.stages.clusters.fit_clusters import fit_clusters
from clusterlib.stages.embedding.embed_images import embed_images
from clusterlib.stages.session import Session, open_session
from clusterlib.stages.upkeep.collect_garbage import collect_garbage
from clusterlib.stages.upkeep.verify_run import verify_run
from clusterlib.tables.schemas import embeddings_schema
from jobs.retry_quarantine import retry_quarantine
from tests.conftest import settings

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

PICTURES = 120


@pytest.fixture(scope="module")
def tree(
    tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path, ray_session: None
) -> dict[str, Any]:
    """A run of 120 pictures, two empty files and a web page, in many small files at first."""
    folder = tmp_path_factory.mktemp("upkeep")
    images = folder / "images"
    shutil.copytree(shapes_folder, images)
    (images / "a-late.png").write_bytes(b"")
    (images / "z-late.png").write_bytes(b"")
    (images / "page.png").write_bytes(b"<html>404</html>")
    tree = settings(
        images,
        folder / "run",
        compute={"embed": {"block_rows": 3}},
        images={"max_reject_fraction": 0.1},
    )
    session = session_for(tree)
    for stage in (build_catalog, embed_images, fit_clusters, assign_clusters):
        stage(session)
    return tree


def session_for(tree: dict[str, Any]) -> Session:
    return open_session(validate_config(tree))


@pytest.fixture
def copied(tree: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The same run elsewhere, to be spoilt."""
    shutil.copytree(tree["run_uri"], tmp_path / "run")
    return tree | {"run_uri": str(tmp_path / "run")}


def files_on_disk(run: Path, dataset: str) -> list[Path]:
    return sorted((run / dataset).iterdir())


def test_small_files_are_compacted_and_none_is_left_over(tree: dict[str, Any]) -> None:
    run = Path(tree["run_uri"])
    table, _ = session_for(tree).embeddings()
    assert table.state.last_commit > 1
    for dataset, rows in (("embeddings", PICTURES), ("quarantine", 3), ("sample", PICTURES)):
        named = {table.uri(file) for file in table.files(dataset)}
        assert named == {str(path) for path in files_on_disk(run, dataset)}
        assert table.count(dataset) == rows
    (file,) = files_on_disk(run, "embeddings")
    found = pq.ParquetFile(file)
    schema = found.schema_arrow
    assert schema.remove_metadata().equals(embeddings_schema(1280, "float32"))
    assert schema.metadata[b"encoder"] == b"efficientnet-lite0"
    assert found.read(["row_id"])["row_id"].to_pylist() == sorted(
        set(range(PICTURES + 3)) - _quarantined(run)
    )
    column = found.metadata.row_group(0).column(schema.get_field_index("embedding"))
    assert "PLAIN_DICTIONARY" not in column.encodings
    assert "RLE_DICTIONARY" not in column.encodings


def _quarantined(run: Path) -> set[int]:
    return {
        row
        for path in files_on_disk(run, "quarantine")
        for row in pq.read_table(path)["row_id"].to_pylist()
    }


def test_a_sound_run_is_verified(tree: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    session = session_for(tree)
    verify_run(session)
    assert "123 of 123 rows in" in capsys.readouterr().out
    facts = session.record["stages"]["verify_run"]
    assert facts["problems"] == []
    assert facts["bytes"] > PICTURES * 1280  # compressed
    assert facts["fit"]


def damage_a_byte(run: Path) -> str:
    (path,) = files_on_disk(run, "embeddings")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "its checksum is not the committed one"


def lose_a_file(run: Path) -> str:
    files_on_disk(run, "quarantine")[0].unlink()
    return "committed, but not there"


def lose_assignments(run: Path) -> str:
    for path in run.glob("fits/*/assignments/*"):
        path.unlink()
    return "assignments: 120 committed rows are in no file"


def change_the_catalog(run: Path) -> str:
    path = run / "catalog/part-00000.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    return "the parts are not those that were frozen"


@pytest.mark.parametrize(
    "damage", [damage_a_byte, lose_a_file, lose_assignments, change_the_catalog]
)
def test_damage_is_found_and_named(
    copied: dict[str, Any], damage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = damage(Path(copied["run_uri"]))
    session = session_for(copied)
    with pytest.raises(DamagedArtifactError, match="problems, the first: "):
        verify_run(session)
    assert words in capsys.readouterr().out
    assert any(words in one for one in session.record["stages"]["verify_run"]["problems"])


def test_garbage_goes_and_nothing_else(copied: dict[str, Any]) -> None:
    run = Path(copied["run_uri"])
    before = {str(path) for path in run.rglob("*") if path.is_file()}
    (fit,) = (run / "fits").iterdir()
    left = [
        run / "embeddings/part-orphan.parquet",
        run / "sample/.writing-123",
        fit / "assignments/part-orphan.parquet",
        run / "commits/embed/.writing-456",
        run / "catalog/.probe-789",
    ]
    young = fit / "commits/assign/.writing-now"
    for path in [*left, young]:
        path.write_bytes(b"x")
        then = time.time() - (0 if path == young else 3 * 86_400)
        os.utime(path, (then, then))
    session = session_for(copied)
    collect_garbage(session)
    assert session.record["stages"]["collect_garbage"]["deleted"] == len(left)
    assert {str(path) for path in run.rglob("*") if path.is_file()} == before | {str(young)}


def test_chosen_codes_are_tried_again_and_no_others(
    copied: dict[str, Any], tmp_path: Path, shapes_folder: Path
) -> None:
    run = Path(copied["run_uri"])
    images = Path(copied["catalog"]["source"])
    old_vectors = {path.name for path in files_on_disk(run, "embeddings")}
    _, old_id = session_for(copied).embeddings()
    shutil.copy(shapes_folder / "disc/000.png", images / "a-late.png")
    try:
        session = session_for(copied)
        retry_quarantine(session, code="empty, truncated")
    finally:
        (images / "a-late.png").write_bytes(b"")
    stages = session.record["stages"]
    assert stages["retry_quarantine"]["released"] == 2
    assert stages["embed_images"]["newly_done"] == 2
    assert stages["embed_images"]["quarantined_by_code"] == {"empty": 1, "not_image": 1}
    assert stages["embed_images"]["conserved"]
    assert {path.name for path in files_on_disk(run, "embeddings")} > old_vectors
    table, new_id = session_for(copied).embeddings()
    assert table.count("embeddings") == PICTURES + 1
    assert new_id != old_id  # so that what follows is done again
    assert stages["embed_images"]["run_id"] == new_id
    verify_run(session_for(copied))


@pytest.mark.parametrize(
    ("code", "words"), [("", "which ones"), ("gon", "unknown code 'gon'"), ("empty,x", "code 'x'")]
)
def test_a_wrong_code_lists_the_known_ones(tree: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{words}.*known are no_uri, bad_uri"):
        retry_quarantine(session_for(tree), code=code)
