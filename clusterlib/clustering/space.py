"""The space that embeddings are clustered in: centred, PCA, optionally whitened, unit rows.

N: rows, D: embedding dimensions, P: kept dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Scaling = Literal["whitened", "partial", "centered"]
# Each kept axis is divided by this power of its standard deviation.
_POWERS: Final[dict[Scaling, float]] = {"whitened": 1.0, "partial": 0.75, "centered": 0.0}

_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Space:
    """An affine map followed by scaling every row to unit length.

    `projection_DP` has the principal axes as columns, divided by a power of their standard
    deviation: 1 when the space is whitened. `explained_P` is each axis's share of the variance.
    """

    mean_D: NDArray[np.float32]
    projection_DP: NDArray[np.float32]
    explained_P: NDArray[np.float64]

    def transform(self, x_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows of `x_ND` (N, D) in this space: float32 (N, P), each of unit length.

        A row that falls on the mean has no direction; it becomes the first axis.
        """
        z_NP = (x_ND.astype(np.float32, copy=False) - self.mean_D) @ self.projection_DP
        norm_N1 = np.linalg.norm(z_NP, axis=1, keepdims=True)
        flat_N = norm_N1[:, 0] < 1e-12
        z_NP = z_NP / np.maximum(norm_N1, 1e-12)
        z_NP[flat_N] = 0
        z_NP[flat_N, 0] = 1
        return np.ascontiguousarray(z_NP, dtype=np.float32)


def fit_space(x_ND: NDArray[np.float32], *, dim: int, scaling: Scaling) -> Space:
    """Fit the space on rows (N, D) float32.

    At most `dim` axes are kept, fewer when the data have fewer: axes below a millionth of the
    largest variance carry rounding noise only.

    Raises:
        ValueError: there are no rows.
    """
    if len(x_ND) == 0:
        raise ValueError("a space needs at least one row, got 0")
    mean_D = x_ND.mean(axis=0, dtype=np.float64)
    covariance_DD = np.zeros((x_ND.shape[1], x_ND.shape[1]))
    for start in range(0, len(x_ND), _BLOCK_ROWS):  # no second copy of the sample in float64
        centred_ND = x_ND[start : start + _BLOCK_ROWS] - mean_D
        covariance_DD += centred_ND.T @ centred_ND
    covariance_DD /= len(x_ND)
    variance_D, axes_DD = np.linalg.eigh(covariance_DD)
    variance_D, axes_DD = variance_D[::-1], axes_DD[:, ::-1]
    significant = int((variance_D > 1e-6 * max(variance_D[0], 1e-30)).sum())
    kept = max(1, min(dim, significant))
    axes_DP = axes_DD[:, :kept]
    # The sign of an eigenvector is arbitrary; fix it, so that equal data give equal spaces.
    signs_P = np.sign(axes_DP[np.abs(axes_DP).argmax(axis=0), np.arange(kept)])
    axes_DP = axes_DP * signs_P
    axes_DP = axes_DP / np.maximum(variance_D[:kept], 1e-30) ** (_POWERS[scaling] / 2)
    total = max(float(variance_D.clip(0).sum()), 1e-30)
    return Space(
        mean_D=mean_D.astype(np.float32),
        projection_DP=axes_DP.astype(np.float32),
        explained_P=variance_D[:kept].clip(0) / total,
    )
