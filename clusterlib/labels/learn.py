"""From answers to a classifier: answers spread over landmarks, and a linear probe learns from them.

L: landmarks, P: dimensions, C: classes, A: answered landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clusterlib.labels.diffusion import Diffusion, spread_answers
from clusterlib.labels.probe import MIN_CALIBRATION_ROWS, Probe, calibrated, fit_probe

FOLDS = 5
UNKNOWN = -1


@dataclass(frozen=True)
class Evidence:
    """Landmarks and what is known of them.

    `said_L` is the class that a person gave the image, `named_L` the class of its pure cluster;
    both UNKNOWN where there is none.
    """

    z_LP: NDArray[np.float32]
    said_L: NDArray[np.intp]
    named_L: NDArray[np.intp]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Learned:
    """The probe, and how right it was on answers that it had not seen; None where too few."""

    probe: Probe
    checked: int
    accuracy: float | None


def learn(evidence: Evidence, diffusion: Diffusion, *, seed: int) -> Learned:
    """Fit the probe on everything; calibrate and judge it by cross-validation over the answers.

    Raises:
        ValueError: nothing is known of any landmark.
    """
    probe = fit_on_answers(evidence, diffusion, evidence.said_L)
    answered = np.flatnonzero(evidence.said_L != UNKNOWN)
    if len(answered) < MIN_CALIBRATION_ROWS:
        return Learned(probe, len(answered), None)
    fold_A = np.random.default_rng(seed).permutation(len(answered)) % FOLDS
    held_AC = np.zeros((len(answered), len(evidence.classes)), dtype=np.float32)
    for fold in range(FOLDS):
        hidden = answered[fold_A == fold]
        said_L = evidence.said_L.copy()
        said_L[hidden] = UNKNOWN
        held = fit_on_answers(evidence, diffusion, said_L)
        held_AC[fold_A == fold] = held.probabilities(evidence.z_LP[hidden])
    truth_A = evidence.said_L[answered]
    accuracy = float((held_AC.argmax(axis=1) == truth_A).mean())
    return Learned(calibrated(probe, held_AC, truth_A), len(answered), accuracy)


def fit_on_answers(evidence: Evidence, diffusion: Diffusion, said_L: NDArray[np.intp]) -> Probe:
    """A probe, not calibrated, on named landmarks and on the answers `said_L` instead of its own.

    Where nothing is named, answers are spread over all landmarks first.

    Raises:
        ValueError: nothing is known of any landmark.
    """
    answered = np.flatnonzero(said_L != UNKNOWN)
    if (evidence.named_L != UNKNOWN).any():
        classes_L = np.where(said_L != UNKNOWN, said_L, evidence.named_L)
        rows = np.flatnonzero(classes_L != UNKNOWN)
        return fit_probe(evidence.z_LP[rows], classes_L[rows], classes=evidence.classes)
    shares_LC = spread_answers(
        diffusion, answered, said_L[answered], class_count=len(evidence.classes)
    )
    # A landmark between two classes should teach less than one amid its own.
    return fit_probe(
        evidence.z_LP,
        shares_LC.argmax(axis=1),
        classes=evidence.classes,
        weights_N=shares_LC.max(axis=1) ** 2,
    )
