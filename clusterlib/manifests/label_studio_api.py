"""A Label Studio server's HTTP interface, as far as importing tasks once takes it.

https://api.labelstud.io: projects, tasks, import. A task is known by what it shows, so that one
which came by another way, a source storage or an upload, counts too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from clusterlib.errors import ConfigError, InputError

PAGE = 500  # tasks of one reply
CHUNK = 500  # tasks of one request
TIMEOUT = 300  # seconds

Key = tuple[str, ...]


def key_of(data: Mapping[str, Any]) -> Key:
    """What makes a task of ours the same task: its fit, and its image or cluster."""
    return tuple(str(data.get(name, "")) for name in ("fit_id", "image_id", "cluster_id"))


class LabelStudioApi:
    """One server, by its URL and an access token (legacy, or the refresh token of a user)."""

    def __init__(self, url: str, token: str) -> None:
        """Raises ConfigError for what is no web address."""
        if urlsplit(url).scheme not in ("http", "https"):
            raise ConfigError(f"url: '{url}' is no web address; give url=https://<Label Studio>")
        self._url = url.rstrip("/")
        # A personal access token is a JWT, which is exchanged for a short-lived one.
        self._scheme, self._token = ("Token", token)
        if token.count(".") == 2:
            self._scheme = "Bearer"
            reply = self._call("POST", "/api/token/refresh/", {"refresh": token})
            self._token = reply["access"]

    def find_or_make_project(self, title: str, *, interface: str) -> int:
        """The id of the project of that title, made with that labelling interface if need be."""
        page = self._call("GET", "/api/projects?" + urlencode({"title": title, "page_size": 1000}))
        for project in page["results"]:
            if project["title"] == title:
                return int(project["id"])
        body = {"title": title, "label_config": interface}
        return int(self._call("POST", "/api/projects", body)["id"])

    def keys(self, project: int) -> Iterator[Key]:
        """The keys of all tasks of a project."""
        page, seen = 1, 0
        while True:
            query = {"project": project, "page": page, "page_size": PAGE, "fields": "task_only"}
            reply = self._call("GET", "/api/tasks?" + urlencode(query))
            yield from (key_of(task["data"]) for task in reply["tasks"])
            seen, page = seen + len(reply["tasks"]), page + 1
            if seen >= reply["total"] or not reply["tasks"]:
                return

    def add(self, project: int, tasks: Sequence[dict[str, Any]]) -> None:
        """Import tasks with their predictions."""
        for start in range(0, len(tasks), CHUNK):
            body = list(tasks[start : start + CHUNK])
            self._call("POST", f"/api/projects/{project}/import", body)

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"}
        if not path.startswith("/api/token"):
            headers["Authorization"] = f"{self._scheme} {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = Request(self._url + path, data=data, headers=headers, method=method)  # noqa: S310
        try:
            with urlopen(request, timeout=TIMEOUT) as reply:  # noqa: S310 - checked above
                return json.load(reply)
        except HTTPError as error:
            said = error.read(300).decode(errors="replace")
            raise InputError(f"{self._url}{path.partition('?')[0]}: {error.code} {said}") from None
        except (URLError, TimeoutError, ConnectionError, ValueError) as error:
            raise InputError(f"{self._url}: no answer from Label Studio: {error}") from None
