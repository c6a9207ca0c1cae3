"""After manifests: their Label Studio tasks into a server's project, each of them once."""

from __future__ import annotations

import json
import os

from clusterlib import storage
from clusterlib.errors import ConfigError, InputError
from clusterlib.manifests.label_studio_api import LabelStudioApi, key_of
from clusterlib.stages.session import Session

TOKEN = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the variable's name
KINDS = ("cluster_tasks", "label_studio")


def import_tasks(session: Session, url: str = "", tasks: str = "cluster_tasks") -> None:
    """Import the tasks of the configured fit that its project does not have yet.

    The project is that of the fit, the kind and the report's title; it is made if need be. Running
    this again adds nothing, however the tasks that are there came in.

    Args:
        session: The run.
        url: Of the server; the token is in the environment.
        tasks: `cluster_tasks` or `label_studio`.

    Raises:
        ConfigError: no URL, no token, or no such kind.
        InputError: the manifests are not there, or the server refuses.
    """
    token = os.environ.get(TOKEN, "")
    if not url or not token:
        raise ConfigError(
            f"url: give url=<address of Label Studio>, and its access token in the variable {TOKEN}"
        )
    if tasks not in KINDS:
        raise ConfigError(f"tasks: '{tasks}' is none of {', '.join(KINDS)}")
    with session.stage("import_tasks") as (progress, facts):
        _, run_id = session.embeddings()
        fit = session.fit(run_id)
        folder = storage.join(fit.manifests, tasks)
        interface = storage.join(folder, "labeling_config.xml")
        if not storage.exists(interface):
            raise InputError(
                f"{folder}: no tasks here; put {tasks} into manifests.formats and run "
                "jobs.write_manifests"
            )
        api = LabelStudioApi(url, token)
        project = api.find_or_make_project(
            f"{fit.fit_id} {tasks} {session.config.report.title}"[:50],  # it takes no more
            interface=storage.read_bytes(interface).decode(),
        )
        known = set(api.keys(project))
        before, total = len(known), 0
        for info in storage.list_files(folder):
            if not info.uri.endswith(".json"):
                continue
            found = json.loads(storage.read_bytes(info.uri))
            total += len(found)
            new = [task for task in found if key_of(task["data"]) not in known]
            api.add(project, new)
            known.update(key_of(task["data"]) for task in new)
        facts.update(project=project, tasks=total, added=len(known) - before)
        progress.note(f"{facts['added']:,} of {total:,} tasks added to project {project} of {url}")
