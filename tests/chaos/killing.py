"""Processes that are killed at their n-th operation on a folder, or while they run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Python's audit events for operations on files, and which argument is the path.
_EVENTS = {
    "open": 0,
    "os.rename": 0,
    "os.link": 1,
    "os.remove": 0,
    "os.mkdir": 0,
    "os.listdir": 0,
    "os.scandir": 0,
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(root: str, number: int) -> None:
    """Let this process be killed just before its `number`-th operation on files below `root`.

    A process killed before its n-th operation has done its (n-1)-th completely.
    """
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in _EVENTS and str(args[_EVENTS[event]]).startswith(root):
            seen += 1
            if seen == number:
                die()

    sys.addaudithook(hook)


def kill_in_write(number: int) -> None:
    """Let this process be killed in the middle of the `number`-th file that it writes."""
    seen = 0
    real = os.fsync

    def fsync(fd: int) -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            os.ftruncate(fd, os.fstat(fd).st_size // 2)
            die()
        real(fd)

    os.fsync = fsync


def tear_commit(number: int) -> None:
    """Let the `number`-th commit be torn as a power cut may do it, and this process end with it."""
    seen = 0
    real = os.link

    def link(source: str, target: str) -> None:
        nonlocal seen
        real(source, target)
        name = Path(target).name
        seen += name[0].isdigit() and name != "00000000.json"
        if seen == number:
            os.truncate(target, os.path.getsize(target) // 2)
            die()

    os.link = link  # type: ignore[assignment]


def in_child(work: Callable[[], None], *, prepare: Callable[[], None] = lambda: None) -> int:
    """Fork, run `prepare` and `work`; returns the child's pid, whose exit code is 0 or 1."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        prepare()
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - the parent must not run on in its child
        import traceback

        traceback.print_exc()
    os._exit(code)


def end_of(pid: int) -> int:
    """Wait for a child; its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
