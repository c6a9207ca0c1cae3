"""What every labelling tool is told about an image: one record a clustered row."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa

from clusterlib.errors import InputError

_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True)
class Origin:
    """The fit that manifests are made of, and the clusters it has."""

    run_id: str
    fit_id: str
    cluster_ids: tuple[int, ...]

    def index_of(self, cluster_id: int) -> int:
        """Position of a cluster in `cluster_ids`: the label index that tools are given.

        Raises:
            InputError: the fit has no such cluster.
        """
        try:
            return self.cluster_ids.index(cluster_id)
        except ValueError:
            raise InputError(
                f"manifests: an image is in cluster {cluster_id}, which fit {self.fit_id} does not "
                "have; run jobs.assign_clusters again"
            ) from None


@dataclass(frozen=True, slots=True)
class Record:
    """One clustered image.

    `address` is where the labelling tool finds it; `score` in 0...1 is its silhouette s as
    (s + 1) / 2; `width` and `height` are pixels of the upright image.
    """

    row_id: int
    image_id: str
    uri: str
    address: str
    cluster_id: int
    score: float
    width: int
    height: int


def records(manifest: pa.Table, address: Callable[[str], str]) -> list[Record]:
    """The clustered rows of a manifest, in its order; `address` makes one of a URI."""
    columns = ["row_id", "image_id", "uri", "cluster_id", "silhouette", "width", "height"]
    return [
        Record(
            row_id=row["row_id"],
            image_id=row["image_id"],
            uri=row["uri"],
            address=address(row["uri"]),
            cluster_id=row["cluster_id"],
            score=round((row["silhouette"] + 1) / 2, 4),
            width=row["width"],
            height=row["height"],
        )
        for row in manifest.select(columns).to_pylist()
        if row["cluster_id"] is not None
    ]


def rewrite(uri: str, prefixes: Mapping[str, str]) -> str:
    """`uri` with the longest matching prefix replaced; unchanged when none matches.

    What follows is percent-encoded when a path or store key becomes part of a web address.
    """
    for prefix in sorted(prefixes, key=len, reverse=True):
        if uri.startswith(prefix):
            target, rest = prefixes[prefix], uri[len(prefix) :]
            web = target.startswith(("http://", "https://", "/data/")) and uri[:4] != "http"
            return target + (quote(rest, safe="/") if web else rest)
    return uri


def cluster_name(cluster_id: int) -> str:
    """The label that stands for a cluster until people have named it."""
    return f"cluster_{cluster_id:03d}" if cluster_id >= 0 else "noise"


def safe_name(image_id: str) -> str:
    """A file name for an image id: itself when harmless, else its harmless part and a hash.

    Never empty, hidden, above 120 bytes, nor with a separator.
    """
    if _SAFE_NAME.fullmatch(image_id):
        return image_id
    digest = hashlib.blake2b(image_id.encode(), digest_size=8).hexdigest()
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", image_id).strip("-")[-80:]
    return f"{readable}-{digest}" if readable else digest


def path_below(address: str) -> str:
    """An address as a path below the root of its bucket or disk, as tools with shares want it."""
    return (
        address.partition("://")[2].partition("/")[2] if "://" in address else address.lstrip("/")
    )
