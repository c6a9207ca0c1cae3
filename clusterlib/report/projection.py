"""A 2-D map of embeddings for the eye; distances on it are no measurement.

N: points, P: dimensions.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["pacmap", "tsne", "pca"]
# t-SNE takes about a minute for this many on two cores.
TSNE_COMFORT = 5_000


def choose_method(wanted: Literal["auto", "pacmap", "tsne", "pca"], *, points: int) -> Method:
    """The method that `wanted` comes to: auto takes what is installed and quick enough.

    Raises:
        ValueError: pacmap is asked for and not installed.
    """
    installed = find_spec("pacmap") is not None
    if wanted == "pacmap" and not installed:
        raise ValueError(
            "report.map=pacmap needs the package pacmap: pip install 'clusterlib[map]'"
        )
    if wanted != "auto":
        return wanted
    if installed:
        return "pacmap"
    return "tsne" if points <= TSNE_COMFORT else "pca"


def project(z_NP: NDArray[np.float32], *, method: Method, seed: int) -> NDArray[np.float32]:
    """Positions (N, 2), centred, finite float32.

    PaCMAP (Wang et al., "Understanding How Dimension Reduction Tools Work", 2021), t-SNE (van der
    Maaten, "Accelerating t-SNE using Tree-Based Algorithms", 2014) or the first two principal
    axes; fewer than 16 points always get the latter.
    """
    if len(z_NP) < 16 or method == "pca":
        xy_N2 = _pca(z_NP)
    elif method == "tsne":
        from sklearn.manifold import TSNE

        model = TSNE(
            init="pca", random_state=seed, perplexity=min(30.0, (len(z_NP) - 1) / 3), n_jobs=-1
        )
        xy_N2 = model.fit_transform(z_NP)
    else:
        import pacmap

        # It says what it is asked to do: the same answer for the same seed.
        logging.getLogger("pacmap").setLevel(logging.ERROR)
        model = pacmap.PaCMAP(
            n_neighbors=min(10, len(z_NP) // 4), random_state=seed, apply_pca=False
        )
        xy_N2 = model.fit_transform(z_NP)
    xy_N2 = np.nan_to_num(np.asarray(xy_N2, dtype=np.float32))
    return np.ascontiguousarray(xy_N2 - xy_N2.mean(axis=0))


def _pca(z_NP: NDArray[np.float32]) -> NDArray[np.float64]:
    centred_NP = z_NP.astype(np.float64) - z_NP.mean(axis=0, dtype=np.float64)
    _, axes_PP = np.linalg.eigh(centred_NP.T @ centred_NP)
    axes_P2 = axes_PP[:, ::-1][:, :2]
    xy_N2 = np.zeros((len(z_NP), 2))
    xy_N2[:, : axes_P2.shape[1]] = centred_NP @ axes_P2
    return xy_N2
