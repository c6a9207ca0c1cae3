"""Nearest neighbours of unit rows.

N: rows, P: dimensions, J: neighbours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kernels import load_faiss

# Up to here exact; above, an inverted file finds nearly all of them in a fraction of the time.
EXACT_ROWS = 25_000
PROBES = 32


def nearest_rows(
    z_NP: NDArray[np.float32], *, count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` nearest other rows of each row by cosine: indices (N, J), distances (N, J).

    Distances are 1 - cosine, ascending; J is at most N - 1.
    """
    wanted = min(count + 1, len(z_NP))
    similarity_NJ, ids_NJ = _search(z_NP, wanted, exact=len(z_NP) <= EXACT_ROWS)
    if (ids_NJ < 0).any():  # the probed lists held too few
        similarity_NJ, ids_NJ = _search(z_NP, wanted, exact=True)
    others_NJ = ids_NJ != np.arange(len(z_NP))[:, None]
    # Of identical rows, the row itself need not be among those found: then the last one goes.
    others_NJ[others_NJ.all(axis=1), -1] = False
    shape = (len(z_NP), wanted - 1)
    distance_NJ = 1 - similarity_NJ[others_NJ].reshape(shape)
    return ids_NJ[others_NJ].reshape(shape), np.maximum(distance_NJ, 0, dtype=np.float32)


def _search(
    z_NP: NDArray[np.float32], wanted: int, *, exact: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    faiss = load_faiss()
    if exact:
        index = faiss.IndexFlatIP(z_NP.shape[1])
    else:
        lists = int(2 * np.sqrt(len(z_NP)))
        index = faiss.index_factory(z_NP.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = PROBES
        index.train(z_NP)
    index.add(z_NP)
    similarity_NJ, ids_NJ = index.search(z_NP, wanted)
    return similarity_NJ, ids_NJ
