"""An installed Chromium, driven by Playwright; its own download is never used."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def executable() -> str | None:
    """Where Chromium or Chrome is, if it is installed; CHROMIUM names another."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield browser
        browser.close()


@contextlib.contextmanager
def open_page(
    browser: Any,
    report: Path,
    name: str = "index.html",
    *,
    width: int = 1280,
    scheme: str = "light",
    script: bool = True,
) -> Iterator[Any]:
    """A page of a report; on leaving, any complaint or any request outside the report fails."""
    height = {360: 740, 1280: 860, 2560: 1400}.get(width, 860)
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        java_script_enabled=script,
    )
    complaints: list[str] = []
    root = report.resolve().as_uri() + "/"
    page = context.new_page()
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(root) else complaints.append(f"request: {request.url}")
        ),
    )
    page.on(
        "requestfailed",
        lambda request: (
            # Leaving a page stops what it was still loading.
            None
            if "ERR_ABORTED" in str(request.failure)
            else complaints.append(f"failed: {request.url}")
        ),
    )
    page.goto(root + name)
    yield page
    context.close()
    assert complaints == []
