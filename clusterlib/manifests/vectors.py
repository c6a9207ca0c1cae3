"""Embeddings as .npy with metadata beside them, row by row, as clip-retrieval and autofaiss read.

N: rows, D: embedding dimensions.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clusterlib.manifests.record import Origin, Record, cluster_name
from clusterlib.tables.parquet import encode_parquet


def npy_bytes(embeddings_ND: NDArray[np.floating]) -> bytes:
    """The rows as a C-ordered .npy file, without pickle."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(embeddings_ND), allow_pickle=False)
    return buffer.getvalue()


def metadata_bytes(rows: Sequence[Record], origin: Origin) -> bytes:
    """Parquet whose n-th row describes the n-th embedding."""
    table = pa.table(
        {
            "image_path": pa.array([row.address for row in rows], pa.string()),
            "image_id": pa.array([row.image_id for row in rows], pa.string()),
            "row_id": pa.array([row.row_id for row in rows], pa.int64()),
            "cluster_id": pa.array([row.cluster_id for row in rows], pa.int32()),
            "cluster": pa.array([cluster_name(row.cluster_id) for row in rows], pa.string()),
            "fit_id": pa.array([origin.fit_id] * len(rows), pa.string()),
        }
    )
    return encode_parquet(table)
