"""Render the page from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clusterlib.report.curves import curve_svg


@dataclass(frozen=True)
class Page:
    """Everything the report shows."""

    title: str
    run_id: str
    fit_id: str
    run_uri: str
    source: str
    encoder: str
    rows: int
    embedded: int
    rejected_by_code: dict[str, int]
    code_meanings: dict[str, str]
    rejected_examples: Sequence[dict[str, Any]]
    k: int
    reason: str
    agreement: dict[str, float] | None
    sweep: Sequence[dict[str, Any]]
    clusters: Sequence[dict[str, Any]]  # rows of clusters.parquet, largest first
    thumbnail_size: int
    settings: dict[str, Any]
    version: str
    pick_kinds: Sequence[str] = field(default=("nearest", "boundary", "random"))


def render(page: Page) -> str:
    """The page as HTML text; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("clusterlib.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    ks = [row["k"] for row in page.sweep]
    curves = [
        curve_svg(
            ks,
            [row["silhouette"] for row in page.sweep],
            chosen=page.k,
            title="Silhouette",
            y_label="mean silhouette",
        ),
        curve_svg(
            ks,
            [row["inertia"] for row in page.sweep],
            chosen=page.k,
            title="Inertia (elbow)",
            y_label="sum of squared distances",
        ),
    ]
    largest = max((row["size"] for row in page.clusters), default=1)
    return environment.get_template("page.html.j2").render(
        page=page,
        curves=[Markup(curve) for curve in curves],  # noqa: S704 - made above from numbers
        largest=max(largest, 1),
    )
