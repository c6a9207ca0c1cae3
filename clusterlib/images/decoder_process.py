"""The child process of `guard.GuardedDecoder`: decodes what comes in until its input ends."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import sys
import time
from typing import IO, Any

from clusterlib.images.codes import Rejection
from clusterlib.images.decode import HEIF, Geometry, Limits, decode, register_heif
from clusterlib.images.guard import LENGTH, read_message, write_message

_PAGE = resource.getpagesize()


def main() -> None:
    """Read the settings, say that they have come, then answer every image."""
    source = sys.stdin.buffer
    # The pipe belongs to the answers alone, whatever a library may print.
    target = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, sys.stdout.fileno())
    first = read_message(source)
    if first is None:
        return
    setup: dict[str, Any] = json.loads(first)
    geometry, limits = _geometry(setup["geometry"]), _limits(setup["limits"])
    _limit_memory(setup["max_mb"])
    write_message(target)
    while (data := read_message(source)) is not None:
        # If the parent dies while an image hangs here, nobody else would end this process. The
        # watchdog is a thread in C, so that it runs whatever the decoder holds.
        faulthandler.dump_traceback_later(3 * setup["max_seconds"], exit=True)
        _answer(target, data, geometry, limits)
        faulthandler.cancel_dump_traceback_later()


def _answer(target: IO[bytes], data: bytes, geometry: Geometry, limits: Limits) -> None:
    started = time.process_time()
    result = decode(data, geometry=geometry, limits=limits)
    head: dict[str, Any]
    pixels = memoryview(b"")
    if isinstance(result, Rejection):
        head = {"code": result.code, "detail": result.detail}
    else:
        head = {"width": result.width, "height": result.height, "n_frames": result.n_frames}
        pixels = result.pixels_HWC.data.cast("B")
    head["cpu_seconds"] = time.process_time() - started
    text = json.dumps(head).encode()
    write_message(target, LENGTH.pack(len(text)), text, pixels)


def _geometry(found: dict[str, Any]) -> Geometry:
    resize, crop = found["resize"], found["crop"]
    return Geometry(
        resize=tuple(resize) if isinstance(resize, list) else resize,
        crop=tuple(crop) if crop else None,
        interpolation=found["interpolation"],
        background=found["background"],
        spare=found["spare"],
    )


def _limits(found: dict[str, Any]) -> Limits:
    limits = Limits(max_pixels=found["max_pixels"], formats=tuple(found["formats"]))
    if HEIF in limits.formats:
        register_heif()  # before the memory is limited, and so that its absence is seen at once
    return limits


def _limit_memory(max_mb: int) -> None:
    """Let this process grow by `max_mb` MiB; only where its present size can be told."""
    try:
        with open("/proc/self/statm") as handle:
            size = int(handle.read().split()[0]) * _PAGE
    except OSError:
        return
    limit = size + max_mb * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main()
