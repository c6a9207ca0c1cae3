"""The files of a fitted model.

`model.npz`, `hierarchy.parquet`, `variance.parquet`, and `statistics.npz` after the first scan.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa

from clusterlib import storage
from clusterlib.clustering.hierarchy import Hierarchy
from clusterlib.clustering.model import ClusterModel
from clusterlib.clustering.space import Space
from clusterlib.clustering.statistics import ClusterSums, refined
from clusterlib.tables.parquet import encode_parquet, read_parquet
from clusterlib.tables.schemas import HIERARCHY, VARIANCE

VARIANCE_AXES = 256


def write_model(model_uri: str, model: ClusterModel) -> None:
    """Write `model.npz` below `model_uri`."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        mean=model.space.mean_D,
        projection=model.space.projection_DP,
        explained=model.space.shares_D,
        centroids=model.centroids_KP,
        means=model.means_KP,
        sizes=model.sizes_K,
        outlier_distance=model.outlier_distance_K,
        micro_centroids=model.micro_MP,
        micro_cluster_ids=model.micro_cluster_ids_M,
        assign_by=np.array(model.assign_by),
    )
    storage.write_bytes(storage.join(model_uri, "model.npz"), buffer.getvalue())


def read_model(model_uri: str) -> ClusterModel:
    """The fitted model below `model_uri`, with the statistics of all rows once there are some."""
    model = _read_fitted(model_uri)
    uri = statistics_uri(model_uri)
    if not storage.exists(uri):
        return model
    return refined(model, ClusterSums.from_bytes(storage.read_bytes(uri)))


def statistics_uri(model_uri: str) -> str:
    """Where the first scan over all rows leaves its sums."""
    return storage.join(model_uri, "statistics.npz")


def _read_fitted(model_uri: str) -> ClusterModel:
    arrays = np.load(
        io.BytesIO(storage.read_bytes(storage.join(model_uri, "model.npz"))), allow_pickle=False
    )
    return ClusterModel(
        space=Space(arrays["mean"], arrays["projection"], arrays["explained"]),
        centroids_KP=arrays["centroids"],
        means_KP=arrays["means"],
        sizes_K=arrays["sizes"],
        outlier_distance_K=arrays["outlier_distance"],
        micro_MP=arrays["micro_centroids"],
        micro_cluster_ids_M=arrays["micro_cluster_ids"],
        assign_by="micro" if str(arrays["assign_by"]) == "micro" else "centroid",
    )


def write_variance(model_uri: str, space: Space) -> None:
    """Write `variance.parquet` below `model_uri`: the first VARIANCE_AXES axes."""
    shares = space.shares_D[:VARIANCE_AXES]
    kept = np.arange(len(shares)) < space.projection_DP.shape[1]
    axes = np.arange(1, len(shares) + 1, dtype=np.int32)
    table = pa.Table.from_arrays(
        [pa.array(axes), pa.array(shares), pa.array(np.cumsum(shares)), pa.array(kept)],
        schema=VARIANCE,
    )
    storage.write_bytes(storage.join(model_uri, "variance.parquet"), encode_parquet(table))


def write_hierarchy(model_uri: str, hierarchy: Hierarchy) -> None:
    """Write `hierarchy.parquet` below `model_uri`."""

    def known(values: np.ndarray) -> pa.Array:
        return pa.array(values, mask=values < 0)

    columns = [
        pa.array(np.arange(len(hierarchy.size_V), dtype=np.int32)),
        known(hierarchy.left_V),
        known(hierarchy.right_V),
        pa.array(hierarchy.height_V),
        pa.array(hierarchy.size_V),
        known(hierarchy.cluster_id_V),
    ]
    table = pa.Table.from_arrays(columns, schema=HIERARCHY)
    storage.write_bytes(storage.join(model_uri, "hierarchy.parquet"), encode_parquet(table))


def read_hierarchy(model_uri: str) -> Hierarchy:
    """The tree of the fit's micro-clusters and clusters; `micro_id` of a row is its leaf."""
    table = read_parquet(storage.join(model_uri, "hierarchy.parquet"))

    def numbers(name: str) -> np.ndarray:
        return np.asarray(table[name].combine_chunks().fill_null(-1).to_numpy())

    return Hierarchy(*(numbers(n) for n in ("left", "right", "height", "size", "cluster_id")))
