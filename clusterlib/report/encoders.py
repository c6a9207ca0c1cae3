"""Encoders side by side: the table and the page of a comparison."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from markupsafe import Markup

from clusterlib.report.content import Content
from clusterlib.report.curves import curves_svg
from clusterlib.report.site import single_page

# Columns of the table: field, heading, format.
_COLUMNS = (
    ("dim", "dim", "{:,}"),
    ("rows", "images", "{:,}"),
    ("k", "k", "{}"),
    ("silhouette", "silhouette", "{:.3f}"),
    ("stability", "stability", "{:.2f}"),
    ("nmi", "NMI", "{:.3f}"),
    ("ari", "ARI", "{:.3f}"),
    ("ami", "AMI", "{:.3f}"),
    ("images_per_second", "images/s", "{:,.0f}"),
    ("embed_seconds", "embed s", "{:,.1f}"),
    ("cluster_seconds", "cluster s", "{:,.1f}"),
)
_LABELLED = ("nmi", "ari", "ami")
_NAME_LENGTH = 52


@dataclass(frozen=True)
class KRow:
    """One k of one encoder; None where the score is not defined."""

    k: int
    silhouette: float | None
    stability: float | None


@dataclass(frozen=True)
class Trial:
    """What one encoder did on the sample; with a `problem` the rest is unknown.

    Silhouettes are each in the encoder's own space. `silhouette` and `stability` are of the chosen
    `k`; `nmi`, `ari` and `ami` are with true labels, where there are some. Seconds include the
    start of the workers, images a second do not.
    """

    model: str
    problem: str | None = None
    dim: int | None = None
    rows: int | None = None
    rejected: int | None = None
    k: int | None = None
    reason: str | None = None
    silhouette: float | None = None
    stability: float | None = None
    nmi: float | None = None
    ari: float | None = None
    ami: float | None = None
    images_per_second: float | None = None
    embed_seconds: float | None = None
    cluster_seconds: float | None = None
    fingerprint: str | None = None
    sweep: Sequence[KRow] = ()

    def numbers(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def names_of(trials: Sequence[Trial]) -> list[str]:
    """Names short enough for a table, still different from one another."""
    short = [_shorten(trial.model) for trial in trials]
    return [
        name if short.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(short, start=1)
    ]


def table_of(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, a row an encoder; label columns only where there are labels."""
    labelled = any(trial.nmi is not None for trial in trials)
    columns = [c for c in _COLUMNS if labelled or c[0] not in _LABELLED]
    rows = []
    for name, trial in zip(names_of(trials), trials, strict=True):
        values = [(getattr(trial, field), text) for field, _, text in columns]
        rows.append([name, *("–" if v is None else text.format(v) for v, text in values)])
    return ["encoder", *(heading for _, heading, _ in columns)], rows


def table_text(trials: Sequence[Trial]) -> list[str]:
    """The table as lines for a terminal, then a line for each encoder that failed."""
    heads, rows = table_of(trials)
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [heads, *rows]
    ]
    failed = [(n, t.problem) for n, t in zip(names_of(trials), trials, strict=True) if t.problem]
    return lines + [f"{name}: failed: {problem}" for name, problem in failed]


def encoder_pages(content: Content, trials: Sequence[Trial], *, asked: int) -> Iterator[Any]:
    """Path and text of every file of the page; every value is escaped."""
    heads, rows = table_of(trials)
    done = [(n, t) for n, t in zip(names_of(trials), trials, strict=True) if t.problem is None]
    ks = sorted({row.k for _, trial in done for row in trial.sweep})
    curves, tables = [], []
    for field, title in (("silhouette", "Silhouette"), ("stability", "Stability")):
        lines = [
            (n, [r.k for r in t.sweep], [getattr(r, field) for r in t.sweep], t.k or 0)
            for n, t in done
        ]
        lines = [line for line in lines if any(value is not None for value in line[2])]
        if not lines:
            continue
        curves.append(Markup(curves_svg(lines, title=title, y_label=field)))  # noqa: S704 - ours
        by_k = [(name, dict(zip(own, values, strict=True))) for name, own, values, _ in lines]
        cells = [
            (name, ["–" if at.get(k) is None else f"{at[k]:.3f}" for k in ks]) for name, at in by_k
        ]
        tables.append((title, cells))
    yield from single_page(
        content,
        "encoders.html.j2",
        heading="Encoders",
        heads=heads,
        rows=rows,
        asked=asked,
        trials=list(zip(names_of(trials), trials, strict=True)),
        curves=curves,
        tables=tables,
        ks=ks,
    )


def _shorten(model: str) -> str:
    if len(model) > _NAME_LENGTH:
        model = re.sub(r"[^:]*/(?=[^:])", "…/", model)  # folders
    return model if len(model) <= _NAME_LENGTH else f"…{model[1 - _NAME_LENGTH :]}"
