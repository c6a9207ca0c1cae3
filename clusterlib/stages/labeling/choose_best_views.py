"""After labels: one image a product, by two maps, so that no process holds all products."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.errors import ConfigError, InputError
from clusterlib.labels.best_view import BEST_VIEWS, best_rows, candidates
from clusterlib.manifests.flat import table_csv
from clusterlib.run import Fit
from clusterlib.stages.labeling.manifest_slices import (
    RowSlice,
    iter_slices,
    read_manifest,
    row_slices,
)
from clusterlib.stages.session import Session
from clusterlib.stages.streaming import batches, run_tasks
from clusterlib.tables.parquet import encode_parquet, read_parquet

SLICES_PER_PART = 16


def choose_best_views(session: Session, label: str | None = None) -> None:
    """Write `labels/best_views/`: product to image, as Parquet and CSV.

    Images whose label is `label` (several: separated by commas) come first; a product without one
    gets the image nearest to its own centroid, and says so.

    Raises:
        ConfigError: no label, or no product column, is named.
        InputError: there are no labels yet, or nothing has that label.
    """
    wanted = [name.strip() for name in (label or "").split(",") if name.strip()]
    if not wanted:
        raise ConfigError("label: required; give label=<the name that stands for a best view>")
    if session.config.catalog.group_column is None:
        raise ConfigError("catalog.group_column: required; it names the product of each image")
    with session.stage("choose_best_views") as (progress, facts):
        embeddings, run_id = session.embeddings()
        fit = session.fit(run_id)
        assigned = session.assignments(fit, embeddings.state.rows)
        if storage.read_json(storage.join(fit.labels, "labels.json")) is None:
            raise InputError(f"{fit.labels}: no labels yet; run jobs.apply_labels first")
        session.start_ray()
        rows_per_slice = session.config.manifests.rows_per_file
        slices = row_slices(embeddings, assigned, rows_per_slice=rows_per_slice)
        folder = storage.join(fit.labels, "best_views")
        storage.delete(folder)
        try:
            counts = _choose(session, fit, folder, slices, wanted)
        finally:
            storage.delete(storage.join(folder, "candidates"))
        if counts["best"] == 0:
            storage.delete(folder)
            raise InputError(f"label: no image is labelled {' or '.join(wanted)}")
        facts.update(products=counts["products"], with_best_view=counts["best"])
        progress.note(
            f"{counts['products']:,} products, {counts['best']:,} with a {' or '.join(wanted)}, "
            f"in {folder}"
        )


def _choose(
    session: Session, fit: Fit, folder: str, slices: list[RowSlice], wanted: list[str]
) -> dict[str, int]:
    parts = len(slices) // SLICES_PER_PART + 1
    for _ in iter_slices(
        _split_slice,
        slices,
        catalog=session.run.catalog,
        fit=fit,
        folder=folder,
        wanted=wanted,
        parts=parts,
    ):
        pass
    counts = {"products": 0, "best": 0}
    merged = run_tasks(_merge_part, parts, folder=folder, slices=len(slices))
    for batch in batches(merged):
        for name in counts:
            counts[name] += int(np.sum(batch[name]))
    return counts


def _split_slice(
    batch: dict[str, np.ndarray],
    *,
    slices: list[RowSlice],
    catalog: str,
    fit: Fit,
    folder: str,
    wanted: list[str],
    parts: int,
) -> dict[str, list[int]]:
    """The best row of each product of a slice, in the file of the product's part."""
    number = int(batch["id"][0])
    manifest = read_manifest(catalog, slices[number])
    labels = read_parquet(storage.join(fit.labels, f"labels/part-{number:05d}.parquet"))
    if not labels["row_id"].equals(manifest["row_id"]):
        raise InputError(f"{fit.labels}: labels of other slices; run jobs.apply_labels again")
    best = best_rows(candidates(manifest, labels, wanted))
    part_N = np.array([zlib.crc32(g.encode()) % parts for g in best["group"].to_pylist()], int)
    for part in range(parts):
        mine = best.filter(pa.array(part_N == part))
        uri = storage.join(folder, f"candidates/{part:05d}-{number:05d}.parquet")
        storage.write_bytes(uri, encode_parquet(mine))
    return {"rows": [best.num_rows]}


def _merge_part(batch: dict[str, Any], *, folder: str, slices: int) -> dict[str, list[int]]:
    part = int(batch["id"][0])
    found = [
        read_parquet(storage.join(folder, f"candidates/{part:05d}-{number:05d}.parquet"))
        for number in range(slices)
    ]
    best = best_rows(pa.concat_tables(found)).cast(BEST_VIEWS)
    storage.write_bytes(
        storage.join(folder, f"parquet/part-{part:05d}.parquet"), encode_parquet(best)
    )
    storage.write_bytes(storage.join(folder, f"csv/part-{part:05d}.csv"), table_csv(best))
    shown = int(np.count_nonzero(best["is_best_view"].to_numpy(zero_copy_only=False)))
    return {"products": [best.num_rows], "best": [shown]}
