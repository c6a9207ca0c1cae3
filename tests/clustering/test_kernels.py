"""faiss runs on kernels that fit, and says when it does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from clusterlib.clustering.kernels import KernelReport, check_kernels

PROBE = """
import os
from clusterlib.clustering.kernels import check_kernels
report = check_kernels()
assert os.environ.get("OPENBLAS_CORETYPE") == {expected!r}, os.environ.get("OPENBLAS_CORETYPE")
print(report.architecture)
"""


def architecture(**environment: str) -> str:
    clean = {key: text for key, text in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    code = PROBE.format(expected=environment.get("OPENBLAS_CORETYPE"))
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_kernels_are_chosen_for_faiss_alone_unless_the_user_has_chosen() -> None:
    assert architecture() not in ("Barcelona", "Prescott", "Nehalem")
    assert architecture(OPENBLAS_CORETYPE="Nehalem") in ("Nehalem", "unknown")


def test_the_result_is_checked() -> None:
    assert check_kernels().share > 0


@pytest.mark.parametrize(
    ("report", "warns"),
    [
        (KernelReport("Barcelona", 0.2), True),
        (KernelReport("SkylakeX", 0.4), False),  # a busy machine
        (KernelReport("Barcelona", 0.9), False),
    ],
)
def test_slow_old_kernels_are_named(report: KernelReport, warns: bool) -> None:
    assert (report.warning is not None) is warns
    if warns:
        assert "Barcelona" in str(report.warning)
        assert "OPENBLAS_CORETYPE" in str(report.warning)
