"""After people have named clusters: a label for every image."""

from __future__ import annotations

import re

import numpy as np

from clusterlib import storage
from clusterlib.errors import ConfigError, InputError
from clusterlib.labels.names import fill_names, fit_of, read_names
from clusterlib.labels.propagate import label_rows
from clusterlib.run import Fit
from clusterlib.stages.manifest_slices import RowSlice, map_slices, read_manifest, row_slices
from clusterlib.stages.session import Session
from clusterlib.tables.parquet import encode_parquet, read_parquet


def apply_labels(session: Session, names: str | None = None) -> None:
    """Write `labels/` from the filled-in sheet `names`.

    Raises:
        ConfigError: no sheet is named.
        InputError: it is missing, of another run, or contradicts itself; nothing is written.
    """
    if not names:
        raise ConfigError("names: required; give names=<path of the filled-in cluster_names.csv>")
    with session.stage("apply_labels") as (progress, facts):
        embeddings, run_id = session.embeddings()
        sheet = _read_sheet(names)
        fit = _named_fit(session, sheet, run_id)
        assigned = session.assignments(fit, embeddings.state.rows)
        clusters = read_parquet(fit.clusters, ["cluster_id", "size"]).to_pylist()
        sizes = {row["cluster_id"]: row["size"] for row in clusters}
        named = read_names(sheet, run_id=run_id, fit_id=fit.fit_id, cluster_ids=sizes)
        if not named:
            raise InputError(f"names: {names} holds no name; fill in its name column")
        session.start_ray()
        slices = row_slices(
            embeddings, assigned, rows_per_slice=session.config.manifests.rows_per_file
        )
        # As for manifests: nothing of an earlier sheet may stand beside the new labels.
        storage.delete(storage.join(fit.labels, "labels.json"))
        storage.delete(storage.join(fit.labels, "labels"))
        rows = map_slices(
            _label_slice, slices, catalog=session.run.catalog, folder=fit.labels, names=named
        )
        labelled = sum(sizes[cluster] for cluster in named)
        record = {"rows": rows, "labelled": labelled, "names": len(set(named.values()))}
        storage.write_json(storage.join(fit.labels, "labels.json"), record)
        progress.note(
            f"{labelled:,} of {rows:,} images labelled with {record['names']} names, "
            f"in {fit.labels}"
        )
        facts.update(record)


def name_by_majority(session: Session) -> tuple[str, float]:
    """Fill the sheet with each cluster's most frequent true label, as a person would.

    Returns the URI of the filled sheet and the share of images whose true label that is.

    Raises:
        InputError: the catalogue has no labels.
    """
    embeddings, run_id = session.embeddings()
    fit = session.fit(run_id)
    session.assignments(fit, embeddings.state.rows)
    clusters = read_parquet(fit.clusters).to_pylist()
    majority = {row["cluster_id"]: row["majority_label"] for row in clusters}
    if not all(majority.values()):
        raise InputError("catalog.label_column: true labels are needed to name clusters by them")
    sheet = storage.read_bytes(storage.join(fit.manifests, "cluster_names.csv"))
    filled = storage.join(fit.labels, "cluster_names.csv")
    storage.write_bytes(filled, fill_names(sheet, majority))
    right = sum(row["majority_share"] * row["size"] for row in clusters)
    return filled, right / sum(row["size"] for row in clusters)


def _named_fit(session: Session, sheet: bytes, run_id: str) -> Fit:
    """The fit whose clusters the sheet names, when this run has it; else the configured one."""
    configured = session.fit(run_id)
    named = fit_of(sheet)
    if named is None or not re.fullmatch(r"[0-9a-f]{12}", named):
        return configured
    fit = session.run.fit(named)
    return fit if storage.exists(fit.clusters) else configured


def _read_sheet(names: str) -> bytes:
    try:
        return storage.read_bytes(storage.absolute(names))
    except FileNotFoundError:
        raise InputError(f"names: {names}: no such file") from None
    except (OSError, storage.NotRegularFileError) as error:
        raise InputError(f"names: {names} cannot be read: {error}") from None


def _label_slice(
    batch: dict[str, np.ndarray],
    *,
    slices: list[RowSlice],
    catalog: str,
    folder: str,
    names: dict[int, str],
) -> dict[str, list[int]]:
    number = int(batch["id"][0])
    labels = label_rows(read_manifest(catalog, slices[number]), names)
    uri = storage.join(folder, f"labels/part-{number:05d}.parquet")
    storage.write_bytes(uri, encode_parquet(labels))
    return {"rows": [labels.num_rows]}
