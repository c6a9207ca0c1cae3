"""A run of a CLIP proposes names; they reach sheet, naming tasks and report, and label nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from clusterlib.config import validate_config
from clusterlib.encoders.text import encode_texts
from clusterlib.errors import ConfigError, InputError
from clusterlib.stages.labeling.propose_names import propose_names
from clusterlib.stages.session import Session, open_session
from jobs.run_pipeline import run_pipeline
from tests.conftest import merged, settings
from tests.encoders.tiny_clip import save_clip

WORDS = ["disc", "stripes", "=square", "<b>noise</b>", "shoe", "dog"]


@pytest.fixture(scope="module")
def tree(
    ray_session: None, shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("clip-run")
    (folder / "words.txt").write_text("\n".join(WORDS))
    return settings(
        shapes_folder,
        folder / "run",
        encoder={"model": f"hf:{save_clip(folder / 'clip')}", "precision": "float32"},
        manifests={
            "vocabulary": str(folder / "words.txt"),
            "prompts": ["a photo of a {}.", "{}"],
            "formats": ["parquet", "cluster_tasks"],
        },
    )


@pytest.fixture(scope="module")
def done(tree: dict[str, Any]) -> Session:
    session = open_session(validate_config(tree))
    run_pipeline(session)
    return session


def fit_folder(session: Session) -> Path:
    (fit,) = (Path(session.run.uri) / "fits").iterdir()
    return fit


def test_scores_are_cosines_inside_against_outside(done: Session) -> None:
    fit = fit_folder(done)
    found = json.loads((fit / "proposals.json").read_text())["clusters"]
    parts = [pq.read_table(p) for p in (Path(done.run.uri) / "embeddings").glob("*.parquet")]
    vectors = {
        row["row_id"]: row["embedding"]
        for t in parts
        for row in t.select(["row_id", "embedding"]).to_pylist()
    }
    rows = [
        r for p in (fit / "assignments").glob("*.parquet") for r in pq.read_table(p).to_pylist()
    ]
    x_ND = np.array([vectors[row["row_id"]] for row in rows])
    ids_N = np.array([row["cluster_id"] for row in rows])
    texts = [text for w in WORDS for text in (f"a photo of a {w}.", w)]
    texts_XD = encode_texts(done.config.encoder.model, texts, pooling="projection")
    names_TD = texts_XD.reshape(len(WORDS), 2, -1).mean(axis=1)
    names_TD /= np.linalg.norm(names_TD, axis=1, keepdims=True)
    cosines_NT = x_ND @ names_TD.T
    assert len(found) == 4
    for cluster, proposals in found.items():
        mine = ids_N == int(cluster)
        scores_T = cosines_NT[mine].mean(axis=0) - cosines_NT[~mine].mean(axis=0)
        best = np.argsort(-scores_T)[:3]
        assert [p["name"] for p in proposals] == [WORDS[t] for t in best]
        np.testing.assert_allclose([p["score"] for p in proposals], scores_T[best], atol=1e-4)


def test_people_see_proposals_and_nothing_is_named(done: Session) -> None:
    fit = fit_folder(done)
    found = json.loads((fit / "proposals.json").read_text())["clusters"]
    sheet = list(csv.DictReader((fit / "manifests/cluster_names.csv").open(newline="")))
    (tasks_file,) = (fit / "manifests/cluster_tasks").glob("*.json")
    tasks = {t["data"]["cluster_id"]: t for t in json.loads(tasks_file.read_text())}
    index = (fit / "report/index.html").read_text()
    numbers = {
        c["cluster_id"]: c for c in json.loads((fit / "report/report.json").read_text())["clusters"]
    }
    for row in sheet:
        names = [p["name"] for p in found[row["cluster_id"]]]
        assert row["proposal"].lstrip("'") == ", ".join(names)
        assert (row["name"], row["purity"]) == ("", "")
        task = tasks[row["cluster_id"]]
        assert task["data"]["proposal"] == ", ".join(names)
        assert "predictions" not in task
        assert numbers[int(row["cluster_id"])]["proposals"] == found[row["cluster_id"]]
        assert numbers[int(row["cluster_id"])]["name"] is None
    interface = (fit / "manifests/cluster_tasks/labeling_config.xml").read_text()
    assert "Proposed: $proposal" in interface
    assert "proposed" in index
    assert "<b>noise" not in index
    assert not (fit / "labels").exists()


def test_another_vocabulary_makes_other_proposals(
    done: Session, tree: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "two.txt").write_text("cat\nhat\n")
    changed = merged(tree, {"manifests": {"vocabulary": str(tmp_path / "two.txt")}})
    propose_names(open_session(validate_config(changed)))
    found = json.loads((fit_folder(done) / "proposals.json").read_text())["clusters"]
    assert {p["name"] for proposals in found.values() for p in proposals} == {"cat", "hat"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"encoder": {"model": "efficientnet-lite0"}}, ConfigError, "CLIP or SigLIP encoder only"),
        ({"encoder": {"pooling": "mean"}}, ConfigError, "pooling 'mean', but the texts of clip"),
        ({"manifests": {"vocabulary": "/nowhere.txt"}}, InputError, "nowhere.txt: no such file"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_starts(
    tree: dict[str, Any],
    tmp_path: Path,
    change: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    wrong = merged(tree, change | {"run_uri": str(tmp_path / "run")})
    with pytest.raises(error, match=words):
        run_pipeline(open_session(validate_config(wrong)))
    assert not (tmp_path / "run/catalog").exists()


def test_no_vocabulary_is_a_config_error(tree: dict[str, Any]) -> None:
    without = merged(tree, {"manifests": {"vocabulary": None}})
    with pytest.raises(ConfigError, match=r"manifests\.vocabulary: required"):
        propose_names(open_session(validate_config(without)), required=True)


def test_a_prompt_needs_a_place_for_the_name(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has no {} where the name goes"):
        validate_config(merged(tree, {"manifests": {"prompts": ["a photo"]}}))
