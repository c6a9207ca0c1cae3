"""Encoders side by side on one sample: a table and two curves, one offline HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from clusterlib.report.curves import _figure, _text
from clusterlib.report.site import _environment

_COLORS = ("#3b6fd4", "#c2571a", "#2f8f5b", "#8a4fbf", "#c23a3a", "#6b7280", "#a58a1f", "#1f8fa5")


def encoders_page(results: Sequence[dict[str, Any]], *, title: str) -> str:
    """The page; `results` are those of stages.compare_encoders. Every value is escaped."""
    rows = [
        result | next(row for row in result["by_k"] if row["asked"] == result["k"])
        for result in results
    ]
    curves = [
        Markup(_curves(results, name, label))  # noqa: S704 - matplotlib's own SVG, texts escaped
        for name, label in (
            ("silhouette", "Silhouette"),
            ("stability", "Stability"),
            ("ami", "AMI"),
        )
        if any(row[name] is not None for result in results for row in result["by_k"])
    ]
    template = _environment().get_template("encoders.html.j2")
    return template.render(title=title, rows=rows, curves=curves)


def _curves(results: Sequence[dict[str, Any]], name: str, label: str) -> str:
    figure, axes = _figure(4.6, 3.0)
    for index, result in enumerate(results):
        points = [(row["k"], row[name]) for row in result["by_k"] if row[name] is not None]
        axes.plot(
            [k for k, _ in points],
            [value for _, value in points],
            marker="o",
            ms=3.5,
            color=_COLORS[index % len(_COLORS)],
            label=result["model"][-40:],
        )
    axes.set(xlabel="k", ylabel=label)
    axes.set_title(f"{label} against k", loc="left", fontsize=11)
    axes.legend(fontsize=8, frameon=False)
    return _text(figure, f"{label} of every encoder against k")
