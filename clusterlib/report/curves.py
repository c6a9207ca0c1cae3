"""The curves of the sweep as SVG text."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from matplotlib.figure import Figure


def curve_svg(
    ks: Sequence[int],
    values: Sequence[float | None],
    *,
    chosen: int,
    title: str,
    y_label: str,
) -> str:
    """One criterion against k, with the chosen k marked; colours follow the page's text."""
    points = [(k, value) for k, value in zip(ks, values, strict=True) if value is not None]
    figure = Figure(figsize=(4.6, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([k for k, _ in points], [v for _, v in points], marker="o", color="#2f6fde")
    axes.axvline(chosen, linestyle="--", color="#c2410c", label=f"k = {chosen}")
    axes.set(title=title, xlabel="k (clusters)", ylabel=y_label)
    if len(ks) > 1 and max(ks) / min(ks) > 4:
        axes.set_xscale("log")
        ticks = [k for k in ks if k in _spread(ks)]
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
    axes.grid(visible=True, alpha=0.25)
    axes.legend(frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Black strokes and texts take the page's own colour, light or dark.
    svg = svg.replace("#000000", "currentColor")
    return re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)


def _spread(ks: Sequence[int]) -> set[int]:
    """At most six of `ks`, the ends among them."""
    step = max(1, (len(ks) - 1) // 5)
    return {*ks[::step], ks[-1]}
