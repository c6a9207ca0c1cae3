"""What the stages of one job share: the run, its record, the screen, and Ray when needed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import ray

import clusterlib
from clusterlib import storage
from clusterlib.catalog.frozen import CatalogInfo, read_info
from clusterlib.config import Config, dump_yaml
from clusterlib.errors import ConfigError, InputError
from clusterlib.run import Fit, Run, fingerprint
from clusterlib.stages.progress import Screen, StageProgress
from clusterlib.tables.committed import CommittedTable, check_settings


@dataclass
class Session:
    """One job's view of a run."""

    config: Config
    run: Run
    screen: Screen
    record: dict[str, Any] = field(default_factory=dict)
    _started_ray: bool = False

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[tuple[StageProgress, dict[str, Any]]]:
        """A stage: its progress, and the facts that go into run.json when it ends well."""
        facts: dict[str, Any] = {}
        started = time.monotonic()
        with self.screen.stage(name) as progress:
            yield progress, facts
        facts["seconds"] = round(time.monotonic() - started, 2)
        self.record.setdefault("stages", {})[name] = facts

    def start_ray(self) -> None:
        """Join or start Ray once; nothing happens when it runs already."""
        if ray.is_initialized():
            return
        address = os.environ.get("RAY_ADDRESS") or self.config.compute.ray_address
        quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
        if address == "local":
            # Without this, Ray prints a warning of its own about every actor with arguments.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            try:
                ray.init(address=address, **quiet)
            except ConnectionError as error:
                raise InputError(f"compute.ray_address: {address}: {error}") from None
        self._started_ray = True
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        if storage.is_local(self.run.uri) and len(ray.nodes()) > 1:
            self.screen.say(
                f"note: {self.run.uri} must be the same folder on all {len(ray.nodes())} nodes"
            )

    def close(self) -> None:
        """Shut down Ray if this session started it."""
        if self._started_ray:
            ray.shutdown()

    def catalog(self) -> CatalogInfo:
        """The frozen catalogue's record.

        Raises:
            InputError: it has not been built.
            StaleArtifactError: it was built with other settings.
        """
        info = read_info(self.run.catalog)
        if info is None:
            raise InputError(f"{self.run.catalog}: no catalogue yet; run jobs.build_catalog first")
        check_settings(info.settings, self.catalog_settings(), where=self.run.catalog)
        return info

    def catalog_settings(self) -> dict[str, Any]:
        """The settings that decide the catalogue."""
        return {
            f"catalog.{key}": value for key, value in self.config.result_tree()["catalog"].items()
        }

    def embed_settings(self, catalog: CatalogInfo) -> dict[str, Any]:
        """The settings that decide the embeddings, so far as the configuration alone tells them."""
        tree = self.config.result_tree()
        return {
            "catalog.digest": catalog.digest,
            "rows": catalog.rows,
            "seed": self.config.seed,
            "sample.rows": self.config.sample.rows,
            "images.max_bytes": self.config.images.max_bytes,
            "images.max_pixels": self.config.images.max_pixels,
            **{f"encoder.{key}": value for key, value in tree["encoder"].items()},
        }

    def embeddings(self) -> tuple[CommittedTable, str]:
        """The finished embeddings and the run id.

        Raises:
            InputError: embedding has not finished.
            StaleArtifactError: it was done with other settings.
        """
        catalog = self.catalog()
        header_uri = storage.join(self.run.embed_log, "00000000.json")
        try:
            header = json.loads(storage.read_bytes(header_uri))
        except FileNotFoundError:
            raise InputError(
                f"{self.run.uri}: no embeddings yet; run jobs.embed_images first"
            ) from None
        wanted = self.embed_settings(catalog)
        found = {key: header.get(key) for key in wanted}
        check_settings(found, wanted, where=self.run.embed_log)
        table = CommittedTable(self.run.uri, log=self.run.embed_log, rows=catalog.rows)
        table.refresh()
        if not table.is_complete:
            left = catalog.rows - len(table.state.committed)
            raise InputError(
                f"{self.run.uri}: {left:,} of {catalog.rows:,} images are not embedded yet; run "
                "jobs.embed_images again"
            )
        return table, fingerprint(header)

    def fit_settings(self, run_id: str) -> dict[str, Any]:
        """The settings that decide the fit."""
        tree = self.config.result_tree()
        clustering = {f"clustering.{key}": value for key, value in tree["clustering"].items()}
        return {"run_id": run_id, "seed": self.config.seed, **clustering}

    def fit(self, run_id: str) -> Fit:
        """Where the fit of this configuration lies, whether or not it is there yet."""
        return self.run.fit(fingerprint(self.fit_settings(run_id)))

    def assignments(self, fit: Fit, rows: int) -> CommittedTable:
        """The finished assignments of `fit`.

        Raises:
            InputError: they are not complete.
        """
        if not storage.exists(fit.clusters):
            raise InputError(f"{fit.uri}: no assignments yet; run jobs.assign_clusters first")
        table = CommittedTable(fit.uri, log=fit.assign_log, rows=rows)
        table.refresh()
        return table


def open_session(config: Config) -> Session:
    """A session on the run of `config`; writes the resolved configuration first.

    Raises:
        ConfigError: a relative folder inside `ray job submit`, where it would be lost.
        InputError: the run's place cannot be written.
    """
    uri = config.run_uri
    if storage.is_local(uri) and not os.path.isabs(os.path.expanduser(uri)) and in_ray_job():
        raise ConfigError(
            f"run_uri: '{uri}' is relative to the job's temporary working directory and would be "
            "lost with it; give an absolute folder or an object-store URI"
        )
    run = Run(storage.absolute(uri))
    try:
        storage.write_bytes(run.config, dump_yaml(config).encode())
    except OSError as error:
        raise InputError(f"run_uri: {uri} cannot be written: {error}") from None
    record: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError, ValueError):
        record = json.loads(storage.read_bytes(run.record))
    return Session(config, run, Screen(), record)


def in_ray_job() -> bool:
    """Whether this process is the entrypoint of `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def write_record(session: Session, *, job: str, exit_code: int, error: str | None) -> None:
    """Write run.json, the last thing a job does."""
    session.record.update(
        {
            "job": job,
            "exit_code": exit_code,
            "error": error,
            "finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "driver_peak_rss_mb": round(_peak_rss_mb(), 1),
            "versions": {"clusterlib": clusterlib.__version__, "python": platform.python_version()}
            | {name: metadata.version(name) for name in ("ray", "torch", "numpy", "pyarrow")},
        }
    )
    body = json.dumps(session.record, indent=2, sort_keys=True) + "\n"
    storage.write_bytes(session.run.record, body.encode())


def _peak_rss_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
