"""The space has unit rows, and one variance for every axis when whitened."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from clusterlib.clustering.space import Moments, fit_space, moments, space_of

Scaling = Literal["whitened", "centered"]
SCALINGS: tuple[Scaling, ...] = ("whitened", "centered")


def embeddings(rows: int = 400, dim: int = 12, *, rank: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(3)
    scales = np.linspace(5, 0.2, rank or dim)
    x = rng.normal(size=(rows, rank or dim)) * scales @ rng.normal(size=(rank or dim, dim))
    return (x + 7).astype(np.float32)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_rows_have_unit_length(scaling: Scaling) -> None:
    x = embeddings()
    z = fit_space(x, dim=5, scaling=scaling).transform(x)
    assert (z.dtype, z.shape) == (np.float32, (400, 5))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)


def test_whitening_gives_every_axis_the_same_variance() -> None:
    x = embeddings()
    space = fit_space(x, dim=8, scaling="whitened")
    projected = (x - space.mean_D) @ space.projection_DP
    np.testing.assert_allclose(np.cov(projected.T, bias=True), np.eye(8), atol=2e-3)


def test_centering_keeps_distances() -> None:
    x = embeddings()
    space = fit_space(x, dim=12, scaling="centered")
    projected = (x - space.mean_D) @ space.projection_DP
    np.testing.assert_allclose(
        np.linalg.norm(projected, axis=1), np.linalg.norm(x - x.mean(axis=0), axis=1), rtol=1e-3
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_axes_come_by_falling_share_of_the_variance(scaling: Scaling) -> None:
    x = embeddings()
    shares = fit_space(x, dim=12, scaling=scaling).explained_P
    assert (np.diff(shares) <= 0).all()
    assert shares.sum() == pytest.approx(1)
    total = x.astype(np.float64).var(axis=0).sum()
    first = np.linalg.eigvalsh(np.cov(x.astype(np.float64).T, bias=True))[-1]
    assert shares[0] == pytest.approx(first / total, rel=1e-6)
    assert fit_space(x, dim=3, scaling=scaling).explained_P == pytest.approx(shares[:3])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_data_of_low_rank_get_fewer_axes(scaling: Scaling) -> None:
    x = embeddings(rank=3)
    space = fit_space(x, dim=10, scaling=scaling)
    assert space.projection_DP.shape == (12, 3)
    few = embeddings()[:4]
    assert fit_space(few, dim=10, scaling=scaling).projection_DP.shape[1] <= 3
    assert np.isfinite(space.transform(x)).all()


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("rows", [1, 2, 50])
def test_identical_rows_become_the_first_axis(scaling: Scaling, rows: int) -> None:
    x = np.tile(embeddings()[:1], (rows, 1))
    space = fit_space(x, dim=4, scaling=scaling)
    z = space.transform(x)
    np.testing.assert_array_equal(z, np.tile([[1.0]], (rows, 1)))
    elsewhere = space.transform(x + 1)
    assert np.isfinite(elsewhere).all()
    np.testing.assert_allclose(np.abs(elsewhere), 1, atol=1e-5)


def test_a_row_on_the_mean_becomes_the_first_axis() -> None:
    x = np.array([[1, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 0]], dtype=np.float32)
    z = fit_space(x, dim=2, scaling="whitened").transform(x)
    assert z[-1].tolist() == [1, 0]


def test_equal_data_give_equal_spaces() -> None:
    x = embeddings()
    first, second = (fit_space(x.copy(), dim=6, scaling="whitened") for _ in range(2))
    np.testing.assert_array_equal(first.projection_DP, second.projection_DP)
    largest = np.abs(first.projection_DP).argmax(axis=0)
    assert (first.projection_DP[largest, np.arange(6)] > 0).all()


def test_the_order_of_rows_does_not_matter() -> None:
    x = embeddings()
    first = fit_space(x, dim=6, scaling="whitened")
    second = fit_space(x[::-1].copy(), dim=6, scaling="whitened")
    np.testing.assert_allclose(first.projection_DP, second.projection_DP, atol=1e-5)


def test_no_rows_have_no_space() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        fit_space(np.empty((0, 4), np.float32), dim=2, scaling="whitened")


def test_a_share_of_the_variance_says_how_many_axes() -> None:
    x = embeddings()
    shares = fit_space(x, dim=12, scaling="centered").explained_P
    for share in (0.3, 0.9, 0.999):
        space = fit_space(x, dim=share, scaling="centered")
        kept = len(space.explained_P)
        assert space.explained_P.sum() >= share - 1e-9
        assert shares[: kept - 1].sum() < share
        assert len(space.shares_D) == 12


def test_moments_of_parts_make_the_space_of_all_rows() -> None:
    x = embeddings()
    origin = x[:50].mean(axis=0, dtype=np.float64)
    total = moments(x[:70], origin_D=origin)
    total.add(Moments.from_bytes(moments(x[70:], origin_D=origin).to_bytes()))
    found = space_of(total, origin_D=origin, dim=6, scaling="partial")
    expected = fit_space(x, dim=6, scaling="partial")
    np.testing.assert_allclose(found.projection_DP, expected.projection_DP, atol=1e-5)
    np.testing.assert_allclose(found.mean_D, expected.mean_D, atol=1e-5)
    np.testing.assert_allclose(found.shares_D, expected.shares_D, atol=1e-9)
