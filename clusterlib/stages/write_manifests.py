"""Stage 5: a distributed map joins catalogue, assignments and quarantine into manifests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.catalog.frozen import read_rows
from clusterlib.config import ManifestFormat
from clusterlib.manifests import cluster_names, flat, label_studio
from clusterlib.run import Fit
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks, split_ranges
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet
from clusterlib.tables.schemas import ASSIGNMENTS, QUARANTINE

_SUFFIX = {"parquet": "parquet", "csv": "csv", "label_studio": "json"}


@dataclass(frozen=True)
class RowSlice:
    """Consecutive catalogue rows and the files that say what became of them."""

    start: int
    stop: int
    assignments: tuple[str, ...]
    quarantine: tuple[str, ...]


def write_manifests(session: Session) -> None:
    """Write `manifests/` of the configured fit, or keep those that are there.

    Raises:
        InputError: the assignments are not complete.
    """
    with session.stage("write_manifests") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        assigned = session.assignments(fit, embeddings.state.rows)
        config = session.config.manifests
        wanted = {"formats": sorted(config.formats), "rows_per_file": config.rows_per_file}
        record = storage.read_json(_record_uri(fit))
        if record is None or record["settings"] != wanted:
            rows = _write(session, fit, embeddings, assigned, run_id)
            record = {"settings": wanted, "rows": rows}
            _write_names_sheet(fit, run_id)
            storage.write_json(_record_uri(fit), record)
            progress.note(f"{rows:,} rows as {', '.join(config.formats)}")
        else:
            progress.note(f"{record['rows']:,} rows, already written")
        facts.update(rows=record["rows"], conserved=record["rows"] == embeddings.state.rows)


def row_slices(
    embeddings: CommittedTable, assigned: CommittedTable, *, rows_per_slice: int
) -> list[RowSlice]:
    """The catalogue cut into slices, each with the committed files that overlap it."""

    slices = split_ranges(((0, embeddings.state.rows),), rows_per_slice)
    assignments = _by_slice(assigned, "assignments", len(slices), rows_per_slice)
    quarantine = _by_slice(embeddings, "quarantine", len(slices), rows_per_slice)
    return [
        RowSlice(start, stop, tuple(assignments[n]), tuple(quarantine[n]))
        for n, (start, stop) in enumerate(slices)
    ]


def _by_slice(
    table: CommittedTable, dataset: str, slices: int, rows_per_slice: int
) -> list[list[str]]:
    """For each slice, the files of `dataset` that overlap it."""
    found: list[list[str]] = [[] for _ in range(slices)]
    for file in table.files(dataset):
        touched = {
            number
            for start, stop in file.ranges
            for number in range(start // rows_per_slice, (stop - 1) // rows_per_slice + 1)
        }
        for number in touched:
            found[number].append(table.uri(file))
    return found


def read_manifest(catalog: str, part: RowSlice) -> pa.Table:
    """The manifest rows of one slice."""
    return flat.join(
        read_rows(catalog, part.start, part.stop),
        _read_all(part.assignments, ASSIGNMENTS),
        _read_all(part.quarantine, QUARANTINE),
    )


def map_slices(function: Any, slices: list[RowSlice], **kwargs: Any) -> int:
    """Run `function(batch, slices=..., **kwargs)` once a slice; returns the sum of its `rows`."""
    done = run_tasks(function, len(slices), slices=slices, **kwargs)
    return sum(int(np.sum(batch["rows"])) for batch in batches(done))


def _write(
    session: Session,
    fit: Fit,
    embeddings: CommittedTable,
    assigned: CommittedTable,
    run_id: str,
) -> int:
    session.start_ray()
    config = session.config.manifests
    # The record goes first: a kill from here on leaves nothing that a later run would trust. Parts
    # of other settings go too, or their rows would stand beside the new ones.
    storage.delete(_record_uri(fit))
    for name in get_args(ManifestFormat):
        storage.delete(storage.join(fit.manifests, name))
    slices = row_slices(embeddings, assigned, rows_per_slice=config.rows_per_file)
    rows = map_slices(
        _write_slice,
        slices,
        catalog=session.run.catalog,
        folder=fit.manifests,
        formats=config.formats,
        run_id=run_id,
        fit_id=fit.fit_id,
    )
    if "label_studio" in config.formats:
        ids = read_parquet(fit.clusters, ["cluster_id"])["cluster_id"].to_pylist()
        uri = storage.join(fit.manifests, "label_studio/labeling_config.xml")
        storage.write_bytes(uri, label_studio.interface_xml(ids))
    return rows


def _write_slice(
    batch: dict[str, np.ndarray],
    *,
    slices: list[RowSlice],
    catalog: str,
    folder: str,
    formats: tuple[str, ...],
    run_id: str,
    fit_id: str,
) -> dict[str, list[int]]:
    number = int(batch["id"][0])
    manifest = read_manifest(catalog, slices[number])
    writers: dict[str, Callable[[], bytes | None]] = {
        "parquet": lambda: flat.parquet_bytes(manifest),
        "csv": lambda: flat.csv_bytes(manifest),
        "label_studio": lambda: label_studio.task_bytes(manifest, run_id=run_id, fit_id=fit_id),
    }
    for name in formats:
        part = f"{name}/part-{number:05d}.{_SUFFIX[name]}"
        data = writers[name]()
        if data is not None:
            storage.write_bytes(storage.join(folder, part), data)
    return {"rows": [manifest.num_rows]}


def _write_names_sheet(fit: Fit, run_id: str) -> None:
    clusters = read_parquet(fit.clusters)
    sheet = cluster_names.sheet_bytes(clusters, run_id=run_id, fit_id=fit.fit_id)
    # People write into this file: it is never overwritten.
    storage.create_bytes(storage.join(fit.manifests, "cluster_names.csv"), sheet)


def _record_uri(fit: Fit) -> str:
    return storage.join(fit.manifests, "manifests.json")


def _read_all(uris: tuple[str, ...], schema: pa.Schema) -> pa.Table:
    tables = [read_parquet(uri) for uri in uris]
    return pa.concat_tables(tables) if tables else schema.empty_table()
