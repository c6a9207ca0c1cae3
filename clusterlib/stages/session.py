"""What the stages of one job share: the run, its record, the screen, and Ray when needed."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import resource
import signal
import sys
import threading
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

STAGES = (
    "build_catalog",
    "embed_images",
    "fit_clusters",
    "assign_clusters",
    "label_new_images",
    "propose_names",
    "write_manifests",
    "apply_labels",
    "write_report",  # shows the names that were applied
)


@dataclass
class Session:
    """One job's view of a run."""

    config: Config
    run: Run
    screen: Screen
    record: dict[str, Any] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)
    _started_ray: bool = False

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[tuple[StageProgress, dict[str, Any]]]:
        """A stage: its progress, and the facts that go into run.json when it ends well."""
        facts: dict[str, Any] = {}
        started = time.monotonic()
        # What later stages said belongs to what this one is about to change.
        known = self.record.setdefault("stages", {})
        for later in STAGES[STAGES.index(name) :] if name in STAGES else ():
            known.pop(later, None)
        with self.screen.stage(name) as progress:
            yield progress, facts
        facts["seconds"] = round(time.monotonic() - started, 2)
        known[name] = facts

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
        stop_on_sigterm()  # Ray has put a handler of its own in its place
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
            "images.formats": tree["images"]["formats"],
            "images.background": tree["images"]["background"],
            **{f"encoder.{key}": value for key, value in tree["encoder"].items()},
        }

    def embeddings(self) -> tuple[CommittedTable, str]:
        """The finished embeddings and the run id.

        Raises:
            InputError: embedding has not finished.
            StaleArtifactError: it was done with other settings.
        """
        table, settings = self.committed_embeddings()
        if not table.is_complete:
            left = table.state.rows - len(table.state.committed)
            raise InputError(
                f"{self.run.uri}: {left:,} of {table.state.rows:,} images are not embedded yet; "
                "run jobs.embed_images again"
            )
        return table, run_id(settings, table)

    def committed_embeddings(self) -> tuple[CommittedTable, dict[str, Any]]:
        """What is embedded so far, and the settings that it was embedded with.

        Raises:
            InputError: embedding has not begun.
            StaleArtifactError: it was done with other settings.
        """
        catalog = self.catalog()
        header = self._embed_header(catalog)
        if header is None:
            raise InputError(f"{self.run.uri}: no embeddings yet; run jobs.embed_images first")
        table = self.table(self.run.uri, log=self.run.embed_log, rows=catalog.rows)
        table.refresh()
        return table, header

    def table(self, root: str, *, log: str, rows: int) -> CommittedTable:
        """A committed table as this configuration opens it."""
        single = self.config.compute.single_writer
        return CommittedTable(root, log=log, rows=rows, single_writer=single)

    def _embed_header(self, catalog: CatalogInfo) -> dict[str, Any] | None:
        header = storage.read_json(storage.join(self.run.embed_log, "00000000.json"))
        if header is not None:
            wanted = self.embed_settings(catalog)
            found = {key: header.get(key) for key in wanted}
            check_settings(found, wanted, where=self.run.embed_log)
        return header

    def write_config(self) -> None:
        """Write the resolved configuration, unless the run belongs to another one.

        Raises:
            StaleArtifactError: catalogue or embeddings were made with other settings.
        """
        if read_info(self.run.catalog) is not None:
            self._embed_header(self.catalog())
        storage.write_bytes(self.run.config, dump_yaml(self.config).encode())

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
        table = self.table(fit.uri, log=fit.assign_log, rows=rows)
        table.refresh()
        return table


def run_id(settings: dict[str, Any], table: CommittedTable) -> str:
    """The run id of embeddings made with `settings`.

    What was embedded at a second attempt is another input of everything that follows.
    """
    again = {"releases": table.state.releases} if table.state.releases else {}
    return fingerprint(settings | again)


def open_session(config: Config) -> Session:
    """A session on the run of `config`.

    Raises:
        ConfigError: a relative folder inside `ray job submit`, where it would be lost.
    """
    uri = config.run_uri
    if storage.is_local(uri) and not os.path.isabs(os.path.expanduser(uri)) and in_ray_job():
        raise ConfigError(
            f"run_uri: '{uri}' is relative to the job's temporary working directory and would be "
            "lost with it; give an absolute folder or an object-store URI"
        )
    run = Run(storage.absolute(uri))
    try:
        record = storage.read_json(run.record) or {}
    except (OSError, ValueError):
        record = {}  # it is only a record; the artifacts speak for themselves
    return Session(config, run, Screen(), record)


def stop_on_sigterm() -> None:
    """Take SIGTERM, as orchestrators send it, for an interruption: what is committed stays."""

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


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
            "seconds": round(time.monotonic() - session.started, 1),
            "driver_peak_rss_mb": round(_peak_rss_mb(), 1),
            "versions": {"clusterlib": clusterlib.__version__, "python": platform.python_version()}
            | {name: metadata.version(name) for name in ("ray", "torch", "numpy", "pyarrow")},
        }
    )
    # A store that is gone has been waited for already.
    patience = storage.IMAGE if error else storage.ARTIFACT
    storage.write_json(session.run.record, dict(sorted(session.record.items())), patience=patience)


def _peak_rss_mb() -> float:
    """Of this program alone: Linux's ru_maxrss also counts what started it, until it was loaded."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
