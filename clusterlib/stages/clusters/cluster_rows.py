"""Rows of clusters.parquet as pages and naming sheets show them, of this version or older."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clusterlib import storage
from clusterlib.run import Fit
from clusterlib.stages.session import Session
from clusterlib.tables.parquet import read_parquet

# Fits of older versions have no diverse rows.
WORDS = {
    "nearest": "typical",
    "boundary": "on the boundary",
    "diverse": "as different as there are",
    "random": "at random",
}


def read_clusters(fit: Fit) -> list[dict[str, Any]]:
    """The rows of clusters.parquet."""
    rows: list[dict[str, Any]] = read_parquet(fit.clusters).to_pylist()
    return rows


def shown_kinds(clusters: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """The kinds of exemplars that these rows have, in the order in which people see them."""
    return tuple(kind for kind in WORDS if not clusters or clusters[0].get(kind) is not None)


def read_proposals(session: Session, fit: Fit) -> dict[int, list[dict[str, Any]]]:
    """Proposals by cluster, best first; nothing without a vocabulary."""
    if session.config.manifests.vocabulary is None:
        return {}
    record = storage.read_json(proposals_uri(fit)) or {"clusters": {}}
    return {int(cluster): found for cluster, found in record["clusters"].items()}


def read_proposal_texts(session: Session, fit: Fit) -> dict[int, str]:
    """The names proposed for each cluster as one line of text, best first."""
    found = read_proposals(session, fit)
    return {cluster: ", ".join(p["name"] for p in some) for cluster, some in found.items()}


def proposals_uri(fit: Fit) -> str:
    """Where the names proposed for a fit's clusters are."""
    return storage.join(fit.uri, "proposals.json")
