"""Command lines: exit codes, one-sentence errors, no Ray and no traceback for a user's mistake."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli import run_job
from jobs.run_pipeline import run_pipeline
from tests.conftest import ROOT, settings

JOBS = sorted(
    path.stem for path in (ROOT / "jobs").glob("*.py") if path.stem not in ("__init__", "cli")
)


def write(tmp_path: Path, tree: dict[str, Any]) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return str(path)


def run(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["x", *args])
    return run_job(run_pipeline, doc="x", name="run_pipeline")


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("ray.init", refuse)


def test_unknown_key_is_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = settings(tmp_path, tmp_path / "run", clustering={"iteration": 3})
    assert run(monkeypatch, "--config", write(tmp_path, tree)) == 2
    err = capsys.readouterr().err
    assert "clustering.iteration: unknown key - did you mean 'iterations'?" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_wrong_type_in_an_override_is_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, settings(tmp_path, tmp_path / "run"))
    assert run(monkeypatch, "--config", config, "sample.rows=many") == 2
    assert "sample.rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{tmp}/nowhere", "no such folder"),
        ("{tmp}/empty", "no images found"),
        ("{tmp}/nowhere.csv", "no such table"),
        ("nosuch://bucket/x", "cannot be opened"),
    ],
)
def test_unusable_sources_are_exit_3(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    words: str,
) -> None:
    (tmp_path / "empty").mkdir()
    tree = settings(source.format(tmp=tmp_path), tmp_path / "run")
    assert run(monkeypatch, "--config", write(tmp_path, tree)) == 3
    err = capsys.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["exit_code"] == 3
    assert words in record["error"]


@pytest.mark.usefixtures("s3_endpoint")
def test_a_wrong_bucket_is_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = settings("s3://no-such-bucket-anywhere/x", tmp_path / "run")
    assert run(monkeypatch, "--config", write(tmp_path, tree)) == 3
    assert "no such bucket" in capsys.readouterr().err


def test_duplicate_ids_are_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.csv").write_text("uri\na.png\nb.png\na.png\nb.png\n")
    tree = settings(tmp_path / "t.csv", tmp_path / "run")
    assert run(monkeypatch, "--config", write(tmp_path, tree)) == 3
    assert "'a.png' and 'b.png'" in capsys.readouterr().err


def test_a_relative_run_in_a_ray_job_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert run(monkeypatch, "--config", write(tmp_path, settings(tmp_path, "runs/x"))) == 2
    assert "would be lost" in capsys.readouterr().err


def test_print_config_is_complete_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path, settings(tmp_path, tmp_path / "run"))
    assert run(monkeypatch, "--config", config, "--print-config", "seed=7") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seed"] == 7
    assert printed["encoder"]["model"] == "efficientnet-lite0"
    assert not (tmp_path / "run").exists()


def test_bugs_are_not_dressed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, settings(tmp_path, tmp_path / "run"))
    monkeypatch.setattr(sys, "argv", ["x", "--config", config])

    def broken(session: object) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError):
        run_job(broken, doc="x", name="broken")
    assert json.loads((tmp_path / "run/run.json").read_text())["exit_code"] == 1


def test_interruption_is_130_and_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write(tmp_path, settings(tmp_path, tmp_path / "run"))
    monkeypatch.setattr(sys, "argv", ["x", "--config", config])

    def interrupted(session: object) -> None:
        raise KeyboardInterrupt

    assert run_job(interrupted, doc="x", name="x") == 130
    assert json.loads((tmp_path / "run/run.json").read_text())["exit_code"] == 130


@pytest.mark.parametrize("job", JOBS)
def test_every_job_has_help(
    job: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `python -m jobs.<job> --help`, without paying for the imports of each anew."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", [job, "--help"])
    monkeypatch.delitem(sys.modules, f"jobs.{job}", raising=False)
    with pytest.raises(SystemExit) as stopped:
        runpy.run_module(f"jobs.{job}", run_name="__main__")
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert f"python -m jobs.{job}" in shown
    assert "--config" in shown
    assert "Exit codes" in shown
