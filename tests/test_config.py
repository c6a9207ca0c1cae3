"""Settings: what is wrong is named, what is secret stays secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import pytest
import yaml

from clusterlib.config import (
    Config,
    dump_yaml,
    json_schema,
    load_config,
    result_settings,
    validate_config,
)
from clusterlib.errors import ConfigError
from tests.conftest import ROOT

BASE = {"run_uri": "runs/x", "catalog": {"source": "pictures"}}
# Manifests for Kubernetes lie in the same folder.
CONFIGS = [
    path
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    if "apiVersion" not in yaml.safe_load(path.read_text())
]


def tree(**sections: Any) -> dict[str, Any]:
    return {**BASE, **sections}


def problems(raw: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate_config(raw)
    assert caught.value.exit_code == 2
    return [line.removeprefix("config: ") for line in str(caught.value).splitlines()]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(BASE))
    return path


# --- what is wrong is named


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (tree(cluster={}), "cluster: unknown key - did you mean 'clustering'?"),
        (tree(encoder={"modle": "x"}), "encoder.modle: unknown key - did you mean 'model'?"),
        (
            tree(compute={"embed": {"actors": {"mx": 3}}}),
            "compute.embed.actors.mx: unknown key - did you mean 'max'?",
        ),
        (tree(sample={"zzz": 1}), "sample.zzz: unknown key - known here: rows"),
        ({"catalog": {"source": "x"}}, "run_uri: required, but not given"),
        ({"run_uri": "x"}, "catalog: required, but not given"),
        ({"run_uri": "x", "catalog": {}}, "catalog.source: required, but not given"),
        (tree(clustering=3), "clustering: Input should be a valid dictionary"),
        (tree(clustering={"k_max": "many"}), "clustering.k_max: Input should be a valid integer"),
        (tree(clustering={"pca_dim": 0}), "clustering.pca_dim: Input should be greater than"),
        (tree(clustering={"pca_dim": 1.5}), "clustering: pca_dim=1.5 is neither a number of"),
        (
            tree(clustering={"min_size": 10, "max_size": 15}),
            "clustering: max_size=15 is below twice min_size=10",
        ),
        (tree(encoder={"precision": "int8"}), "encoder.precision: Input should be 'bfloat16'"),
        (tree(images={"max_reject_fraction": 1.5}), "images.max_reject_fraction: Input should be"),
        (tree(manifests={"formats": ["cvs"]}), "manifests.formats.0: Input should be 'parquet'"),
        (tree(seed=-1), "seed: Input should be greater than or equal to 0 (got -1)"),
        (tree(clustering={"k_min": 9, "k_max": 5}), "clustering: k_min=9 is above k_max=5; swap"),
        (
            tree(compute={"embed": {"actors": {"min": 3, "max": 2}}}),
            "compute.embed.actors: min=3 is above max=2; swap them",
        ),
        (tree(**{"": 1}), ": unknown key"),
        ({**BASE, 5: 1}, "5: Keys should be strings"),
    ],
)
def test_a_wrong_setting_is_named(raw: dict[str, Any], expected: str) -> None:
    (problem,) = problems(raw)
    assert problem.startswith(expected)


def test_a_value_of_no_member_of_a_union_is_named_by_its_key() -> None:
    lines = problems(tree(clustering={"k": "seven"}))
    assert {line.partition(":")[0] for line in lines} == {"clustering.k"}
    assert any("'auto'" in line for line in lines)


def test_all_problems_are_told_at_once() -> None:
    raw = {
        "catalog": {"surce": "x"},
        "seed": "x",
        "clustering": {"k_max": 1},
        "report": {"title": "${env:CLUSTERLIB_TEST_UNSET}"},
    }
    named = {line.partition(":")[0] for line in problems(raw)}
    assert named == {
        *("run_uri", "catalog.source", "catalog.surce", "seed", "clustering.k_max", "report.title")
    }


@pytest.mark.parametrize(
    ("clustering", "needed"), [({"k_max": 100}, 800), ({"k_max": 5, "k": 70}, 560)]
)
def test_a_sample_too_small_for_the_clusters_is_refused(
    clustering: dict[str, int], needed: int
) -> None:
    enough = tree(clustering=clustering, sample={"rows": needed})
    assert validate_config(enough).sample.rows == needed
    (problem,) = problems(tree(clustering=clustering, sample={"rows": needed - 1}))
    assert f"sample.rows={needed - 1} is too few" in problem
    assert f"at least {needed}" in problem


def test_settings_cannot_be_changed_afterwards() -> None:
    config = validate_config(BASE)
    with pytest.raises(pydantic.ValidationError):
        config.clustering.k_max = 7


# --- files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"run_uri: [", "not valid YAML"),
        (b"- a\n- b\n", "expected a mapping of settings, got list"),
        (b"", "expected a mapping of settings, got NoneType"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"run_uri: !!python/object/apply:os.getcwd []", "not valid YAML"),
        (b"run_uri: 2024-13-45", "not valid YAML"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=expected) as caught:
        load_config(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_a_file_that_cannot_be_opened_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / name))
    assert caught.value.exit_code == 2


def test_the_files_name_is_in_the_message(file: Path) -> None:
    with pytest.raises(ConfigError, match="job.yaml: seed:"):
        load_config(str(file), overrides=["seed=x"])


# --- overrides


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("seed=5", lambda c: c.seed, 5),
        ("clustering.k=12", lambda c: c.clustering.k, 12),
        ("clustering.k=auto", lambda c: c.clustering.k, "auto"),
        ("catalog.source=s3://bucket/a=b", lambda c: c.catalog.source, "s3://bucket/a=b"),
        ("catalog.label_column=digit", lambda c: c.catalog.label_column, "digit"),
        ("catalog.label_column=null", lambda c: c.catalog.label_column, None),
        ("compute.embed.actors.max=3", lambda c: c.compute.embed.actors.max, 3),
        ("compute.commit_seconds=2.5", lambda c: c.compute.commit_seconds, 2.5),
        ("manifests.formats=[csv]", lambda c: c.manifests.formats, ("csv",)),
        ("report.title=[half a bracket", lambda c: c.report.title, "[half a bracket"),
        ("report.title=2024-13-45", lambda c: c.report.title, "2024-13-45"),
    ],
)
def test_overrides_win_and_have_types(file: Path, override: str, read: Any, expected: Any) -> None:
    assert read(load_config(str(file), overrides=[override])) == expected


def test_the_last_override_wins_and_neighbors_stay(file: Path) -> None:
    config = load_config(str(file), overrides=["catalog.uri_column=a", "catalog.uri_column=b"])
    assert (config.catalog.uri_column, config.catalog.source) == ("b", "pictures")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "expected key=value"),
        ("=5", "expected key=value"),
        ("clustring.k=5", "clustring: unknown key - did you mean 'clustering'"),
        ("seed.x=5", "seed"),
        ("run_uri.x=5", "'run_uri' is a value, not a section"),
        ("clustering.k=3.5", "clustering.k:"),
    ],
)
def test_a_wrong_override_is_refused(file: Path, override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(str(file), overrides=[override])


def test_an_override_may_fill_a_section_left_empty(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("run_uri: x\ncatalog:\n")
    assert load_config(str(path), overrides=["catalog.source=y"]).catalog.source == "y"


# --- environment

SECRET = "hunter2-do-not-tell"


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CLUSTERLIB_TEST", SECRET)
    monkeypatch.delenv("CLUSTERLIB_TEST_UNSET", raising=False)
    return "${env:CLUSTERLIB_TEST}"


def test_the_environment_is_expanded_and_never_written(secret: str) -> None:
    raw = tree(
        catalog={"source": f"s3://{secret}/a", "suffixes": [".jpg", f".{secret}"]},
        report={"title": f"{secret} and {secret}"},
    )
    config = validate_config(raw)
    assert config.catalog.source == f"s3://{SECRET}/a"
    assert config.catalog.suffixes == (".jpg", f".{SECRET}")
    assert config.report.title == f"{SECRET} and {SECRET}"
    text = dump_yaml(config)
    assert SECRET not in text
    assert yaml.safe_load(text)["catalog"]["source"] == f"s3://{secret}/a"
    assert yaml.safe_load(text)["catalog"]["suffixes"] == [".jpg", f".{secret}"]
    assert SECRET not in str(dict(result_settings(config)))
    assert raw["catalog"]["source"] == f"s3://{secret}/a"


def test_numbers_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTERLIB_TEST", "17")
    config = validate_config(tree(seed="${env:CLUSTERLIB_TEST}"))
    assert config.seed == 17
    assert yaml.safe_load(dump_yaml(config))["seed"] == "${env:CLUSTERLIB_TEST}"


@pytest.mark.parametrize(
    "place",
    [
        lambda secret: tree(seed=secret),
        lambda secret: tree(clustering={"k": secret}),
        lambda secret: tree(clustering=secret),
        lambda secret: tree(encoder={"precision": secret}),
        lambda secret: tree(manifests={"formats": [secret]}),
        lambda secret: tree(images={"max_bytes": [secret]}),
        lambda secret: tree(report={"titel": secret}),
        lambda secret: tree(catalog={"source": secret, "suffixes": [secret], "id_column": [3]}),
    ],
)
def test_messages_do_not_tell_the_environment(secret: str, place: Any) -> None:
    assert all(SECRET not in line for line in problems(place(secret)))


def test_an_unset_variable_is_named(secret: str) -> None:
    raw = tree(report={"title": "${env:CLUSTERLIB_TEST_UNSET}"})
    (problem,) = problems(raw)
    assert problem == ("report.title: the environment variable CLUSTERLIB_TEST_UNSET is not set")


# --- what is written


def test_what_is_dumped_loads_as_the_same_settings(tmp_path: Path) -> None:
    config = validate_config(tree(clustering={"k": 7}, compute={"embed": {"actors": {"max": 2}}}))
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(config))
    assert load_config(str(path)) == config


def test_only_settings_that_decide_results_are_fingerprinted() -> None:
    keys = {key for key, _ in result_settings(validate_config(BASE))}
    assert {"seed", "clustering.k", "encoder.precision", "catalog.source"} <= keys
    assert not [key for key in keys if key.startswith(("compute", "run_uri"))]


def test_the_schema_is_valid_and_the_one_on_disk() -> None:
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert (ROOT / "configs" / "schema.json").read_text() == json_schema(), "run: make schema"


def test_every_setting_has_a_description() -> None:
    def undocumented(model: type[pydantic.BaseModel]) -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(
                field.annotation, pydantic.BaseModel
            ):
                found += undocumented(field.annotation)
            elif not field.description:
                found.append(f"{model.__name__}.{name}")
        return found

    assert undocumented(Config) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_example_loads_and_fits_the_schema(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(path.read_text())
    for name in set(re.findall(r"\$\{env:(\w+)\}", path.read_text())):
        monkeypatch.setenv(name, "1")
    assert isinstance(load_config(str(path)), Config)
    jsonschema.Draft202012Validator(json.loads(json_schema())).validate(raw)


def test_there_are_examples() -> None:
    assert "demo" in [path.stem for path in CONFIGS]


def test_another_value_of_a_variable_is_another_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tree(catalog={"source": "s3://${env:PLACE}/x", "suffixes": [".png", "${env:PLACE}"]})
    found = []
    for place in ("one-place", "two-place", "one-place"):
        monkeypatch.setenv("PLACE", place)
        found.append(validate_config(raw).result_tree())
    assert found[0] == found[2] != found[1]
    assert "one-place" not in str(found)
    assert found[0]["catalog"]["source"].startswith("s3://${env:PLACE}/x #")


def test_names_that_look_like_numbers_stay_names(file: Path) -> None:
    config = load_config(
        str(file), overrides=["catalog.source=007", "report.title=2024", "seed=012"]
    )
    assert (config.catalog.source, config.report.title, config.seed) == ("007", "2024", 12)
