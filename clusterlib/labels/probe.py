"""A linear probe: multinomial logistic regression on the rows of the clustering space, calibrated.

Guo et al., "On calibration of modern neural networks", 2017: one temperature for all logits.
N: rows, P: dimensions, C: classes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

REGULARIZATION = 10.0  # C of scikit-learn: inverse strength
MAX_ITERATIONS = 300
MIN_CALIBRATION_ROWS = 20
_TEMPERATURES = np.geomspace(0.05, 20, 121)


@dataclass(frozen=True)
class Probe:
    """Logits of a row z are z W + b; probabilities are the softmax of logits / temperature."""

    classes: tuple[str, ...]
    weights_PC: NDArray[np.float32]
    bias_C: NDArray[np.float32]
    temperature: float = 1.0

    def probabilities(self, z_NP: NDArray[np.float32]) -> NDArray[np.float32]:
        """Calibrated class probabilities, float32 (N, C)."""
        return _softmax(self._logits(z_NP) / self.temperature)

    def _logits(self, z_NP: NDArray[np.float32]) -> NDArray[np.float32]:
        logits_NC: NDArray[np.float32] = z_NP @ self.weights_PC + self.bias_C
        return logits_NC


def fit_probe(
    z_NP: NDArray[np.float32],
    classes_N: NDArray[np.intp],
    *,
    classes: tuple[str, ...],
    weights_N: NDArray[np.floating] | None = None,
) -> Probe:
    """Fit on labelled rows; classes that no row has get no probability.

    Raises:
        ValueError: there are no rows.
    """
    if len(z_NP) == 0:
        raise ValueError("a probe needs at least one labelled row")
    present = np.unique(classes_N)
    weights_PC = np.zeros((z_NP.shape[1], len(classes)), dtype=np.float32)
    bias_C = np.full(len(classes), -1e4, dtype=np.float32)
    bias_C[present] = 0
    if len(present) > 1:
        found = LogisticRegression(C=REGULARIZATION, max_iter=MAX_ITERATIONS)
        found.fit(z_NP, classes_N, sample_weight=weights_N)
        coefficients = (
            found.coef_.T
            if len(present) > 2
            else np.hstack([-found.coef_.T / 2, found.coef_.T / 2])
        )
        bias = found.intercept_ if len(present) > 2 else np.array([-0.5, 0.5]) * found.intercept_
        weights_PC[:, present], bias_C[present] = coefficients, bias
    return Probe(classes, weights_PC, bias_C)


def calibrated(
    probe: Probe, probabilities_NC: NDArray[np.floating], truth_N: NDArray[np.intp]
) -> Probe:
    """The probe with the temperature that makes held-out rows likeliest.

    Args:
        probe: Of temperature 1.
        probabilities_NC: What probes fitted without those rows held of them.
        truth_N: Their classes. Fewer than MIN_CALIBRATION_ROWS change nothing.
    """
    if len(truth_N) < MIN_CALIBRATION_ROWS:
        return probe
    logits_NC = np.log(np.maximum(probabilities_NC, 1e-9))
    rows = np.arange(len(truth_N))

    def loss(temperature: float) -> float:
        likely_N = _softmax(logits_NC / temperature)[rows, truth_N]
        return float(-np.log(np.maximum(likely_N, 1e-9)).mean())

    return replace(probe, temperature=float(min(_TEMPERATURES, key=loss)))


def probe_bytes(probe: Probe) -> bytes:
    """The probe as .npz, without pickle."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        classes=np.array(probe.classes, dtype=np.str_),
        weights=probe.weights_PC,
        bias=probe.bias_C,
        temperature=np.array(probe.temperature),
    )
    return buffer.getvalue()


def read_probe(data: bytes) -> Probe:
    """The probe in the bytes of a .npz file."""
    arrays = np.load(io.BytesIO(data), allow_pickle=False)
    classes = tuple(str(name) for name in arrays["classes"])
    return Probe(classes, arrays["weights"], arrays["bias"], float(arrays["temperature"]))


def _softmax(logits_NC: NDArray[np.floating]) -> NDArray[np.float32]:
    shifted_NC = logits_NC - logits_NC.max(axis=1, keepdims=True)
    odds_NC = np.exp(shifted_NC)
    shares_NC: NDArray[np.float32] = (odds_NC / odds_NC.sum(axis=1, keepdims=True)).astype(
        np.float32
    )
    return shares_NC
