"""Exact nearest neighbours of unit rows.

N: rows, P: dimensions, J: neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kernels import load_faiss


def nearest_rows(
    z_NP: NDArray[np.float32], *, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` nearest other rows of each row by cosine: indices (N, J), distances (N, J).

    Distances are 1 - cosine, ascending; J is at most N - 1.
    """
    index = load_faiss().IndexFlatIP(z_NP.shape[1])
    index.add(z_NP)
    wanted = min(count + 1, len(z_NP))
    similarity_NJ, ids_NJ = index.search(z_NP, wanted)
    others_NJ = ids_NJ != np.arange(len(z_NP))[:, None]
    # Of identical rows, the row itself need not be among those found: then the last one goes.
    others_NJ[others_NJ.all(axis=1), -1] = False
    shape = (len(z_NP), wanted - 1)
    distance_NJ = 1 - similarity_NJ[others_NJ].reshape(shape)
    return ids_NJ[others_NJ].reshape(shape), np.maximum(distance_NJ, 0, dtype=np.float32)
