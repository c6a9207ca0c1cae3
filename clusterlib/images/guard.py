"""Decoding in a process of its own, which may crash, hang or run out of memory without harm.

A thread that hangs in C code cannot be stopped and a crash takes its process along, so the decoder
is a child process with a memory limit, fed through pipes, killed when it is late and started anew.
Messages are a four-byte length and that many bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import DecodedImage, Geometry, Limits

LENGTH = struct.Struct("<I")
# Once more, since a busy machine or a neighbour may have been the cause.
ATTEMPTS = 2
_START_SECONDS = 120.0
_READ_BYTES = 2**20
_CHILD_ENV = {
    # More threads would only reserve memory that counts against the limit.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Pixels of the last picture are kept for the next one instead of being given back and fetched
    # anew, page by page: measured, half the time of decoding (glibc only).
    "MALLOC_TOP_PAD_": str(64 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
}


@dataclass(frozen=True)
class GuardLimits:
    """What decoding one image may take."""

    max_seconds: float
    max_mb: int


@dataclass(frozen=True)
class Decoded:
    """The outcome for one image, after how many attempts, and the CPU time of the last one."""

    result: DecodedImage | Rejection
    attempts: int
    cpu_seconds: float = 0.0


class GuardedDecoder:
    """`images.decode.decode` in a killable child process; one image at a time.

    Args:
        geometry: Size of the decoded picture.
        limits: What is refused before decoding.
        guard: What decoding may take.

    Raises:
        RuntimeError: the child process does not start.
    """

    def __init__(self, *, geometry: Geometry, limits: Limits, guard: GuardLimits) -> None:
        self._setup = {"geometry": asdict(geometry), "limits": asdict(limits)} | asdict(guard)
        self._shape = (*geometry.output, 3)
        self._max_seconds = guard.max_seconds
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def decode(self, data: bytes) -> Decoded:
        """Decode one image; whatever it does to the decoder, there is an outcome."""
        with self._lock:
            code = "decoder_crash"
            for attempt in range(1, ATTEMPTS + 1):
                child = self._running_child()
                try:
                    answer = _exchange(child, data, seconds=self._max_seconds)
                    result, cpu_seconds = self._unpack(answer)
                    return Decoded(result, attempt, cpu_seconds)
                except TimeoutError:
                    code = "decoder_timeout"
                    child.kill()
                    self._kill()
                except (EOFError, OSError):
                    code = "decoder_oom" if self._kill() == -signal.SIGKILL else "decoder_crash"
            return Decoded(Rejection(code, f"{ATTEMPTS} attempts"), ATTEMPTS)

    def close(self) -> None:
        """End the child process."""
        with self._lock:
            self._kill()

    def _running_child(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "clusterlib.images.decoder_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | _CHILD_ENV | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
            try:
                _exchange(self._child, json.dumps(self._setup).encode(), seconds=_START_SECONDS)
            except (EOFError, OSError) as error:
                status = self._kill()
                raise RuntimeError(
                    f"the decoder process does not start (exit status {status}, {error!r}); raise "
                    "images.max_decode_mb or free memory on this node"
                ) from None
        return self._child

    def _kill(self) -> int | None:
        """End the child; returns its exit status, had it ended by itself."""
        child, self._child = self._child, None
        if child is None:
            return None
        with contextlib.suppress(subprocess.TimeoutExpired):
            # After the end of its output it is about to be gone, if it was not killed.
            child.wait(0.5)
        status = child.returncode
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        return status

    def _unpack(self, answer: bytearray) -> tuple[DecodedImage | Rejection, float]:
        (length,) = LENGTH.unpack_from(answer)
        head: dict[str, Any] = json.loads(bytes(answer[LENGTH.size : LENGTH.size + length]))
        cpu_seconds = head.pop("cpu_seconds")
        if "code" in head:
            return Rejection(**head), cpu_seconds
        pixels = np.frombuffer(answer, dtype=np.uint8, offset=LENGTH.size + length)
        return DecodedImage(pixels.reshape(self._shape), **head), cpu_seconds


def _exchange(child: subprocess.Popen[bytes], data: bytes, *, seconds: float) -> bytearray:
    """Send one message and wait for the answer.

    Raises:
        TimeoutError: it does not come in time.
        EOFError, OSError: the child is gone.
    """
    assert child.stdin is not None
    assert child.stdout is not None
    deadline = time.monotonic() + seconds
    out: list[memoryview] = [memoryview(LENGTH.pack(len(data))), memoryview(data)]
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe in (child.stdin, child.stdout):
            os.set_blocking(pipe.fileno(), False)
        selector.register(child.stdin, selectors.EVENT_WRITE)
        selector.register(child.stdout, selectors.EVENT_READ)
        while not _is_whole(answer):
            left = deadline - time.monotonic()
            ready = selector.select(max(left, 0.0))
            if not ready and left <= 0:
                raise TimeoutError
            for key, _ in ready:
                if key.fileobj is child.stdout:
                    part = os.read(key.fd, _READ_BYTES)
                    if not part:
                        raise EOFError
                    answer += part
                elif _send(key.fd, out):
                    selector.unregister(key.fileobj)
    return answer[LENGTH.size :]


def _send(fd: int, out: list[memoryview]) -> bool:
    """Write what the pipe takes; returns whether everything has gone."""
    with contextlib.suppress(BlockingIOError):
        while out:
            out[0] = out[0][os.write(fd, out[0]) :]
            if not out[0]:
                out.pop(0)
    return not out


def _is_whole(message: bytearray) -> bool:
    if len(message) < LENGTH.size:
        return False
    length: int = LENGTH.unpack_from(message)[0]
    return len(message) - LENGTH.size >= length


def read_message(stream: IO[bytes]) -> bytes | None:
    """One message of a blocking stream, or None at its end; the child's side."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def write_message(stream: IO[bytes], *parts: bytes | memoryview) -> None:
    """One message made of `parts`; the child's side."""
    stream.write(LENGTH.pack(sum(len(part) for part in parts)))
    for part in parts:
        stream.write(part)
    stream.flush()
