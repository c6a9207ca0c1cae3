"""Curves as inline SVG text that takes the page's own colours, light or dark, and its typeface."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE, ORANGE, RED = "#3b6fd4", "#c2571a", "#c23a3a"
LINES = (BLUE, ORANGE, "#2f8f4e", "#8a4fbf", "#b08a00", "#0f8a99", RED, "#7a7a7a")
KNIVES = 48  # more blades than this cannot be told apart

# Texts stay texts; equal input gives equal ids.
_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "clusterlib", "font.size": 10}


def curve_svg(
    ks: Sequence[int],
    values: Sequence[float | None],
    *,
    chosen: int,
    title: str,
    y_label: str,
    low: Sequence[float | None] | None = None,
    high: Sequence[float | None] | None = None,
) -> str:
    """One criterion against k, with the chosen k marked and an interval where there is one."""
    figure, axes = _figure(3.9, 2.3)
    points = [(k, value) for k, value in zip(ks, values, strict=True) if value is not None]
    axes.plot([k for k, _ in points], [v for _, v in points], marker="o", ms=3.5, color=BLUE)
    if low is not None and high is not None:
        band = [(k, a, b) for k, a, b in zip(ks, low, high, strict=True) if None not in (a, b)]
        if band:
            axes.fill_between(*np.array(band, dtype=float).T, alpha=0.18, color=BLUE, lw=0)
    axes.axvline(chosen, linestyle="--", lw=1.2, color=ORANGE)
    axes.set(xlabel="k", ylabel=y_label)
    axes.set_title(title, loc="left", fontsize=11)
    _log_ks(axes, ks)
    return _text(figure, f"{title} against k; k = {chosen} is chosen")


def curves_svg(
    lines: Sequence[tuple[str, Sequence[int], Sequence[float | None], int]],
    *,
    title: str,
    y_label: str,
) -> str:
    """One criterion against k for several names; a ring marks each one's chosen k.

    `lines` are (name, ks, values, chosen k).
    """
    figure, axes = _figure(7.6, 2.9)
    all_ks: set[int] = set()
    for index, (name, ks, values, chosen) in enumerate(lines):
        points = {k: v for k, v in zip(ks, values, strict=True) if v is not None}
        all_ks |= set(points)
        color = LINES[index % len(LINES)]
        # A dollar sign would begin a formula, an underscore would hide the line from the legend.
        label = "\u200b" + name.replace("$", r"\$")
        dash = "-" if index < len(LINES) else "--"
        axes.plot(
            list(points),
            list(points.values()),
            marker="o",
            ms=3.5,
            ls=dash,
            color=color,
            label=label,
        )
        if chosen in points:
            axes.plot(chosen, points[chosen], marker="o", ms=9, mfc="none", mew=1.6, color=color)
    axes.set(xlabel="k", ylabel=y_label)
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _log_ks(axes, sorted(all_ks))
    return _text(figure, f"{title} against k for {len(lines)} encoders; rings mark the chosen k")


def variance_svg(shares: Sequence[float], *, kept: int) -> str:
    """Share of the variance that the first axes keep together; `kept` of `shares` are used."""
    figure, axes = _figure(3.9, 2.3)
    total = np.cumsum(shares)
    numbers = np.arange(1, len(total) + 1)
    axes.plot(numbers, total, color=BLUE)
    axes.fill_between(numbers[:kept], total[:kept], alpha=0.12, color=BLUE, lw=0)
    if kept < len(total):
        axes.axvline(kept, linestyle="--", lw=1.2, color=ORANGE)
    axes.set(xlabel="PCA axes", ylabel="share of the variance", ylim=(0, 1))
    axes.set_title(f"{kept} axes keep {total[kept - 1]:.0%}", loc="left", fontsize=11)
    return _text(figure, f"Variance kept by PCA: {kept} axes keep {total[kept - 1]:.1%}")


def knives_svg(names: Sequence[str], histograms: Sequence[Sequence[int]], *, mean: float) -> str:
    """Silhouette analysis: the sorted silhouettes of each cluster as a blade, largest first.

    Rousseeuw, "Silhouettes", 1987. `histograms` count silhouettes from -1 to 1 in equal bins.
    """
    shown = list(zip(names, histograms, strict=True))[:KNIVES]
    figure, axes = _figure(7.6, min(0.9 + 0.34 * len(shown), 11))
    lowest = 0.0
    for position, (_, histogram) in enumerate(shown):
        counts = np.asarray(histogram, dtype=float)
        if not counts.sum():
            continue
        edges = np.linspace(-1, 1, len(counts) + 1)
        above = np.concatenate([[counts.sum()], counts.sum() - np.cumsum(counts)]) / counts.sum()
        seen = np.flatnonzero(counts)
        lowest = min(lowest, edges[seen[0]])
        first, last = seen[0], seen[-1] + 2
        y = position + 0.45 - 0.9 * above[first:last]
        color = RED if np.average((edges[:-1] + edges[1:]) / 2, weights=counts) < 0 else BLUE
        axes.fill_betweenx(y, 0, edges[first:last], alpha=0.75, lw=0, color=color)
    axes.axvline(mean, linestyle="--", lw=1.2, color=ORANGE)
    axes.axvline(0, lw=0.8, color="#000000")
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    axes.set(xlabel="silhouette", xlim=(max(-1.0, lowest - 0.02), None))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return _text(figure, f"Silhouettes of {len(shown)} clusters; the mean is {mean:.3f}")


def histogram_svg(histogram: Sequence[int]) -> str:
    """The silhouettes of one cluster."""
    figure, axes = _figure(3.9, 1.7)
    edges = np.linspace(-1, 1, len(histogram) + 1)
    axes.stairs(histogram, edges, fill=True, color=BLUE, alpha=0.8)
    used = np.flatnonzero(histogram)
    if len(used):
        axes.set_xlim(min(-0.05, edges[used[0]]), max(edges[used[-1] + 1], 0.05))
    axes.axvline(0, lw=0.8, color="#000000")
    axes.set(xlabel="silhouette", ylabel="images")
    return _text(figure, "Histogram of this cluster's silhouettes")


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
    axes.grid(visible=True, alpha=0.18, lw=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2.5, labelsize=9)
    return figure, axes


def _log_ks(axes: Any, ks: Sequence[int]) -> None:
    if len(ks) > 1 and max(ks) / min(ks) > 4:
        axes.set_xscale("log")
        ticks = _spread(ks)
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _text(figure: Figure, alt: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    # The pages allow no inline style; each of these properties is an attribute as well.
    svg = re.sub(r'style="([^"]*)"', _attributes, svg)
    # Black strokes and texts take the page's own colour, light or dark.
    svg = svg.replace("#000000", "currentColor").replace("#b0b0b0", "currentColor")
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert size is not None
    opening = f'<svg class="plot" role="img" aria-label="{alt}" viewBox="{size[0][9:-1]}">'
    return re.sub(r"<svg[^>]*>", opening, svg, count=1, flags=re.DOTALL)


def _attributes(match: re.Match[str]) -> str:
    found = []
    for item in match[1].split(";"):
        name, _, value = (part.strip() for part in item.partition(":"))
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            name, value = "font-size", size[1] if size else "10"
        if name and not name.startswith("-"):
            found.append(f'{name}="{value}"')
    return " ".join(found)


def _spread(ks: Sequence[int]) -> list[int]:
    """At most six of `ks`, the ends among them."""
    step = max(1, (len(ks) - 1) // 5)
    chosen = sorted({*ks[::step], ks[-1]})
    # Two labels that would touch on a logarithmic axis are one too many.
    return [k for i, k in enumerate(chosen) if k == ks[-1] or chosen[i + 1] > 1.12 * k]
