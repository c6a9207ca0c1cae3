"""The map of the sample: positions, order of the pictures, and map.parquet for other viewers."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clusterlib import storage
from clusterlib.clustering.neighbors import nearest_rows
from clusterlib.clustering.picks import row_hash
from clusterlib.errors import ConfigError
from clusterlib.report.content import MapFacts
from clusterlib.report.points import Points, morton_order
from clusterlib.report.projection import choose_method, project
from clusterlib.stages.reporting.pictures import atlas_room
from clusterlib.stages.reporting.rows import SampleRows
from clusterlib.stages.session import Session
from clusterlib.tables.parquet import encode_parquet

NEIGHBORS = 10


@dataclass(frozen=True)
class SampleMap:
    """The map, with rows of the sample in the order of the atlases."""

    order_N: NDArray[np.int64]
    points: Points
    facts: MapFacts


def make_map(session: Session, sample: pa.Table, rows: SampleRows) -> SampleMap:
    """Project the sample and put its rows in order.

    Raises:
        ConfigError: the projection asked for is not installed.
    """
    started = time.monotonic()
    config = session.config.report
    try:
        method = choose_method(config.map, points=len(rows.z_NP))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    xy_N2 = project(rows.z_NP, method=method, seed=session.config.seed)
    clusters_N = sample["cluster_id"].to_numpy()
    pictures = min(atlas_room(session), len(xy_N2))
    # Pictures go to a uniform part of the points; those of one cluster lie side by side.
    hash_N = row_hash(sample["row_id"].to_numpy(), seed=session.config.seed)
    has_picture_N = np.zeros(len(xy_N2), dtype=bool)
    has_picture_N[np.argsort(hash_N, kind="stable")[:pictures]] = True
    rank_N = np.empty(len(xy_N2), dtype=np.int64)
    rank_N[morton_order(xy_N2)] = np.arange(len(xy_N2))
    order_N = np.lexsort((rank_N, clusters_N, ~has_picture_N))
    ordered = sample.take(pa.array(order_N))
    names = sorted({label for label in ordered["label"].to_pylist() if label is not None})
    number = {name: index for index, name in enumerate(names)}
    labels = [-1 if label is None else number[label] for label in ordered["label"].to_pylist()]
    points = Points(
        xy_N2=xy_N2[order_N],
        cluster_N=clusters_N[order_N],
        label_N=np.array(labels, dtype=np.int32),
        labels=names,
        image_ids=ordered["image_id"].to_pylist(),
        pictures=pictures,
    )
    seconds = round(time.monotonic() - started, 2)
    return SampleMap(order_N, points, MapFacts(method, len(xy_N2), pictures, seconds))


def write_map_parquet(
    uri: str, sample: pa.Table, rows: SampleRows, made: SampleMap, *, bytes_left: int
) -> None:
    """Write the map in the shape that the embedding-atlas viewer takes.

    Columns: `x`, `y`, `image` (struct of bytes and path), `neighbors` (struct of zero-based row
    numbers and cosine distances), `image_id`, `cluster_id`, `label`. Pictures come along as far as
    `bytes_left` goes.
    """
    order_N = made.order_N
    ordered = sample.take(pa.array(order_N))
    ids_NJ, distances_NJ = nearest_rows(rows.z_NP[order_N], count=NEIGHBORS)
    images = []
    for place, uri_text in zip(order_N, ordered["uri"].to_pylist(), strict=True):
        data = rows.thumbnails[place]
        bytes_left -= len(data)
        images.append({"bytes": data if bytes_left > 0 else None, "path": uri_text})
    table = pa.table(
        {
            "x": made.points.xy_N2[:, 0],
            "y": made.points.xy_N2[:, 1],
            "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "neighbors": pa.StructArray.from_arrays(
                [_lists(ids_NJ), _lists(distances_NJ)], names=["ids", "distances"]
            ),
            "image_id": ordered["image_id"],
            "cluster_id": ordered["cluster_id"],
            "label": ordered["label"],
        }
    )
    storage.write_bytes(uri, encode_parquet(table))


def _lists(values_NJ: NDArray[np.generic]) -> pa.Array:
    offsets = np.arange(len(values_NJ) + 1, dtype=np.int32) * values_NJ.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values_NJ.ravel()))
