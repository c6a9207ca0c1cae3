"""Another run's fit: where it is, and how a run of new images takes its clusters over."""

from __future__ import annotations

from typing import Any

from clusterlib import storage
from clusterlib.config import dump_yaml
from clusterlib.errors import InputError, StaleArtifactError
from clusterlib.run import Fit, Run
from clusterlib.stages.session import Session

# What of an encoder decides whether two runs' vectors can be compared.
_SAME = ("encoder.revision", "encoder.used_pooling", "encoder.preprocessing")
PLAN = "plan.json"  # in labels/: what people called each micro-cluster


def find_fit(uri: str) -> tuple[Run, Fit]:
    """The fit at `uri`, `<run>/fits/<fit_id>`, or the newest one of the run at `uri`.

    Raises:
        InputError: a run without a finished fit.
    """
    head, slash, fit_id = uri.rstrip("/").rpartition("/fits/")
    run = Run(head if slash else uri)
    if not slash:
        fit_id = (storage.read_json(run.latest) or {}).get("fit_id", "")
        if not fit_id:
            raise InputError(f"{uri}: no finished fit here (no latest.json)")
    return run, run.fit(fit_id)


def take_over_fit(session: Session, fit: Fit, *, run_id: str) -> dict[str, Any]:
    """Copy the model of `clustering.fit_from`, and what its labels taught, into `fit`.

    Returns the record of the fit, as model.json has it.

    Raises:
        InputError: there is no such fit.
        StaleArtifactError: its images were embedded in another way.
    """
    uri = storage.absolute(str(session.config.clustering.fit_from))
    run, source = find_fit(uri)
    record = storage.read_json(storage.join(source.model, "model.json"))
    if record is None:
        raise InputError(f"clustering.fit_from: {source.uri}: no fit here; run its own job first")
    _check_encoder(session, run)
    for info in storage.list_files(source.model):
        name = info.uri.rpartition("/")[2]
        if name != "model.json":
            storage.write_bytes(storage.join(fit.model, name), storage.read_bytes(info.uri))
    for name in (PLAN, "probe.npz"):
        learned = storage.join(source.labels, name)
        if storage.exists(learned):
            storage.write_bytes(storage.join(fit.labels, name), storage.read_bytes(learned))
    record |= {
        "run_id": run_id,
        "fit_id": fit.fit_id,
        "reason": f"the clusters are those of fit {source.fit_id}",
        "fit_from": source.uri,
        "euclidean_silhouette": None,  # it was measured on the other run's images
        "settings": session.fit_settings(run_id),
    }
    storage.write_bytes(fit.config, dump_yaml(session.config).encode())
    storage.write_json(storage.join(fit.model, "model.json"), record)
    return record


def _check_encoder(session: Session, run: Run) -> None:
    _, ours = session.committed_embeddings()
    theirs = storage.read_json(storage.join(run.embed_log, "00000000.json")) or {}
    for key in _SAME:
        if theirs.get(key) != ours[key]:
            raise StaleArtifactError(
                f"clustering.fit_from: {run.uri} was embedded with {key} {theirs.get(key)}, this "
                f"run with {ours[key]}, so its clusters say nothing here; use the same encoder and "
                "images.background"
            )
