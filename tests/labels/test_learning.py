"""Answers spread, the probe learns from them, and its confidence means something."""

from __future__ import annotations

import numpy as np
import pytest

from clusterlib.labels.diffusion import (
    MAX_LANDMARKS,
    choose_images,
    fit_diffusion,
    spread_answers,
)
from clusterlib.labels.learn import UNKNOWN, Evidence, learn
from clusterlib.labels.probe import Probe, calibrated, fit_probe, probe_bytes, read_probe

NONE = np.empty(0, dtype=np.intp)


def blobs(sizes: tuple[int, ...], *, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centers = np.eye(len(sizes), 8)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    z = centers[truth] + noise * rng.standard_normal((len(truth), 8))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32), truth


def test_the_first_questions_reach_every_blob_the_largest_first() -> None:
    z, truth = blobs((200, 60, 20), noise=0.1)
    chosen = choose_images(fit_diffusion(z), 3, answered=NONE)
    assert truth[chosen].tolist() == [0, 1, 2]
    rest = choose_images(fit_diffusion(z), 1, answered=chosen[:2])
    assert truth[rest].tolist() == [2]


def test_no_image_is_asked_about_twice() -> None:
    z, _ = blobs((6, 4), noise=0.1)
    chosen = choose_images(fit_diffusion(z), 99, answered=np.array([3]))
    assert sorted([3, *chosen.tolist()]) == list(range(10))


def test_one_answer_a_blob_labels_all_of_it_whatever_its_size() -> None:
    z, truth = blobs((300, 30, 10), noise=0.2)
    answered = np.array([0, 1, 2, 300, 330])  # three answers for the largest
    shares = spread_answers(fit_diffusion(z), answered, truth[answered], class_count=3)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert (shares.argmax(axis=1) == truth).mean() > 0.97
    assert shares[330].tolist() == [0, 0, 1]


def test_identical_and_single_rows_are_no_trouble() -> None:
    for rows in (1, 2, 30):
        z = np.tile(np.eye(1, 4, dtype=np.float32), (rows, 1))
        shares = spread_answers(fit_diffusion(z), np.array([0]), np.array([1]), class_count=2)
        assert (shares.argmax(axis=1) == 1).all()


def test_too_many_landmarks_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        fit_diffusion(np.zeros((MAX_LANDMARKS + 1, 2), dtype=np.float32))


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_the_probe_separates_what_is_separable(classes: int) -> None:
    z, truth = blobs((40,) * classes, noise=0.1)
    names = tuple("abcde")  # class e is never seen
    probe = fit_probe(z, truth, classes=names)
    p = probe.probabilities(z)
    assert (p.argmax(axis=1) == truth).all()
    assert p[:, 4].max() < 1e-6
    again = read_probe(probe_bytes(probe))
    np.testing.assert_array_equal(again.probabilities(z), p)
    assert again.classes == names


def test_calibration_cools_what_is_too_sure() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400)
    said = np.where(rng.random(400) < 0.7, truth, 1 - truth)  # right in 70 %, sure in 99 %
    held = np.where(np.eye(2)[said] == 1, 0.99, 0.01)
    probe = Probe(("a", "b"), np.zeros((2, 2), np.float32), np.zeros(2, np.float32))
    cooled = calibrated(probe, held, truth)
    assert cooled.temperature > 3
    odds = (0.99 / 0.01) ** (1 / cooled.temperature)
    assert odds / (1 + odds) == pytest.approx(0.7, abs=0.05)
    assert calibrated(probe, held[:5], truth[:5]) is probe


def test_learning_reports_what_it_did_not_see() -> None:
    z, truth = blobs((80, 80, 80), noise=0.35)
    said = np.full(240, UNKNOWN)
    said[::4] = truth[::4]
    unnamed = np.full(240, UNKNOWN)
    found = learn(Evidence(z, said, unnamed, ("a", "b", "c")), fit_diffusion(z), seed=0)
    right = (found.probe.probabilities(z).argmax(axis=1) == truth).mean()
    assert found.checked == 60
    assert found.accuracy == pytest.approx(right, abs=0.12)
    shuffled = said.copy()
    shuffled[::4] = np.random.default_rng(1).permutation(said[::4])
    noise = learn(Evidence(z, shuffled, unnamed, ("a", "b", "c")), fit_diffusion(z), seed=0)
    assert noise.accuracy is not None
    assert noise.accuracy < 0.6  # it cannot know: nothing of what it is judged by is learnt from


def test_answers_of_people_overrule_names_of_clusters() -> None:
    z, truth = blobs((50, 50), noise=0.1)
    named = np.zeros(100, dtype=np.intp)  # both blobs in a cluster called a
    said = np.where(truth == 1, 1, UNKNOWN)
    found = learn(Evidence(z, said, named, ("a", "b")), fit_diffusion(z), seed=0)
    assert (found.probe.probabilities(z).argmax(axis=1) == truth).all()
