"""What a person sees while a stage runs: a live line in a terminal, one line a stage without."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)


class StageProgress:
    """Progress of one stage; `advance` it, and `note` what should stand in its last line."""

    def __init__(self, name: str, live: Progress | None) -> None:
        self.name = name
        self.started = self._working = time.monotonic()
        self._live = live
        self._task = live.add_task(name, total=None, words="") if live else None
        self._done = 0
        self._resumed = 0
        self._last = (self.started, 0)
        self._first: tuple[float, int] | None = None  # when something was done, and how much
        self.notes: list[str] = []

    def total(self, rows: int, *, done: int = 0) -> None:
        """The amount of work, and how much of it an earlier run has done."""
        self._done = self._resumed = done
        if self._live and self._task is not None:
            self._live.update(self._task, total=rows, completed=done)

    def begin(self) -> None:
        """Start the clock of the rate: what came before was preparation."""
        self._working = time.monotonic()

    def advance(self, rows: int, *, words: str = "") -> None:
        """`rows` more are done."""
        self.reach(self._done + rows, words=words)

    def reach(self, done: int, *, words: str = "") -> None:
        """`done` rows are done altogether."""
        self._done = done
        self._last = (time.monotonic(), done)
        self._first = self._first or self._last
        if self._live and self._task is not None:
            rate = f"{self.rate:,.0f}/s"
            text = f"{rate} {words}".strip()
            self._live.update(self._task, completed=self._done, words=text)

    def note(self, text: str) -> None:
        """Words for the stage's last line."""
        self.notes.append(text)

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        return (self._done - self._resumed) / max(time.monotonic() - self._working, 1e-9)

    @property
    def steady_rate(self) -> float | None:
        """Rows a second from the first news to the last, without start-up; None if that is one."""
        if self._first is None or self._first == self._last:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])


class Screen:
    """Prints to standard output; live only when that is a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """One line for a person."""
        self._console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[StageProgress]:
        """Show a stage's progress; print its last line when it ends well."""
        live = None
        if self._console.is_terminal:
            live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[words]}"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            live.start()
        progress = StageProgress(name, live)
        try:
            yield progress
        finally:
            if live:
                live.stop()
        seconds = time.monotonic() - progress.started
        self.say(f"{name:<16} {seconds:6.1f} s  {', '.join(progress.notes)}")
