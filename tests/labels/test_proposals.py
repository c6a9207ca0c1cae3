"""Proposed names tell a cluster from the others, and vocabularies are read or refused."""

from __future__ import annotations

import numpy as np
import pytest

from clusterlib.errors import InputError
from clusterlib.labels.proposals import name_vectors, phrases, propose, read_vocabulary


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def test_a_name_near_everything_is_proposed_for_nothing() -> None:
    rng = np.random.default_rng(0)
    cats, dogs, noise = (
        unit(np.array([4.0, *side]) + 0.1 * rng.standard_normal((n, 3)))
        for side, n in (((2, 0), 30), ((0, 2), 20), ((-1, -1), 5))
    )
    names = ("picture", "cat", "dog")
    names_TD = unit(np.array([[4.0, 0.3, 0.3], [0.5, 1, 0], [0.5, 0, 1]]))
    x_ND = np.concatenate([cats, dogs, noise])
    ids_N = np.repeat([0, 1, 2], [30, 20, 5])
    sums_CD = np.stack([x_ND[ids_N == c].sum(axis=0) for c in range(3)])
    sums_CD = np.concatenate([sums_CD[:2], np.zeros((1, 3))])  # an empty cluster, 2
    found = propose(
        sums_CD,
        np.array([30, 20, 0]),
        noise.sum(axis=0),
        5,
        names=names,
        names_TD=names_TD,
        count=2,
    )
    assert [p.name for p in found[0]][0] == "cat"
    assert [p.name for p in found[1]][0] == "dog"
    assert found[2] == []
    cosines_NT = x_ND @ names_TD.T
    assert cosines_NT[ids_N == 0].mean(axis=0).argmax() == 0  # the nearest name alone would not do
    first = found[0][0]
    assert first.inside == pytest.approx(cosines_NT[ids_N == 0, 1].mean(), abs=1e-4)
    assert first.outside == pytest.approx(cosines_NT[ids_N != 0, 1].mean(), abs=1e-4)
    assert first.score == pytest.approx(first.inside - first.outside, abs=1e-4)


def test_prompts_are_averaged_for_each_name() -> None:
    assert phrases(["a", "b"], ["{}", "the {}."]) == ["a", "the a.", "b", "the b."]
    texts_XD = unit(np.array([[1.0, 0], [0, 1], [1, 0], [1, 0]]))
    np.testing.assert_allclose(
        name_vectors(texts_XD, prompts=2), [[2**-0.5, 2**-0.5], [1, 0]], atol=1e-6
    )


def test_a_vocabulary_is_read_once_a_name() -> None:
    data = "\ufeffshoe\r\n\n  red shoe \nshoe\nnaïve 日本\n".encode()
    assert read_vocabulary(data, where="v") == ("shoe", "red shoe", "naïve 日本")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\x00", "v is not UTF-8"),
        (b"\n \n", "v holds no name"),
        (b"x" * 201, "a line of 201 characters"),
        ("\n".join(map(str, range(50_001))).encode(), "has 50,001 names"),
    ],
)
def test_what_is_no_vocabulary_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_vocabulary(data, where="v")
