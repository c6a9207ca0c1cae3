"""Content -> the pages of the report, one text a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from clusterlib.report.content import KIND_WORDS, ClusterView, Content, TreeNode
from clusterlib.report.curves import (
    KNIVES,
    curve_svg,
    histogram_svg,
    knives_svg,
    variance_svg,
)
from clusterlib.report.points import Points, pack

METHODS = {"pacmap": "PaCMAP", "tsne": "t-SNE", "pca": "the first two principal axes"}
# Columns of the sweep that get a curve, in this order; others are in the table only.
CURVES = {
    "silhouette": ("Silhouette", "mean silhouette"),
    "inertia": ("Inertia (elbow)", "sum of squares"),
    "davies_bouldin": ("Davies–Bouldin (lower is better)", "index"),
    "calinski_harabasz": ("Calinski–Harabasz", "index"),
    "gap": ("Gap statistic", "gap"),
    "stability": ("Stability", "agreement of refits"),
}
CONFUSION_ROWS, CONFUSION_LABELS, LABEL_SCORES = 60, 40, 200
TREE_PARTS = 6


def pages(content: Content, points: Points | None) -> Iterator[tuple[str, str]]:
    """Path and text of every file of the report but pictures; every value is escaped."""
    environment = _environment()
    listed = [("overview", "index.html", "Overview")]
    if points is not None and content.map is not None:
        listed.append(("map", "map.html", "Map"))
    if content.tree is not None:
        listed.append(("tree", "tree.html", "Tree"))
    listed += [("quality", "quality.html", "Quality"), ("rejected", "rejected.html", "Rejected")]
    weights = [cluster.size for cluster in content.clusters]
    silhouettes = [cluster.silhouette for cluster in content.clusters]
    mean = float(np.average(silhouettes, weights=weights)) if sum(weights) else 0.0
    shared: dict[str, Any] = {
        "content": content,
        "pages": listed,
        "kinds": KIND_WORDS,
        "mean_silhouette": mean,
        "best": max([*silhouettes, 0.01]),
        "by_id": {cluster.cluster_id: cluster for cluster in content.clusters},
    }

    def render(template: str, here: str, root: str = "", **values: Any) -> str:
        found = environment.get_template(template)
        return found.render(shared | {"here": here, "root": root} | values)

    yield from assets()
    yield "index.html", render("index.html.j2", "overview")
    yield "quality.html", render("quality.html.j2", "quality", **_quality(content, mean))
    yield "rejected.html", render("rejected.html.j2", "rejected")
    if content.tree is not None:
        yield "tree.html", render("tree.html.j2", "tree", events=list(_events(content.tree)))
    if points is not None and content.map is not None:
        yield "map.html", render("map.html.j2", "map", **_map(content, points))
    for position, cluster in enumerate(content.clusters):
        near = [(shared["by_id"][i], s) for i, s in cluster.neighbors if i in shared["by_id"]]
        yield (
            f"clusters/{cluster.cluster_id:05d}.html",
            render(
                "cluster.html.j2",
                "cluster",
                "../",
                c=cluster,
                neighbors=near,
                before=_at(content.clusters, position - 1),
                after=_at(content.clusters, position + 1),
                histogram=_histogram(content, cluster),
            ),
        )


def status_pages(
    content: Content,
    *,
    problem: str,
    facts: Sequence[tuple[str, str]],
    states: Sequence[tuple[str, str]],
    pictures: int,
) -> Iterator[tuple[str, str]]:
    """The report of a run that is not finished: what is there, and why it stopped."""
    listed = [("overview", "index.html", "Overview"), ("rejected", "rejected.html", "Rejected")]
    shared = {"content": content, "pages": listed, "root": ""}
    environment = _environment()
    yield from assets()
    yield (
        "index.html",
        environment.get_template("status.html.j2").render(
            shared,
            here="overview",
            problem=problem,
            facts=facts,
            states=states,
            thumbnails=range(pictures),
        ),
    )
    rejected = environment.get_template("rejected.html.j2")
    yield "rejected.html", rejected.render(shared, here="rejected")


def compare_pages(content: Content, **values: Any) -> Iterator[tuple[str, str]]:
    """Two runs side by side; `values` are those of the template."""
    yield from single_page(content, "compare.html.j2", heading="Comparison", **values)


def single_page(
    content: Content, template: str, *, heading: str, **values: Any
) -> Iterator[tuple[str, str]]:
    """A folder of one page from `template`, with the assets; every value is escaped."""
    shared = {"content": content, "pages": [("overview", "index.html", heading)], "root": ""}
    found = _environment().get_template(template)
    yield from assets()
    yield "index.html", found.render(shared, here="overview", **values)


def assets() -> Iterator[tuple[str, str]]:
    """The style sheet and the scripts."""
    folder = files("clusterlib.report") / "assets"
    for name in ("report.css", "cards.js", "map.js"):
        yield f"assets/{name}", (folder / name).read_text(encoding="utf-8")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("clusterlib.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    return environment


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _at(clusters: Sequence[ClusterView], position: int) -> int | None:
    return clusters[position].cluster_id if 0 <= position < len(clusters) else None


def _histogram(content: Content, cluster: ClusterView) -> Markup | None:
    # The largest are on the quality page; drawing thousands more takes longer than all the rest.
    if not sum(cluster.histogram) or len(content.clusters) > 10 * KNIVES:
        return None
    return Markup(histogram_svg(cluster.histogram))  # noqa: S704 - made above from numbers


def _quality(content: Content, mean: float) -> dict[str, Any]:
    columns = list(content.sweep[0]) if content.sweep else []
    ks = [row["k"] for row in content.sweep]

    def column(name: str) -> list[float | None] | None:
        return [row[name] for row in content.sweep] if name in columns else None

    curves = []
    for name, (title, y_label) in CURVES.items():
        values = column(name)
        if values is None or all(value is None for value in values):
            continue
        low, high = column(f"{name}_low"), column(f"{name}_high")
        curves.append(
            curve_svg(
                ks, values, chosen=content.k, title=title, y_label=y_label, low=low, high=high
            )
        )
    shares = [row["share"] for row in content.variance] or content.explained
    if shares:
        kept = sum(row["kept"] for row in content.variance) or len(shares)
        curves.append(variance_svg(shares, kept=kept))
    with_rows = [c for c in content.clusters if sum(c.histogram)]
    knives = None
    if with_rows:
        names = [str(c.cluster_id) for c in with_rows]
        knives = knives_svg(names, [c.histogram for c in with_rows], mean=mean)
    stages = {
        name: facts | {"words": _stage_words(facts)} for name, facts in content.stages.items()
    }
    seconds = {n: f["seconds"] for n, f in stages.items() if isinstance(f.get("seconds"), float)}
    slowest = max(seconds.values(), default=1.0)
    return {
        # Drawn above from numbers.
        "curves": [Markup(svg) for svg in curves],  # noqa: S704
        "knives": None if knives is None else Markup(knives),  # noqa: S704
        "knife_count": KNIVES,
        "label_score_count": LABEL_SCORES,
        "sweep_columns": columns,
        "largest": max((c.size for c in content.clusters), default=1) or 1,
        "slowest": slowest or 1,
        "content": replace(content, stages=stages),
        "bottleneck": _bottleneck(seconds),
        "confusion": _confusion(content),
    }


def _stage_words(facts: dict[str, Any]) -> str:
    words = {
        "placement": "{}",
        "images_per_second": "{} images/s",
        "bottleneck": "{}",
        "newly_done": "{:,} embedded by this command",
        "sampled": "sample of {:,}",
        "k": "k = {}",
        "assigned": "{:,} images",
        "files": "{} files",
    }
    return ", ".join(
        text.format(facts[key]) for key, text in words.items() if facts.get(key) not in (None, 0)
    )


def _bottleneck(seconds: dict[str, float]) -> str | None:
    total = sum(seconds.values())
    if total <= 0:
        return None
    name, most = max(seconds.items(), key=lambda item: item[1])
    return (
        f"The bottleneck of this command was {name.replace('_', ' ')}: {most:.1f} of {total:.1f} s "
        f"({most / total:.0%}). Stages that found their work done take no time."
    )


def _confusion(content: Content) -> dict[str, Any] | None:
    if not content.confusion:
        return None
    counts = np.asarray(content.confusion)[:CONFUSION_ROWS]
    chosen = np.argsort(-counts.sum(axis=0), kind="stable")[:CONFUSION_LABELS]
    chosen = np.sort(chosen)
    rows = []
    for cluster, line in zip(content.clusters, counts, strict=False):
        total = max(int(line.sum()), 1)
        # 0 is none, 1...4 are quarters of the cluster.
        levels = [(int(n), 0 if n == 0 else min(4, 1 + int(4 * n / total))) for n in line[chosen]]
        rows.append((cluster.cluster_id, levels))
    cut = len(rows) < len(content.clusters) or len(chosen) < len(content.label_names)
    return {"rows": rows, "labels": [content.label_names[i] for i in chosen], "cut": cut}


def _events(root: TreeNode) -> Iterator[tuple[str, TreeNode]]:
    """The tree as openings and closings: it may be deeper than a template may recurse."""
    stack: list[tuple[str, TreeNode]] = [("open", root)]
    while stack:
        event, node = stack.pop()
        if event == "open" and not node.children:
            event = "leaf"
        yield event, node
        if event == "open":
            stack.append(("close", node))
            stack += [("open", child) for child in reversed(node.children)]


def _map(content: Content, points: Points) -> dict[str, Any]:
    packed: dict[str, Any] = dict(pack(points))
    ids = packed.pop("ids")
    packed["pictures"] = points.pictures
    packed["labels"] = list(points.labels)
    packed["names"] = {
        cluster.cluster_id: cluster.name or f"Cluster {cluster.cluster_id}"
        for cluster in content.clusters
    }
    assert content.map is not None
    return {
        "points": _data_block(json.dumps(packed)),
        "ids": _data_block(ids),
        "method": METHODS[content.map.method],
    }


def _data_block(text: str) -> Markup:
    """JSON that no parser of HTML can leave: in JSON texts `<` is as good as its escape."""
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - see above
