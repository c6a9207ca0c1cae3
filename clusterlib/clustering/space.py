"""The space that embeddings are clustered in: centred, PCA, optionally whitened, unit rows.

N: rows, D: embedding dimensions, P: kept dimensions.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Scaling = Literal["whitened", "partial", "centered"]
# Each kept axis is divided by this power of its standard deviation.
POWERS: Final[dict[Scaling, float]] = {"whitened": 1.0, "partial": 0.75, "centered": 0.0}

_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Space:
    """An affine map followed by scaling every row to unit length.

    `projection_DP` has the principal axes as columns, divided by a power of their standard
    deviation: 1 when the space is whitened. `shares_D` is the share of the variance on every axis,
    those that are not kept included.
    """

    mean_D: NDArray[np.float32]
    projection_DP: NDArray[np.float32]
    shares_D: NDArray[np.float64]

    @property
    def explained_P(self) -> NDArray[np.float64]:
        """Each kept axis's share of the variance."""
        return self.shares_D[: self.projection_DP.shape[1]]

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

    def rescaled(self, z_NP: NDArray[np.float32], *, power: float) -> NDArray[np.float32]:
        """Unit rows of this space as if its axes were divided by another power of their deviation.

        Each row's length is lost, but only the direction counts.
        """
        divisors_P = np.maximum(self.explained_P, 1e-30) ** (power / 2)
        lengths_P = np.linalg.norm(self.projection_DP, axis=0)
        scale_P = 1 / np.maximum(divisors_P * lengths_P, 1e-30)
        scaled_NP = z_NP * (scale_P / scale_P.max())
        norm_N1 = np.maximum(np.linalg.norm(scaled_NP, axis=1, keepdims=True), 1e-12)
        return np.ascontiguousarray(scaled_NP / norm_N1, dtype=np.float32)


@dataclass
class Moments:
    """Sums over rows of x - o and of its products, which merge by addition.

    The origin o is any point near the mean, the same for all that are merged; it keeps the digits
    that sums about zero would lose.
    """

    rows: int
    sums_D: NDArray[np.float64]
    products_DD: NDArray[np.float64]

    def add(self, other: Moments) -> None:
        """Take in the moments of other rows."""
        self.rows += other.rows
        self.sums_D += other.sums_D
        self.products_DD += other.products_DD

    def to_bytes(self) -> bytes:
        """For the way from a worker to the driver."""
        buffer = io.BytesIO()
        np.savez(buffer, rows=self.rows, sums=self.sums_D, products=self.products_DD)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Moments:
        """What `to_bytes` packed."""
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
        return cls(int(arrays["rows"]), arrays["sums"], arrays["products"])


def moments(x_ND: NDArray[np.floating], *, origin_D: NDArray[np.float64]) -> Moments:
    """The moments of rows (N, D) about `origin_D`, in float64."""
    dim = len(origin_D)
    result = Moments(0, np.zeros(dim), np.zeros((dim, dim)))
    for start in range(0, len(x_ND), _BLOCK_ROWS):  # no second copy of the rows in float64
        moved_ND = x_ND[start : start + _BLOCK_ROWS] - origin_D
        result.add(Moments(len(moved_ND), moved_ND.sum(axis=0), moved_ND.T @ moved_ND))
    return result


def fit_space(x_ND: NDArray[np.float32], *, dim: int | float, scaling: Scaling) -> Space:
    """Fit the space on rows (N, D) float32.

    `dim` axes are kept, or as many as hold that share of the variance when it is below 1; fewer
    when the data have fewer: axes below a millionth of the largest variance carry rounding noise
    only.

    Raises:
        ValueError: there are no rows.
    """
    if len(x_ND) == 0:
        raise ValueError("a space needs at least one row, got 0")
    origin_D = x_ND.mean(axis=0, dtype=np.float64)
    found = moments(x_ND, origin_D=origin_D)
    return space_of(found, origin_D=origin_D, dim=dim, scaling=scaling)


def space_of(
    found: Moments, *, origin_D: NDArray[np.float64], dim: int | float, scaling: Scaling
) -> Space:
    """The space of rows with these moments about `origin_D`; else as `fit_space`."""
    if found.rows == 0:
        raise ValueError("a space needs at least one row, got 0")
    shift_D = found.sums_D / found.rows
    covariance_DD = found.products_DD / found.rows - np.outer(shift_D, shift_D)
    variance_D, axes_DD = np.linalg.eigh(covariance_DD)
    variance_D, axes_DD = variance_D[::-1], axes_DD[:, ::-1]
    shares_D = variance_D.clip(0) / max(float(variance_D.clip(0).sum()), 1e-30)
    significant = int((variance_D > 1e-6 * max(variance_D[0], 1e-30)).sum())
    wanted = int(dim) if dim >= 1 else int(np.searchsorted(np.cumsum(shares_D), dim - 1e-9)) + 1
    kept = max(1, min(wanted, significant))
    axes_DP = axes_DD[:, :kept]
    # The sign of an eigenvector is arbitrary; fix it, so that equal data give equal spaces.
    signs_P = np.sign(axes_DP[np.abs(axes_DP).argmax(axis=0), np.arange(kept)])
    axes_DP = axes_DP * signs_P
    axes_DP = axes_DP / np.maximum(variance_D[:kept], 1e-30) ** (POWERS[scaling] / 2)
    return Space(
        mean_D=(origin_D + shift_D).astype(np.float32),
        projection_DP=axes_DP.astype(np.float32),
        shares_D=shares_D,
    )
