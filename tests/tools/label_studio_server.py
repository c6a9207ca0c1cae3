"""A real Label Studio on loopback, in a virtual environment of its own, and its HTTP interface."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from tests.conftest import free_port

START_SECONDS = 240  # the first start migrates its database


class LabelStudio:
    """The few calls that the test needs."""

    def __init__(self, url: str, user: str, password: str, token: str) -> None:
        self.url, self.user, self.password, self.token = url, user, password, token
        self._headers = {"Authorization": f"Token {token}"}

    def call(
        self, method: str, path: str, *, ok: tuple[int, ...] = (200, 201), **kwargs: Any
    ) -> Any:
        reply = requests.request(
            method, self.url + path, headers=self._headers, timeout=300, **kwargs
        )
        assert reply.status_code in ok, f"{path}: {reply.status_code} {reply.text[:500]}"
        return reply

    def project(self, title: str, config: str) -> int:
        body = {"title": title, "label_config": config}
        found: int = self.call("POST", "/api/projects", json=body).json()["id"]
        return found

    def serve(self, project: int, folder: Path) -> None:
        """Let images below `folder` be shown."""
        body = {"project": project, "path": str(folder), "use_blob_urls": True, "title": "serve"}
        self.call("POST", "/api/storages/localfiles", json=body)

    def add_tasks(self, project: int, folder: Path) -> int:
        """A source storage of task files; returns its id."""
        body = {
            "project": project,
            "path": str(folder),
            "use_blob_urls": False,
            "regex_filter": r".*\.json$",
        }
        found: int = self.call("POST", "/api/storages/localfiles", json=body).json()["id"]
        return found

    def sync(self, storage_id: int) -> None:
        state = self.call("POST", f"/api/storages/localfiles/{storage_id}/sync").json()
        assert state["status"] == "completed", state

    def tasks(self, project: int) -> list[dict[str, Any]]:
        """All tasks with data and predictions."""
        path = f"/api/projects/{project}/export"
        params = {"exportType": "JSON", "download_all_tasks": "true"}
        found: list[dict[str, Any]] = self.call("GET", path, params=params).json()
        return found

    def counts(self, project: int) -> tuple[int, int]:
        """Tasks and predictions."""
        state = self.call("GET", f"/api/projects/{project}").json()
        return state["task_number"], state["total_predictions_number"]

    def answer(self, task: int, said: dict[str, tuple[str, str, str]]) -> None:
        """Annotate as a person would: name of the control to (shown, kind, answer)."""
        result = [
            {
                "from_name": control,
                "to_name": shown,
                "type": kind,
                "value": {"text" if kind == "textarea" else "choices": [text]},
            }
            for control, (shown, kind, text) in said.items()
        ]
        self.call("POST", f"/api/tasks/{task}/annotations", json={"result": result})

    def export(self, project: int, kind: str) -> bytes:
        params = {"exportType": kind}
        content: bytes = self.call("GET", f"/api/projects/{project}/export", params=params).content
        return content


@contextlib.contextmanager
def label_studio(executable: Path, *, data: Path, document_root: Path) -> Iterator[LabelStudio]:
    """Start the server on a migrated or new `data` folder, strict about predictions."""
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    foreign = ("LABEL_STUDIO_", "HEARTEX_", "DJANGO_", "AWS_", "SENTRY")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    environment |= {
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(document_root),
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_HOST": url,
        "fflag_feat_utc_210_prediction_validation_15082025": "true",
    }
    user, password, token = _credentials(data)
    command = [
        *(str(executable), "start", "--no-browser", "--internal-host", "127.0.0.1"),
        *("--port", str(port), "--username", user, "--password", password),
        *("--user-token", token, "--enable-legacy-api-token", "--log-level", "ERROR"),
    ]
    with (data / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=data
        )
    try:
        _wait(process, url, data / "server.log")
        yield LabelStudio(url, user, password, token)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _credentials(data: Path) -> tuple[str, str, str]:
    """They count only when the user is first made, so they stay with the data folder."""
    file = data / "credentials"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"{secrets.token_hex(8)} {secrets.token_hex(20)}")
    password, token = file.read_text().split()
    return "test@example.org", password, token


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(requests.RequestException):
            if requests.get(url + "/health", timeout=5).ok:
                return
        time.sleep(0.25)
    raise AssertionError("Label Studio did not come up")
