"""The pictures of a report: exemplars fetched again for contact sheets, atlases of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from clusterlib import storage
from clusterlib.clustering.picks import KINDS
from clusterlib.images.decode import Limits, thumbnail_webp
from clusterlib.report.content import Contact
from clusterlib.report.sheets import ATLAS_CELLS, atlas_webp, sheet_webp
from clusterlib.stages.fetching import read_image
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks

FETCH_THREADS = 8
MOST_PER_KIND, LEAST_PER_KIND = 8, 4  # whole rows of a sheet
WRITE_THREADS = 8
MAX_FETCHED = 16_000  # pictures; with more clusters each gets fewer and smaller ones
SMALL_CELL = 80  # pixels, as large as a card shows them
MAX_PICTURE_BYTES = 15 * 1024
MEAN_ATLAS_BYTES = 1_600  # of one thumbnail in an atlas, measured on photographs
SHEETS_SHARE, ATLAS_SHARE = 0.5, 0.4  # of report.max_mb; pages take the rest
SHEET_TASKS = 256


def pictures_per_kind(clusters: int) -> int:
    """Cells for each kind of exemplar; whole rows of a sheet."""
    enough = clusters * len(KINDS) * MOST_PER_KIND <= MAX_FETCHED
    return MOST_PER_KIND if enough else LEAST_PER_KIND


def write_contact_sheets(
    session: Session, folder: str, clusters: Sequence[dict[str, Any]]
) -> dict[int, Contact]:
    """Fetch every cluster's exemplars and write one sheet a cluster below `folder`."""
    config = session.config
    per_kind = pictures_per_kind(len(clusters))
    picks = [
        (row["cluster_id"], [[p["uri"] for p in row[kind][:per_kind]] for kind in KINDS])
        for row in clusters
    ]
    budget = int(SHEETS_SHARE * config.report.max_mb * 2**20 / max(len(picks), 1))
    tasks = min(SHEET_TASKS, len(picks))
    done = run_tasks(
        _write_sheets,
        tasks,
        groups=[picks[start::tasks] for start in range(tasks)],
        folder=folder,
        size=config.report.thumbnail_size
        if per_kind == MOST_PER_KIND
        else min(config.report.thumbnail_size, SMALL_CELL),
        per_kind=per_kind,
        max_file=min(budget, MAX_PICTURE_BYTES * per_kind * len(KINDS)),
        max_bytes=config.images.max_bytes,
        limits=Limits(max_pixels=config.images.max_pixels, formats=config.images.formats),
    )
    contacts = {}
    for batch in batches(done):
        for cluster_id, failed in zip(batch["cluster_id"], batch["failed"], strict=True):
            contacts[int(cluster_id)] = Contact(per_kind, tuple(int(i) for i in failed))
    return contacts


def _write_sheets(
    batch: dict[str, np.ndarray],
    *,
    groups: list[list[tuple[int, list[list[str]]]]],
    folder: str,
    size: int,
    per_kind: int,
    max_file: int,
    max_bytes: int,
    limits: Limits,
) -> dict[str, list[Any]]:
    def thumbnail(uri: str | None) -> bytes | None:
        if uri is None:  # no such pick: the cluster is small
            return b""
        data = read_image(uri, max_bytes=max_bytes)
        return thumbnail_webp(data, size=size, limits=limits) if isinstance(data, bytes) else None

    ids, failures = [], []
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        for cluster_id, by_kind in groups[int(batch["id"][0])]:
            cells: list[str | None] = []
            for uris in by_kind:
                cells += [*uris, *[None] * (per_kind - len(uris))]
            thumbnails = list(pool.map(thumbnail, cells))
            sheet = sheet_webp(thumbnails, size=size, max_bytes=max_file)
            storage.write_bytes(storage.join(folder, f"{cluster_id:05d}.webp"), sheet)
            ids.append(cluster_id)
            failures.append([i for i, data in enumerate(thumbnails) if data is None])
    return {"cluster_id": ids, "failed": failures}


def atlas_room(session: Session) -> int:
    """How many thumbnails of the sample fit in the report."""
    return int(ATLAS_SHARE * session.config.report.max_mb * 2**20 / MEAN_ATLAS_BYTES)


def write_atlases(folder: str, thumbnails: Sequence[bytes]) -> None:
    """Write atlases of 256 thumbnails each below `folder`."""

    def write(number: int) -> None:
        part = thumbnails[number * ATLAS_CELLS : (number + 1) * ATLAS_CELLS]
        storage.write_bytes(storage.join(folder, f"atlas-{number:04d}.webp"), atlas_webp(part))

    write_all(write, range(-(-len(thumbnails) // ATLAS_CELLS)))


def write_all(write: Any, items: Any) -> None:
    """`write(item)` for each, some at once; the first error is raised."""
    with ThreadPoolExecutor(WRITE_THREADS) as pool:
        for _ in pool.map(write, items):
            pass
