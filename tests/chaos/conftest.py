"""Figures that the harness measures, and the page that keeps them."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from datetime import date
from importlib import metadata
from pathlib import Path

import pytest

from tests.chaos.proxy import FaultProxy, in_front_of

Record = Callable[[str, str, str], None]

_HEAD = """# What the fault harness has measured

Written by `make test-chaos` on {when}: {cores} cores, {machine}, Python {python}, Ray {ray}.

| promise | target | measured |
|---|---|---|
"""


@pytest.fixture(scope="session")
def record() -> Iterator[Record]:
    """`record(promise, target, figure)`: a line of the page that CHAOS_RESULTS names."""
    measured: dict[str, str] = {}

    def add(promise: str, target: str, figure: str) -> None:
        measured[promise] = f"| {promise} | {target} | {figure} |\n"

    yield add
    page = os.environ.get("CHAOS_RESULTS")
    if not page or not measured:
        return
    # A part of the harness renews its own lines and keeps the others.
    known = Path(page).read_text().splitlines(keepends=True) if Path(page).exists() else []
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in known if line[:2] == "| "}
    rows.pop("promise", None)
    head = _HEAD.format(
        when=date.today().isoformat(),
        cores=os.cpu_count(),
        machine=platform.machine(),
        python=platform.python_version(),
        ray=metadata.version("ray"),
    )
    Path(page).write_text(head + "".join((rows | measured).values()))


@pytest.fixture
def proxy(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Every request to the S3 server goes through it, also those of jobs."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    with in_front_of(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()
