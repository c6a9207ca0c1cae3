"""Gather the numbers of a finished fit for its report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

import clusterlib
from clusterlib import storage
from clusterlib.clustering.hierarchy import Hierarchy
from clusterlib.clustering.model import ClusterModel
from clusterlib.config import result_settings
from clusterlib.report.content import (
    Cell,
    ClusterView,
    Contact,
    Content,
    MapFacts,
    Rejects,
    TreeNode,
)
from clusterlib.report.sheets import ATLAS_CELLS
from clusterlib.run import Fit
from clusterlib.stages.clusters.assign_clusters import read_agreement
from clusterlib.stages.clusters.fit_clusters import read_record
from clusterlib.stages.reporting.rows import RowFacts, read_table_if_there
from clusterlib.stages.session import Session
from clusterlib.tables.committed import CommittedTable
from clusterlib.tables.parquet import read_parquet

MORE, OUTLIERS, DUPLICATES, NEIGHBORS = 48, 16, 12, 6
TREE_PARTS, TREE_CELLS = 6, 12


@dataclass(frozen=True)
class Parts:
    """What the stage has made before the content is put together."""

    clusters: Sequence[dict[str, Any]]  # rows of clusters.parquet
    facts: RowFacts
    contacts: dict[int, Contact]
    rejects: Rejects
    model: ClusterModel
    hierarchy: Hierarchy | None
    order_N: NDArray[np.int64]  # rows of facts.sample in the order of the atlases
    pictures: int
    map: MapFacts | None
    names: dict[int, str]  # that people gave clusters
    proposals: dict[int, list[dict[str, Any]]]


def gather(
    session: Session, fit: Fit, embeddings: CommittedTable, run_id: str, parts: Parts
) -> Content:
    """The content of the report."""
    record = read_record(fit)
    assert record is not None  # assignments exist, so the fit does
    score = read_agreement(fit)
    views = _views(parts, embedded=embeddings.count("embeddings"))
    names = sorted({label for _, label in parts.facts.labels})
    sweep = read_parquet(storage.join(fit.model, "sweep.parquet")).to_pylist()
    return Content(
        **run_facts(session),
        run_id=run_id,
        fit_id=fit.fit_id,
        rows=embeddings.state.rows,
        embedded=embeddings.count("embeddings"),
        k=record["k"],
        reason=str(record["reason"]).rstrip("."),
        explained=[round(float(share), 6) for share in parts.model.space.explained_P],
        sweep=[{key: v for key, v in row.items() if _is_plain(v)} for row in sweep],
        clusters=views,
        rejects=parts.rejects,
        agreement=score.__dict__ if score else None,
        label_names=names,
        confusion=[
            [parts.facts.labels[view.cluster_id, name] for name in names] if names else []
            for view in views
        ]
        if names
        else (),
        label_scores=_label_scores(fit),
        noise=parts.facts.noise,
        variance=read_table_if_there(storage.join(fit.model, "variance.parquet")),
        euclidean=record.get("euclidean_silhouette"),
        tree=_tree(parts, views),
        map=parts.map,
    )


def _label_scores(fit: Fit) -> list[dict[str, Any]]:
    """How well each label's matched cluster renders it, the most frequent label first."""
    found = storage.read_json(storage.join(fit.uri, "confusion.json"))
    if not found:
        return []
    names = ("labels", "matched", "precision", "recall", "f1", "support")
    keys = ("label", "cluster", *names[2:])
    rows = zip(*(found[name] for name in names), strict=True)
    return sorted(
        (dict(zip(keys, row, strict=True)) for row in rows),
        key=lambda row: (-row["support"], row["label"]),
    )


def run_facts(session: Session) -> dict[str, Any]:
    """What every report says of its run, finished or not."""
    config = session.config
    stages = session.record.get("stages") or {}
    return {
        "title": config.report.title,
        "run_uri": session.run.uri,
        "source": config.dump()["catalog"]["source"],
        "encoder": config.encoder.model,
        "finished_at": datetime.now(timezone.utc).isoformat(sep=" ", timespec="minutes"),
        "version": clusterlib.__version__,
        "settings": dict(result_settings(config)),
        "reads": list(session.record.get("reads") or ()),
        "stages": {name: dict(facts) for name, facts in stages.items() if facts},
    }


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (int, float, str))


def _views(parts: Parts, *, embedded: int) -> list[ClusterView]:
    cells = _cells_by_cluster(parts)
    near = _neighbors(parts.model)
    labels: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for (cluster_id, label), count in parts.facts.labels.items():
        labels[cluster_id].append((label, count))
    views = []
    for row in parts.clusters:
        cluster_id = row["cluster_id"]
        mine = cells.get(cluster_id, [])
        contact = parts.contacts[cluster_id]
        outliers = [cell for cell, is_outlier, _ in mine if is_outlier]
        views.append(
            ClusterView(
                cluster_id=cluster_id,
                size=row["size"],
                share=row["size"] / max(embedded, 1),
                spread=row["spread"],
                silhouette=row["silhouette"],
                negative_share=row["negative_share"],
                outliers=row["outliers"],
                name=parts.names.get(cluster_id),
                majority_label=row["majority_label"],
                majority_share=row["majority_share"],
                picks={
                    kind: [
                        {"image_id": pick["image_id"], "uri": pick["uri"]}
                        for pick in row[kind][:count]
                    ]
                    for kind, count in contact.counts.items()
                },
                contact=contact,
                neighbors=near.get(cluster_id, ()),
                labels=sorted(labels[cluster_id], key=lambda item: (-item[1], item[0])),
                histogram=parts.facts.histograms_KB[cluster_id].tolist(),
                more=_spread([cell for cell, _, _ in mine], MORE),
                outlier_cells=outliers[::-1][:OUTLIERS],
                duplicates=parts.facts.duplicates.get(cluster_id, [])[:DUPLICATES],
                proposals=parts.proposals.get(cluster_id, ()),
                quantiles=row.get("silhouette_quantiles") or (),
            )
        )
    return sorted(views, key=lambda view: (-view.size, view.cluster_id))


def _cells_by_cluster(parts: Parts) -> dict[int, list[tuple[Cell, bool, int]]]:
    """The pictures in atlases by cluster, with outlier flag and micro-cluster, typical first."""
    shown = parts.facts.sample.take(parts.order_N[: parts.pictures])
    found: dict[int, list[tuple[Cell, bool, int]]] = defaultdict(list)
    for place, row in enumerate(shown.to_pylist()):
        atlas, cell = divmod(place, ATLAS_CELLS)
        picture = Cell(atlas, cell, row["image_id"], row["uri"] or "", row["distance"])
        found[row["cluster_id"]].append((picture, row["is_outlier"], row["micro_id"]))
    for cells in found.values():
        cells.sort(key=lambda item: item[0].distance)
    return found


def _spread(cells: Sequence[Cell], count: int) -> list[Cell]:
    """At most `count` cells, evenly from first to last."""
    if len(cells) <= count:
        return list(cells)
    return [cells[i] for i in np.linspace(0, len(cells) - 1, count).round().astype(int)]


def _neighbors(model: ClusterModel) -> dict[int, list[tuple[int, float]]]:
    """For each cluster the nearest others by cosine of the centroids."""
    similarity_KK = model.centroids_KP @ model.centroids_KP.T
    np.fill_diagonal(similarity_KK, -np.inf)
    order_KJ = np.argsort(-similarity_KK, axis=1, kind="stable")[:, :NEIGHBORS]
    return {
        cluster: [(int(j), round(float(row[j]), 4)) for j in order if np.isfinite(row[j])]
        for cluster, (order, row) in enumerate(zip(order_KJ, similarity_KK, strict=True))
    }


def _tree(parts: Parts, views: Sequence[ClusterView]) -> TreeNode | None:
    """The hierarchy from one root to the parts of each cluster, at most six branches a node."""
    hierarchy = parts.hierarchy
    if hierarchy is None or len(views) < 2:
        return None
    sizes = {view.cluster_id: view.size for view in views}
    by_micro: dict[int, list[Cell]] = defaultdict(list)
    for cells in _cells_by_cluster(parts).values():
        for cell, _, micro_id in cells:
            by_micro[micro_id].append(cell)
    # Children come before their parents, so that no depth of the tree needs recursion.
    done: dict[int, TreeNode] = {}
    clusters_of: dict[int, list[int]] = {}
    for node in range(len(hierarchy.left_V)):
        cluster, left = int(hierarchy.cluster_id_V[node]), int(hierarchy.left_V[node])
        below = [] if left < 0 else [*clusters_of[left], *clusters_of[int(hierarchy.right_V[node])]]
        clusters_of[node] = [cluster] if cluster >= 0 else below
    wanted, stack = [], [len(hierarchy.left_V) - 1]
    children: dict[int, list[int]] = {}
    while stack:
        node = stack.pop()
        wanted.append(node)
        inside = hierarchy.cluster_id_V[node] >= 0
        limit = TREE_PARTS if inside else min(TREE_PARTS, len(clusters_of[node]))
        children[node] = [child for child, _ in hierarchy.split(node, parts=limit) if child != node]
        # A cluster is opened once: its parts are leaves of the page.
        stack += [] if inside else children[node]
    for node in reversed(wanted):
        inside = hierarchy.cluster_id_V[node] >= 0
        below = sorted(clusters_of[node], key=lambda c: (-sizes[c], c))
        parts_below = (
            [_part(hierarchy, child, by_micro) for child in children[node]]
            if inside
            else [done[child] for child in children[node]]
        )
        parts_below = [p for p in parts_below if p.cells] if inside else parts_below
        done[node] = TreeNode(
            title=f"Cluster {below[0]}" if inside else f"{len(below):,} clusters",
            size=sum(sizes[c] for c in below),
            clusters=below,
            children=sorted(parts_below, key=lambda child: -child.size),
            is_cluster=bool(inside),
        )
    return done[len(hierarchy.left_V) - 1]


def _part(hierarchy: Hierarchy, node: int, by_micro: dict[int, list[Cell]]) -> TreeNode:
    cells = [cell for micro in hierarchy.leaves_of(node) for cell in by_micro.get(int(micro), [])]
    cells.sort(key=lambda cell: cell.distance)
    return TreeNode(
        title="part, sampled",
        size=int(hierarchy.size_V[node]),
        clusters=[int(hierarchy.cluster_id_V[node])],
        cells=cells[:TREE_CELLS],
    )
