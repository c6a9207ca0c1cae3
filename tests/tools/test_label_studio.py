"""The real Label Studio imports our files once, shows them, and its exports label every image.

`make test-label-studio` sets up the server; this is not part of `make test`.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from clusterlib.manifests.label_studio_api import LabelStudioApi
from tests.conftest import ROOT
from tests.report.browser import chromium, executable
from tests.tools.label_studio_server import LabelStudio, label_studio

pytestmark = pytest.mark.label_studio

IMAGES = 1797
CLUSTERS = 20


@dataclass(frozen=True)
class World:
    """A run on the digits below the server's document root, and the server."""

    server: LabelStudio
    root: Path
    config: Path
    fit: Path

    @property
    def manifests(self) -> Path:
        return self.fit / "manifests"

    def job(self, name: str, *settings: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"jobs.{name}", "--config", str(self.config), *settings]
        environment = os.environ | {"LABEL_STUDIO_API_KEY": self.server.token}
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment
        )

    def labels(self) -> list[dict[str, Any]]:
        parts = sorted((self.fit / "labels/labels").glob("*.parquet"))
        rows: list[dict[str, Any]] = pa.concat_tables([pq.read_table(p) for p in parts]).to_pylist()
        return rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("digits")
    tree = {
        "run_uri": str(root / "run"),
        "catalog": {"source": f"digits:{root / 'images'}", "label_column": "digit"},
        "clustering": {"k": CLUSTERS, "k_max": 40, "pca_dim": 64},
        "manifests": {
            "rows_per_file": 500,
            "uri_prefixes": {f"{root}/": "/data/local-files/?d="},
        },
    }
    config = root / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "jobs.run_pipeline", "--config", str(config)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=600)
    (fit,) = (root / "run/fits").iterdir()
    executable = Path(os.environ["LABEL_STUDIO"]) / "bin/label-studio"
    data = Path(os.environ["LABEL_STUDIO_DATA"])
    with label_studio(executable, data=data, document_root=root) as server:
        yield World(server, root, config, fit)


@pytest.fixture(scope="module")
def image_project(world: World) -> int:
    folder = world.manifests / "label_studio"
    project = world.server.project("images", (folder / "labeling_config.xml").read_text())
    world.server.serve(project, world.root / "images")
    storage = world.server.add_tasks(project, folder)
    world.server.sync(storage)
    assert world.server.counts(project) == (IMAGES, IMAGES)
    world.server.sync(storage)
    return project


def test_every_task_and_prediction_arrives_once(world: World, image_project: int) -> None:
    assert world.server.counts(image_project) == (IMAGES, IMAGES)  # after two imports
    tasks = world.server.tasks(image_project)
    manifest = pa.concat_tables(
        [pq.read_table(p) for p in sorted((world.manifests / "parquet").glob("*"))]
    ).to_pylist()
    shown = {task["data"]["image_id"]: task for task in tasks}
    assert set(shown) == {row["image_id"] for row in manifest}
    for row in manifest:
        task = shown[row["image_id"]]
        assert task["data"]["cluster_id"] == row["cluster_id"]


def test_the_import_job_adds_only_what_is_missing(world: World) -> None:
    api = LabelStudioApi(world.server.url, world.server.token)
    for kind, count in (("label_studio", IMAGES), ("cluster_tasks", CLUSTERS)):
        folder = world.manifests / kind
        title = f"{world.fit.name} {kind} Image clusters"[:50]
        interface = (folder / "labeling_config.xml").read_text()
        project = api.find_or_make_project(title, interface=interface)
        # Some are there already, and came in by hand.
        first = json.loads(sorted(folder.glob("*.json"))[0].read_bytes())[:7]
        world.server.call("POST", f"/api/projects/{project}/import", json=first)
        for added in (count - 7, 0):
            done = world.job("import_tasks", f"url={world.server.url}", f"tasks={kind}")
            assert done.returncode == 0, done.stderr
            facts = json.loads((world.root / "run/run.json").read_text())["stages"]["import_tasks"]
            assert facts["added"] == added
            assert facts["tasks"] == count == world.server.counts(project)[0]
        found = {api_key["data"].get("image_id") for api_key in world.server.tasks(project)}
        assert kind == "cluster_tasks" or len(found) == IMAGES


def test_the_import_job_says_what_it_lacks(world: World) -> None:
    done = world.job("import_tasks", "url=http://127.0.0.1:9")
    assert (done.returncode, "no answer from Label Studio" in done.stderr) == (3, True)
    done = world.job("import_tasks")
    assert (done.returncode, "url: give url=" in done.stderr) == (2, True)
    done = world.job("import_tasks", f"url={world.server.url}", "tasks=coco")
    assert (done.returncode, "'coco' is none of" in done.stderr) == (2, True)


def test_uploads_are_accepted_by_the_strict_server(world: World) -> None:
    folder = world.manifests / "label_studio"
    project = world.server.project("uploads", (folder / "labeling_config.xml").read_text())
    tasks = []
    for path in sorted(folder.glob("*.json")):
        tasks += json.loads(path.read_bytes())
        body = json.loads(path.read_bytes())
        reply = world.server.call("POST", f"/api/projects/{project}/import", json=body).json()
        assert (reply["task_count"], reply["prediction_count"]) == (len(body), len(body))
    assert world.server.counts(project) == (IMAGES, IMAGES)
    wrong = copy.deepcopy(tasks[0])
    wrong["predictions"][0]["result"][0]["value"]["choices"] = ["cluster_999"]
    path = f"/api/projects/{project}/import"
    world.server.call("POST", path, json=[wrong], ok=(400,))  # it does look at them


def test_an_image_is_shown(world: World, image_project: int) -> None:
    task = world.server.tasks(image_project)[0]
    reply = world.server.call("GET", task["data"]["image"])
    assert reply.content.startswith(b"\x89PNG")


def naming_project(world: World, title: str) -> tuple[int, list[dict[str, Any]]]:
    folder = world.manifests / "cluster_tasks"
    project = world.server.project(title, (folder / "labeling_config.xml").read_text())
    world.server.serve(project, folder / "sheets")
    storage = world.server.add_tasks(project, folder)
    world.server.sync(storage)
    world.server.sync(storage)
    tasks = world.server.tasks(project)
    assert len(tasks) == CLUSTERS
    return project, tasks


def majorities(world: World) -> dict[str, str]:
    rows = pq.read_table(world.fit / "clusters.parquet").to_pylist()
    return {str(row["cluster_id"]): row["majority_label"] for row in rows}


@pytest.mark.skipif(executable() is None, reason="Chromium is not installed")
def test_a_naming_task_shows_its_contact_sheet_in_a_browser(world: World) -> None:
    project, tasks = naming_project(world, "looked at")
    with chromium() as browser:
        page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        page.goto(f"{world.server.url}/user/login/")
        page.fill("input[name=email]", world.server.user)
        page.fill("input[name=password]", world.server.password)
        page.click("button[type=submit]")
        page.wait_for_load_state()
        page.goto(f"{world.server.url}/projects/{project}/data?task={tasks[0]['id']}")
        # The editor shows the sheet at its own size: 8 cells of 128 pixels in each row.
        page.wait_for_function(
            "[...document.images].some(i => i.src.startsWith('blob:') && i.naturalWidth === 1024)"
        )
        page.get_by_placeholder("short name; none for junk").wait_for()


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN", "CSV"])
def test_names_reach_every_image(world: World, kind: str) -> None:
    project, tasks = naming_project(world, f"names {kind}")
    names = majorities(world)
    for task in tasks:
        sheet = world.server.call("GET", task["data"]["contact_sheet"])
        assert sheet.content.startswith(b"\xff\xd8")
        said = {
            "name": ("sheet", "textarea", f"digit {names[task['data']['cluster_id']]}"),
            "purity": ("sheet", "choices", "pure"),
        }
        world.server.answer(task["id"], said)
    export = world.root / f"export-{kind}"
    export.write_bytes(world.server.export(project, kind))
    done = world.job("apply_labels", f"names={export}")
    assert done.returncode == 0, done.stderr
    rows = world.labels()
    assert len(rows) == IMAGES
    assert all(row["label"] == f"digit {names[str(row['cluster_id'])]}" for row in rows)
    assert all(0 <= row["confidence"] <= 1 for row in rows)


def test_corrections_of_images_come_back(world: World, image_project: int) -> None:
    tasks = world.server.tasks(image_project)[:3]
    for task, label in zip(tasks, ("one", "two", "three"), strict=True):
        world.server.answer(task["id"], {"label": ("image", "textarea", label)})
    export = world.root / "corrections.json"
    export.write_bytes(world.server.export(image_project, "JSON"))
    names = world.root / "export-JSON"
    done = world.job("apply_labels", f"names={names}", f"corrections={export}")
    assert done.returncode == 0, done.stderr
    labels = {row["image_id"]: row for row in world.labels()}
    for task, label in zip(tasks, ("one", "two", "three"), strict=True):
        row = labels[task["data"]["image_id"]]
        assert (row["label"], row["label_source"], row["confidence"]) == (label, "image", 1.0)


def test_another_fits_export_is_refused(world: World) -> None:
    rows = json.loads((world.root / "export-JSON_MIN").read_bytes())
    foreign = world.root / "foreign.json"
    foreign.write_text(json.dumps([row | {"run_id": "0" * 12} for row in rows]))
    done = world.job("apply_labels", f"names={foreign}")
    assert done.returncode == 3
    assert "made for run 000000000000" in done.stderr
