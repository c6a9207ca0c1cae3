"""Import faiss with BLAS kernels that fit the processor, and measure what it got.

The faiss-cpu wheel carries a copy of OpenBLAS from 2021, which takes newer processors for old ones
and then multiplies matrices at a fifth of their speed. NumPy's copy is recent: what it detects is
told to faiss's copy while that loads, unless the user has set OPENBLAS_CORETYPE.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController, threadpool_info

from clusterlib.errors import ConfigError

_CORETYPE = "OPENBLAS_CORETYPE"
# What NumPy's OpenBLAS detects -> kernels of the same instruction set that an old one knows too.
_OLD_NAMES = {
    "SkylakeX": "SkylakeX",
    "Cooperlake": "SkylakeX",
    "SapphireRapids": "SkylakeX",
    "Haswell": "Haswell",
    "Zen": "Haswell",
}
# SSE kernels: what an old OpenBLAS falls back to.
_OLD_KERNELS = {"Barcelona", "Prescott", "Nehalem", "Core2", "Penryn", "Dunnington", "Generic"}
_SLOW = 0.5
_SHARED_OPERATIONS = 2**28


@dataclass(frozen=True)
class KernelReport:
    """The kernels that faiss multiplies with, and its speed as a share of NumPy's."""

    architecture: str
    share: float

    @property
    def warning(self) -> str | None:
        """What to tell the user, or None when faiss is fast enough."""
        # A busy machine measures slow too, so that slowness alone proves nothing.
        if self.share >= _SLOW or self.architecture not in _OLD_KERNELS:
            return None
        return (
            f"faiss multiplies matrices at {self.share:.0%} of NumPy's speed with its "
            f"{self.architecture} kernels; set {_CORETYPE} to kernels that fit this processor"
        )


def load_faiss() -> Any:
    """The faiss module; its BLAS chooses its kernels once, when it is first imported here."""
    if "faiss" not in sys.modules and _CORETYPE not in os.environ:
        architectures = _blas_architectures("numpy")
        kernels = _OLD_NAMES.get(architectures[0]) if architectures else None
        if kernels is not None:
            os.environ[_CORETYPE] = kernels
            try:
                import faiss  # noqa: F401
            finally:
                del os.environ[_CORETYPE]  # for this one library, not for child processes
    import faiss

    return faiss


@functools.lru_cache(maxsize=1)
def check_kernels() -> KernelReport:
    """Compare faiss's nearest centroids with NumPy's, result and speed; about 0.1 s, once.

    Raises:
        ConfigError: faiss computes something else than NumPy, so its kernels do not fit.
    """
    faiss = load_faiss()
    rng = np.random.default_rng(0)
    x_ND = rng.standard_normal((4096, 256), dtype=np.float32)
    c_KD = rng.standard_normal((512, 256), dtype=np.float32)
    index = faiss.IndexFlatIP(256)
    index.add(c_KD)
    best_N = (x_ND @ c_KD.T).max(axis=1)
    found_N = index.search(x_ND, 1)[0][:, 0]
    architecture = (_blas_architectures("faiss") or ("unknown",))[0]
    if not np.allclose(best_N, found_N, rtol=1e-4, atol=1e-3):
        raise ConfigError(
            f"faiss's {architecture} kernels compute wrong results on this processor: set "
            f"{_CORETYPE} to others, such as Haswell"
        )
    numpy_seconds = min(_seconds(lambda: (x_ND @ c_KD.T).argmax(axis=1)) for _ in range(5))
    faiss_seconds = min(_seconds(lambda: index.search(x_ND, 1)) for _ in range(5))
    return KernelReport(architecture, numpy_seconds / faiss_seconds)


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _blas_architectures(package: str) -> list[str]:
    """Kernel names of the OpenBLAS copies that lie in a package's own folder of libraries."""
    return [
        str(info.get("architecture", "unknown"))
        for info in threadpool_info()
        if info.get("internal_api") == "openblas" and f"{os.sep}{package}" in info["filepath"]
    ]


def threads_for(operations: int) -> contextlib.AbstractContextManager[Any]:
    """A context with one BLAS and OpenMP thread when the work is too small to share.

    Threads that meet after every few microseconds of work wait for each other longer than they
    work, on a busy machine a hundred times longer.
    """
    if operations >= _SHARED_OPERATIONS:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[Any] = _controller().limit(limits=1)
    return limits


@functools.lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    load_faiss()  # a controller knows the libraries that were there when it was made
    return ThreadpoolController()
