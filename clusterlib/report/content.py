"""What a report shows, as plain numbers and texts: the pages and report.json are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

KIND_WORDS = {
    "nearest": "nearest to the centre",
    "boundary": "on the boundary",
    "diverse": "as different as there are",
    "random": "random",
}


@dataclass(frozen=True)
class Cell:
    """A 64 px picture in an atlas, by atlas and cell, with what is known of its image."""

    atlas: int
    cell: int
    image_id: str
    uri: str
    distance: float


@dataclass(frozen=True)
class Contact:
    """The exemplars of one cluster in `sheets/`: so many cells for each kind, row by row.

    `failed` are the indices of the cells whose image could not be read again.
    """

    counts: dict[str, int]  # kind -> cells, whole rows
    failed: Sequence[int] = ()

    def start(self, kind: str) -> int:
        """The first cell of `kind`."""
        kinds = list(self.counts)
        return sum(self.counts[k] for k in kinds[: kinds.index(kind)])


@dataclass(frozen=True)
class ClusterView:
    """One cluster as its card and its page show it."""

    cluster_id: int
    size: int
    share: float
    spread: float
    silhouette: float
    negative_share: float
    outliers: int
    name: str | None  # that people gave it
    majority_label: str | None
    majority_share: float | None
    picks: dict[str, list[dict[str, Any]]]  # kind -> image_id, uri
    contact: Contact
    neighbors: Sequence[tuple[int, float]] = ()  # cluster and cosine similarity of the centroids
    labels: Sequence[tuple[str, int]] = ()  # true labels, most frequent first
    histogram: Sequence[int] = ()  # silhouettes from -1 to 1 in equal bins
    more: Sequence[Cell] = ()  # from the sample, typical first
    outlier_cells: Sequence[Cell] = ()
    duplicates: Sequence[Sequence[str]] = ()  # ids of byte-identical images of the sample
    proposals: Sequence[dict[str, Any]] = ()  # names to take or leave, best first
    quantiles: Sequence[float] = ()  # of its silhouettes: 5, 25, 50, 75, 95 %


@dataclass(frozen=True)
class TreeNode:
    """A group of clusters, a cluster, or a part of one; `children` are shown when it is opened."""

    title: str
    size: int
    clusters: Sequence[int]  # largest first
    children: Sequence[TreeNode] = ()
    cells: Sequence[Cell] = ()
    is_cluster: bool = False


@dataclass(frozen=True)
class Rejects:
    """The quarantined rows."""

    by_code: dict[str, int]
    meanings: dict[str, str]
    examples: dict[str, list[dict[str, Any]]]  # code -> image_id, uri, detail, attempts
    by_place: Sequence[tuple[str, int]]  # folder or host
    retried: int  # tried more than once before they were given up

    @property
    def total(self) -> int:
        return sum(self.by_code.values())


@dataclass(frozen=True)
class MapFacts:
    """How the map was made."""

    method: str
    points: int
    pictures: int
    seconds: float


@dataclass(frozen=True)
class Content:
    """Everything a report shows but pictures and points."""

    title: str
    run_id: str
    fit_id: str
    run_uri: str
    source: str
    encoder: str
    finished_at: str
    version: str
    rows: int
    embedded: int
    k: int
    reason: str
    explained: Sequence[float]  # share of the variance of each kept axis
    sweep: Sequence[dict[str, Any]]
    clusters: Sequence[ClusterView]  # largest first
    rejects: Rejects
    stages: dict[str, dict[str, Any]]  # run.json's facts of each stage
    settings: dict[str, Any]
    agreement: dict[str, float] | None = None
    # Rows of SourceReads: folders and hosts, those that took the most time first
    reads: Sequence[dict[str, Any]] = ()
    label_names: Sequence[str] = ()
    confusion: Sequence[Sequence[int]] = ()  # a row a cluster of `clusters`, a column a label
    label_scores: Sequence[dict[str, Any]] = ()  # label, cluster, precision, recall, f1, support
    noise: int = 0
    variance: Sequence[dict[str, Any]] = ()  # axis, share, cumulative, kept; also beyond the kept
    euclidean: dict[str, Any] | None = None  # sampled plain silhouette: value, low, high, rows
    tree: TreeNode | None = None
    map: MapFacts | None = None
    links: dict[str, str] = field(default_factory=dict)  # name -> path relative to the report

    @property
    def conserved(self) -> bool:
        """Whether every catalogue row is in a cluster, noise, or quarantined."""
        clustered = sum(cluster.size for cluster in self.clusters) + self.noise
        return clustered == self.embedded and self.embedded + self.rejects.total == self.rows

    def numbers(self) -> dict[str, Any]:
        """Every number shown, as plain JSON values; pictures' places are left out."""
        tree = asdict(self)
        for cluster in tree["clusters"]:
            for name in ("contact", "more", "outlier_cells"):
                del cluster[name]
        del tree["tree"]
        return tree | {"rejected": self.rejects.total, "conserved": self.conserved}
