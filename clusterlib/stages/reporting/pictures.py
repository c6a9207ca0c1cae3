"""The pictures of a report: exemplars fetched again for contact sheets, atlases of the sample."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clusterlib import storage
from clusterlib.images.decode import Limits
from clusterlib.images.thumbnail import thumbnail_array
from clusterlib.report.content import Contact
from clusterlib.report.sheets import ATLAS_CELLS, SHEET_COLUMNS, atlas_webp, sheet_webp
from clusterlib.stages.clusters.cluster_rows import shown_kinds
from clusterlib.stages.embedding.fetching import read_image
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks

FETCH_THREADS = 8
ROW = SHEET_COLUMNS
MOST = 6 * ROW  # exemplars of a cluster that are fetched again
WRITE_THREADS = 8
MAX_FETCHED = 16_000  # pictures; with more clusters each gets fewer and smaller ones
SMALL_CELL = 80  # pixels, as large as a card shows them
MAX_PICTURE_BYTES = 15 * 1024
MEAN_ATLAS_BYTES = 1_600  # of one thumbnail in an atlas, measured on photographs
SHEETS_SHARE, ATLAS_SHARE = 0.5, 0.4  # of report.max_mb; pages take the rest
SHEET_TASKS = 256


def pictures_of_kinds(clusters: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Cells for each kind of exemplar, whole rows of a sheet and at most 24 together.

    Of very many clusters each gets fewer.
    """
    kinds = shown_kinds(clusters)
    if len(clusters) * MOST > MAX_FETCHED:
        return {kind: ROW for kind in kinds if kind != "diverse"}
    # With all four kinds the typical and the diverse ones get the most.
    short = ("boundary", "random") if "diverse" in kinds else ()
    return {kind: ROW if kind in short else 2 * ROW for kind in kinds}


def write_contact_sheets(
    session: Session, folder: str, clusters: Sequence[dict[str, Any]]
) -> dict[int, Contact]:
    """Fetch every cluster's exemplars and write one sheet a cluster below `folder`."""
    config = session.config
    counts = pictures_of_kinds(clusters)
    cells = sum(counts.values())
    picks = [
        (
            row["cluster_id"],
            [[p["uri"] for p in row[kind][:count]] for kind, count in counts.items()],
        )
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
        if cells == MOST
        else min(config.report.thumbnail_size, SMALL_CELL),
        counts=tuple(counts.values()),
        max_file=min(budget, MAX_PICTURE_BYTES * cells),
        max_bytes=config.images.max_bytes,
        limits=Limits(max_pixels=config.images.max_pixels, formats=config.images.formats),
    )
    contacts = {}
    for batch in batches(done):
        for cluster_id, failed in zip(batch["cluster_id"], batch["failed"], strict=True):
            contacts[int(cluster_id)] = Contact(counts, tuple(int(i) for i in failed))
    return contacts


def _write_sheets(
    batch: dict[str, np.ndarray],
    *,
    groups: list[list[tuple[int, list[list[str]]]]],
    folder: str,
    size: int,
    counts: tuple[int, ...],
    max_file: int,
    max_bytes: int,
    limits: Limits,
) -> dict[str, list[Any]]:
    def thumbnail(uri: str | None) -> NDArray[np.uint8] | None:
        if uri is None:  # no such pick: the cluster is small
            return np.empty((0, 0, 3), dtype=np.uint8)
        data = read_image(uri, max_bytes=max_bytes)
        return thumbnail_array(data, size=size, limits=limits) if isinstance(data, bytes) else None

    ids, failures = [], []
    with ThreadPoolExecutor(FETCH_THREADS) as pool:
        for cluster_id, by_kind in groups[int(batch["id"][0])]:
            cells: list[str | None] = []
            for uris, count in zip(by_kind, counts, strict=True):
                cells += [*uris, *[None] * (count - len(uris))]
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
