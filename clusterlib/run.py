"""Where each artifact of a run lives, and the fingerprints that tell one run from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusterlib import storage


def fingerprint(settings: Mapping[str, Any]) -> str:
    """12 hex digits that change when any of `settings` (plain JSON values) does."""
    text = json.dumps(dict(settings), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Run:
    """The layout below `run_uri`."""

    uri: str

    @property
    def config(self) -> str:
        return self._at("config.yaml")

    @property
    def record(self) -> str:
        return self._at("run.json")

    @property
    def latest(self) -> str:
        return self._at("latest.json")

    @property
    def catalog(self) -> str:
        return self._at("catalog")

    @property
    def embed_log(self) -> str:
        """Commits of the datasets embeddings, quarantine and sample, which lie in `uri` itself."""
        return self._at("commits/embed")

    @property
    def compare(self) -> str:
        """Trials of other encoders on some of the images."""
        return self._at("compare")

    @property
    def features(self) -> str:
        """What encoders see in a few images."""
        return self._at("features")

    def fit(self, fit_id: str) -> Fit:
        return Fit(fit_id, self._at(f"fits/{fit_id}"))

    def _at(self, path: str) -> str:
        return storage.join(self.uri, path)


@dataclass(frozen=True)
class Fit:
    """The layout below `fits/<fit_id>`."""

    fit_id: str
    uri: str

    @property
    def config(self) -> str:
        return storage.join(self.uri, "config.yaml")

    @property
    def model(self) -> str:
        return storage.join(self.uri, "model")

    @property
    def assign_log(self) -> str:
        """Commits of the dataset assignments, which lies in `uri` itself."""
        return storage.join(self.uri, "commits/assign")

    @property
    def clusters(self) -> str:
        return storage.join(self.uri, "clusters.parquet")

    @property
    def manifests(self) -> str:
        return storage.join(self.uri, "manifests")

    @property
    def report(self) -> str:
        return storage.join(self.uri, "report")

    @property
    def labels(self) -> str:
        return storage.join(self.uri, "labels")
