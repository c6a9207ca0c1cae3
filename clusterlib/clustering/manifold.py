"""Unit rows in which clusters of any shape are compact, from the neighbors in several spaces.

Which scaling of the principal axes has the better neighbors differs from set to set and is not to
be seen without labels. So the graph is the mean of the graphs of all three, and a layout of it is
what k-means gets.
N: rows, P: dimensions of the space, E: dimensions of the layout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clusterlib.clustering.kmeans import normalized
from clusterlib.clustering.layout import fuzzy_graph, layout
from clusterlib.clustering.space import POWERS, Space

# The layout lies flat on the pole of a sphere of this many times its own radius.
_SPHERE = 3.0


def manifold_rows(
    z_NP: NDArray[np.float32], *, space: Space | None, seed: int
) -> NDArray[np.float32]:
    """Unit rows (N, E + 1) float32 of unit rows (N, P) in `space`; without it, of their own graph.

    Raises:
        ValueError: fewer than 4 rows.
    """
    if len(z_NP) < 4:
        raise ValueError(f"a manifold needs at least 4 rows, got {len(z_NP)}")
    views = [space.rescaled(z_NP, power=p) for p in POWERS.values()] if space else [z_NP]
    graph_NN = fuzzy_graph(views[0])
    for view_NP in views[1:]:
        graph_NN = graph_NN + fuzzy_graph(view_NP)
    return on_sphere(layout(graph_NN / len(views), seed=seed))


def on_sphere(x_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit rows (N, E + 1) whose distances are about those of `x_NE`, up to their scale.

    So that what works on unit rows serves for places in a plane.
    """
    x_NE = x_NE - x_NE.mean(axis=0)
    radius = max(float(np.sqrt((x_NE**2).sum(axis=1).mean())), 1e-6)
    height_N1 = np.full((len(x_NE), 1), _SPHERE * radius)
    return normalized(np.concatenate([x_NE, height_N1], axis=1))
