"""Landmarks, the images that answers are spread over, and what is learnt from them.

The driver holds at most MAX_LANDMARKS of them, whatever the size of the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clusterlib.catalog.frozen import read_rows
from clusterlib.clustering.picks import row_hash
from clusterlib.errors import InputError
from clusterlib.labels.diffusion import MAX_LANDMARKS, Diffusion, fit_diffusion
from clusterlib.labels.learn import UNKNOWN, Evidence, Learned, learn
from clusterlib.labels.plan import Plan
from clusterlib.run import Fit
from clusterlib.stages.clusters.model_files import read_model
from clusterlib.stages.labeling.manifest_slices import (
    RowSlice,
    iter_slices,
    read_assignments,
    read_vectors,
)
from clusterlib.stages.session import Session
from clusterlib.tables.committed import CommittedTable


@dataclass(frozen=True)
class Landmarks:
    """Images of the training sample and all those that people spoke of; L of them."""

    row_ids_L: np.ndarray
    image_ids: tuple[str, ...]
    uris: tuple[str, ...]
    cluster_ids_L: np.ndarray
    micro_ids_L: np.ndarray
    z_LP: np.ndarray
    diffusion: Diffusion


def read_landmarks(
    session: Session,
    fit: Fit,
    embeddings: CommittedTable,
    slices: list[RowSlice],
    *,
    asked: set[str],
) -> Landmarks:
    """Landmarks by row id: the `asked` images, and as many of the sample as there is room for.

    Raises:
        InputError: an asked image is not in the catalogue, or too many are asked.
    """
    if len(asked) > MAX_LANDMARKS // 2:
        raise InputError(
            f"names: {len(asked):,} labelled images are more than the {MAX_LANDMARKS // 2:,} that "
            "are learnt from at once; split the file"
        )
    sample = pa.concat_tables(
        [t.select(["row_id", "embedding"]) for t in embeddings.read("sample")]
    )
    ids = sample["row_id"].to_numpy()
    order = np.argsort(row_hash(ids, seed=session.config.seed + 2), kind="stable")
    kept = set(ids[order[: MAX_LANDMARKS - len(asked)]].tolist())
    parts = []
    for batch in iter_slices(
        _gather_slice, slices, catalog=session.run.catalog, asked=asked, kept=kept
    ):
        parts += [pa.ipc.open_stream(data).read_all() for data in batch["rows"]]
    found = pa.concat_tables(parts).sort_by("row_id")
    unknown = asked - set(found["image_id"].to_pylist())
    if unknown:
        raise InputError(
            f"names: image {min(unknown)!r} is not among the clustered images of this run"
            + (f", nor are {len(unknown) - 1} others" if len(unknown) > 1 else "")
        )
    space = read_model(fit.model).space
    z_LP = _vectors(found, sample, space.transform)
    return Landmarks(
        row_ids_L=found["row_id"].to_numpy(),
        image_ids=tuple(found["image_id"].to_pylist()),
        uris=tuple(found["uri"].to_pylist()),
        cluster_ids_L=found["cluster_id"].to_numpy(),
        micro_ids_L=found["micro_id"].to_numpy(),
        z_LP=z_LP,
        diffusion=fit_diffusion(z_LP),
    )


def learn_labels(
    landmarks: Landmarks, plan: Plan, images: Mapping[str, str], *, seed: int
) -> Learned | None:
    """What the answers teach; None where nothing has a name."""
    named = [plan.label(int(micro)) for micro in landmarks.micro_ids_L]
    said = [images.get(image_id) for image_id in landmarks.image_ids]
    classes = tuple(sorted({name for name in (*named, *said) if name is not None}))
    if not classes:
        return None
    index = {name: number for number, name in enumerate(classes)}

    def numbers(names: list[str | None]) -> np.ndarray:
        return np.array([UNKNOWN if n is None else index[n] for n in names], dtype=np.intp)

    evidence = Evidence(landmarks.z_LP, numbers(said), numbers(named), classes)
    return learn(evidence, landmarks.diffusion, seed=seed)


def _gather_slice(
    batch: dict[str, np.ndarray],
    *,
    slices: list[RowSlice],
    catalog: str,
    asked: set[str],
    kept: set[int],
) -> dict[str, list[bytes]]:
    """Assignments of asked and kept rows, with the embeddings of the asked ones."""
    part = slices[int(batch["id"][0])]
    rows = read_assignments(part)
    ids = rows["row_id"].to_numpy()
    rows = rows.filter(pa.array((ids >= part.start) & (ids < part.stop)))
    catalog_ids = read_rows(catalog, part.start, part.stop, ["row_id", "image_id"])
    hit = pc.is_in(catalog_ids["image_id"], value_set=pa.array(sorted(asked), pa.string()))
    wanted = catalog_ids["row_id"].filter(hit).to_numpy()
    mine = np.isin(rows["row_id"].to_numpy(), np.concatenate([wanted, sorted(kept)]))
    rows = rows.filter(pa.array(mine)).sort_by("row_id")
    vectors = {}
    for row in wanted:
        found, x_ND = read_vectors(part, start=int(row), stop=int(row) + 1)
        if len(found):
            vectors[int(row)] = x_ND[0].astype(np.float32).tolist()
    columns = rows.select(["row_id", "image_id", "uri", "cluster_id", "micro_id"])
    own = [vectors.get(row) for row in rows["row_id"].to_pylist()]
    columns = columns.append_column("embedding", pa.array(own, pa.list_(pa.float32())))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return {"rows": [sink.getvalue().to_pybytes()]}


def _vectors(found: pa.Table, sample: pa.Table, transform: object) -> np.ndarray:
    ids = sample["row_id"].to_numpy()
    position = {int(row): n for n, row in enumerate(ids)}
    vectors = sample["embedding"].combine_chunks()
    flat = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
    x_LD = np.empty((found.num_rows, flat.shape[1]), dtype=np.float32)
    own = found["embedding"].to_pylist()
    for n, row in enumerate(found["row_id"].to_pylist()):
        x_LD[n] = own[n] if own[n] is not None else flat[position[row]]
    z_LP: np.ndarray = transform(x_LD)  # type: ignore[operator]
    return z_LP
