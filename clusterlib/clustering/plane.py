"""Groups as a picture of the embeddings would show them: k-means on a map in two dimensions.

A widely copied recipe (PCA, t-SNE, k-means), kept for comparison. Distances between the groups of
such a map mean little.
N: rows, P: dimensions of the space.
"""

from __future__ import annotations

import importlib.util
import warnings

import numpy as np
from numpy.typing import NDArray

from clusterlib.errors import ConfigError

MAX_TSNE_ROWS = 5_000
_MIN_ROWS = 12


def plane_rows(z_NP: NDArray[np.float32], *, seed: int) -> NDArray[np.float32]:
    """Places (N, 2) float32 of unit rows: t-SNE up to MAX_TSNE_ROWS rows, PaCMAP above.

    Fewer than 12 rows, or a space of one dimension, keep their first two dimensions.

    Raises:
        ConfigError: PaCMAP is needed and not installed.
    """
    if len(z_NP) < _MIN_ROWS or z_NP.shape[1] < 2:
        return np.pad(z_NP[:, :2], ((0, 0), (0, max(0, 2 - z_NP.shape[1]))))
    if len(z_NP) <= MAX_TSNE_ROWS:
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(z_NP) - 1) / 4)
        places_N2 = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(z_NP)
    elif importlib.util.find_spec("pacmap") is None:
        raise ConfigError(
            f"clustering.method=plane maps more than {MAX_TSNE_ROWS:,} images with PaCMAP: install "
            f"the extra clusterlib[map], or set sample.rows={MAX_TSNE_ROWS}"
        )
    else:
        import pacmap

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine = pacmap.PaCMAP(n_components=2, random_state=seed)
            places_N2 = engine.fit_transform(np.ascontiguousarray(z_NP))
    return np.asarray(places_N2, dtype=np.float32)
