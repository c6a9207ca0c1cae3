"""Stage 5: a distributed map joins catalogue, assignments and quarantine into manifests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import numpy as np

from clusterlib import storage
from clusterlib.catalog.frozen import read_rows
from clusterlib.config import ManifestFormat, ManifestsConfig
from clusterlib.errors import ClusterlibError
from clusterlib.images.decode import Limits
from clusterlib.images.grid import grid_jpeg
from clusterlib.images.thumbnail import thumbnail_webp
from clusterlib.manifests import (
    clouds,
    cluster_names,
    cluster_tasks,
    datasets,
    flat,
    folders,
    label_studio,
    vectors,
)
from clusterlib.manifests.record import Origin, Record, records, rewrite
from clusterlib.run import Fit, fingerprint
from clusterlib.stages.clusters.cluster_rows import (
    WORDS,
    read_clusters,
    read_proposal_texts,
    shown_kinds,
)
from clusterlib.stages.embedding.fetching import read_image
from clusterlib.stages.labeling.manifest_slices import (
    RowSlice,
    map_slices,
    read_manifest,
    read_vectors,
    row_slices,
)
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet

FETCH_THREADS = 8
SHEET_CELL = 128  # pixels
NPY_BYTES = 64 * 2**20  # of one .npy file: bounds a worker's memory

# One file a slice: where it lies, and what is in it.
_ENCODERS: dict[str, tuple[str, Callable[[Sequence[Record], Origin], bytes | None]]] = {
    # Source storages know a file by its name: it names the fit and the rows, and never changes.
    "label_studio": (
        "label_studio/{fit_id}-{start:09d}-{stop:09d}.json",
        label_studio.task_bytes,
    ),
    "datumaro": ("datumaro/annotations/part-{number:05d}.json", datasets.datumaro_bytes),
    "cvat": ("cvat/part-{number:05d}/manifest.jsonl", datasets.cvat_bytes),
    "fiftyone": ("fiftyone/part-{number:05d}/labels.json", datasets.fiftyone_bytes),
    "sagemaker": ("sagemaker/part-{number:05d}.manifest", clouds.sagemaker_bytes),
    "vertex": ("vertex/part-{number:05d}.jsonl", clouds.vertex_bytes),
    "azureml": ("azureml/part-{number:05d}.jsonl", clouds.azureml_bytes),
}
_CLOUDS = ("sagemaker", "vertex", "azureml")


def write_manifests(session: Session) -> None:
    """Write `manifests/` of the configured fit, or keep those that are there.

    Raises:
        InputError: the assignments are not complete, or a tool cannot read these addresses.
    """
    with session.stage("write_manifests") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        assigned = session.assignments(fit, embeddings.state.rows)
        config = session.config.manifests
        wanted = {
            "formats": sorted(config.formats),
            "rows_per_file": config.rows_per_file,
            "uri_prefixes": config.uri_prefixes,
            "sign_seconds": config.sign_seconds,
        }
        proposals = read_proposal_texts(session, fit)
        if proposals:
            wanted["proposals"] = fingerprint({str(c): text for c, text in proposals.items()})
        record = storage.read_json(_record_uri(fit))
        if record is None or record["settings"] != wanted:
            rows = _write(session, fit, embeddings, assigned, run_id, proposals)
            record = {"settings": wanted, "rows": rows}
            _write_names_sheet(fit, run_id, proposals)
            storage.write_json(_record_uri(fit), record)
            progress.note(f"{rows:,} rows as {', '.join(config.formats)}")
        else:
            progress.note(f"{record['rows']:,} rows, already written")
        facts.update(rows=record["rows"], conserved=record["rows"] == embeddings.state.rows)


def _write(
    session: Session,
    fit: Fit,
    embeddings: CommittedTable,
    assigned: CommittedTable,
    run_id: str,
    proposals: dict[int, str],
) -> int:
    config = session.config.manifests
    _check_addresses(session)
    clusters = read_clusters(fit)
    ids = sorted(row["cluster_id"] for row in clusters)
    if assigned.count("assignments") > sum(row["size"] for row in clusters):
        ids.insert(0, -1)  # noise is in no row of clusters.parquet
    origin = Origin(run_id, fit.fit_id, tuple(ids))
    session.start_ray()
    # The record goes first: a kill from here on leaves nothing that a later run would trust. Parts
    # of other settings go too, or their rows would stand beside the new ones.
    storage.delete(_record_uri(fit))
    _delete_formats(fit)
    slices = row_slices(embeddings, assigned, rows_per_slice=config.rows_per_file)
    try:
        rows = map_slices(
            _write_slice,
            slices,
            catalog=session.run.catalog,
            folder=fit.manifests,
            origin=origin,
            config=config,
        )
        if "cluster_tasks" in config.formats:
            _write_cluster_tasks(session, fit, origin, clusters, proposals)
    except ClusterlibError:
        _delete_formats(fit)
        raise
    if "label_studio" in config.formats:
        uri = storage.join(fit.manifests, "label_studio/labeling_config.xml")
        storage.write_bytes(uri, label_studio.interface_xml(ids))
    return rows


def _check_addresses(session: Session) -> None:
    """Refuse formats that cannot read the first image before anything is written."""
    config = session.config.manifests
    first = read_rows(session.run.catalog, 0, 1, ["uri"])["uri"][0].as_py() or ""
    for name in _CLOUDS:
        if name in config.formats:
            clouds.check_address(name, address(first, config=config))


def address(uri: str, *, config: ManifestsConfig) -> str:
    """Where labelling tools find what lies at `uri`."""
    rewritten = rewrite(uri, config.uri_prefixes)
    if rewritten != uri or config.sign_seconds is None:
        return rewritten
    return storage.sign(uri, seconds=config.sign_seconds)


def _delete_formats(fit: Fit) -> None:
    for name in get_args(ManifestFormat):
        storage.delete(storage.join(fit.manifests, name))


def _write_slice(
    batch: dict[str, np.ndarray],
    *,
    slices: list[RowSlice],
    catalog: str,
    folder: str,
    origin: Origin,
    config: ManifestsConfig,
) -> dict[str, list[int]]:
    number = int(batch["id"][0])
    part, formats = slices[number], config.formats
    manifest = read_manifest(catalog, part)
    rows = records(manifest, functools.partial(address, config=config))

    def put(path: str, data: bytes | None) -> None:
        if data is not None:
            storage.write_bytes(storage.join(folder, path), data)

    if "parquet" in formats:
        put(f"parquet/part-{number:05d}.parquet", flat.parquet_bytes(manifest))
    if "csv" in formats:
        put(f"csv/part-{number:05d}.csv", flat.csv_bytes(manifest))
    total = manifest.num_rows
    del manifest
    for name, (pattern, encode) in _ENCODERS.items():
        if name in formats:
            path = pattern.format(
                number=number, fit_id=origin.fit_id, start=part.start, stop=part.stop
            )
            put(path, encode(rows, origin))
    if "folders" in formats:
        far = rows
        if storage.is_local(folder):
            far = [row for row in rows if not storage.is_local(row.uri)]
            for row in rows:
                if storage.is_local(row.uri):
                    storage.link(storage.join(folder, "folders", folders.place_of(row)), row.uri)
        put(f"folders/copy-{number:05d}.sh", folders.copy_script(far))
    if "npy" in formats:
        _write_npy(part, rows, origin, put)
    return {"rows": [total]}


def _write_npy(
    part: RowSlice,
    rows: Sequence[Record],
    origin: Origin,
    put: Callable[[str, bytes | None], None],
) -> None:
    by_id = {row.row_id: row for row in rows}
    first = part.start
    step = 1024  # until the dimension is known
    while first < part.stop:
        stop = min(first + step, part.stop)
        ids, x_ND = read_vectors(part, start=first, stop=stop)
        if len(ids):
            put(f"npy/img_emb/img_emb_{first:012d}.npy", vectors.npy_bytes(x_ND))
            described = [by_id[int(row)] for row in ids]
            data = vectors.metadata_bytes(described, origin)
            put(f"npy/metadata/metadata_{first:012d}.parquet", data)
            step = max(1024, NPY_BYTES // max(1, x_ND.itemsize * x_ND.shape[1]))
        first = stop


def _write_cluster_tasks(
    session: Session,
    fit: Fit,
    origin: Origin,
    clusters: list[dict[str, Any]],
    proposals: dict[int, str],
) -> None:
    config = session.config
    kinds = shown_kinds(clusters)
    folder = storage.join(fit.manifests, "cluster_tasks")
    sheets = {
        row["cluster_id"]: storage.join(folder, f"sheets/{fit.fit_id}-{row['cluster_id']:05d}.jpg")
        for row in clusters
    }
    picks = [
        (sheets[row["cluster_id"]], [[pick["uri"] for pick in row[kind]] for kind in kinds])
        for row in clusters
    ]
    write_sheets(session, picks)
    addresses = {c: address(uri, config=config.manifests) for c, uri in sheets.items()}
    tasks = cluster_tasks.naming_task_bytes(clusters, origin, sheets=addresses, proposals=proposals)
    if tasks is not None:
        storage.write_bytes(storage.join(folder, f"{fit.fit_id}.json"), tasks)
    interface = cluster_tasks.naming_interface_xml(
        rows=", ".join(WORDS[kind] for kind in kinds), has_proposals=bool(proposals)
    )
    storage.write_bytes(storage.join(folder, "labeling_config.xml"), interface)


def write_sheets(session: Session, picks: list[tuple[str, list[list[str]]]]) -> None:
    """A JPEG contact sheet for each (where it goes, rows of image URIs)."""
    config = session.config.images
    limits = Limits(max_pixels=config.max_pixels, formats=config.formats)
    done = run_tasks(
        _write_sheet, len(picks), picks=picks, max_bytes=config.max_bytes, limits=limits
    )
    for _ in batches(done):
        pass


def _write_sheet(
    batch: dict[str, np.ndarray],
    *,
    picks: list[tuple[str, list[list[str]]]],
    max_bytes: int,
    limits: Limits,
) -> dict[str, list[int]]:
    number = int(batch["id"][0])
    uri, rows = picks[number]

    def thumbnail(image: str) -> bytes | None:
        data = read_image(image, max_bytes=max_bytes)
        return (
            thumbnail_webp(data, size=SHEET_CELL, limits=limits)
            if isinstance(data, bytes)
            else None
        )

    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        grid = [list(pool.map(thumbnail, row)) for row in rows]
    storage.write_bytes(uri, grid_jpeg(grid, size=SHEET_CELL))
    return {"id": [number]}


def _write_names_sheet(fit: Fit, run_id: str, proposals: dict[int, str]) -> None:
    clusters = read_parquet(fit.clusters)
    sheet = cluster_names.sheet_bytes(
        clusters, run_id=run_id, fit_id=fit.fit_id, proposals=proposals
    )
    uri = storage.join(fit.manifests, "cluster_names.csv")
    # People write into this file: it is never overwritten once they have.
    if not storage.create_bytes(uri, sheet) and not cluster_names.is_filled_in(
        storage.read_bytes(uri)
    ):
        storage.write_bytes(uri, sheet)


def _record_uri(fit: Fit) -> str:
    return storage.join(fit.manifests, "manifests.json")
