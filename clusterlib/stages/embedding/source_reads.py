"""From which folders and hosts the images were read, how fast, and how often it took more tries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

# So many places are told apart, those that took the most time; the rest are one.
PLACES = 100
OTHERS = "(other places)"


@dataclass
class PlaceReads:
    """What reading the images of one place has taken; seconds of the clock, retries included."""

    images: int = 0
    bytes: int = 0
    retried: int = 0  # images that took more than one try
    seconds: float = 0.0
    slowest_seconds: float = 0.0
    slowest_uri: str = ""

    def add(self, other: PlaceReads) -> None:
        """Add the reads of `other`."""
        self.images += other.images
        self.bytes += other.bytes
        self.retried += other.retried
        self.seconds += other.seconds
        if other.slowest_seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest_uri = other.slowest_seconds, other.slowest_uri


@dataclass
class SourceReads:
    """Reads by place; small, however many places there are."""

    places: dict[str, PlaceReads] = field(default_factory=dict)

    def note(self, uri: str, *, size_bytes: int, tries: int, seconds: float) -> None:
        """Count one image."""
        shown = uri.partition("?")[0]  # a signed URL's query is a secret
        self._add(place_of(uri), PlaceReads(1, size_bytes, int(tries > 1), seconds, seconds, shown))

    def merge(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add what `rows` of another one say."""
        for row in rows:
            reads = dict(row)
            self._add(reads.pop("place"), PlaceReads(**reads))
        if len(self.places) > 2 * PLACES:
            self.places = {row.pop("place"): PlaceReads(**row) for row in self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """A plain row a place, those that took the most time first; the other places last."""
        named = [item for item in self.places.items() if item[0] != OTHERS]
        named.sort(key=lambda item: (-item[1].seconds, item[0]))
        kept, others = dict(named[:PLACES]), PlaceReads()
        others.add(self.places.get(OTHERS, PlaceReads()))
        for _, reads in named[PLACES:]:
            others.add(reads)
        if others.images:
            kept[OTHERS] = others
        return [{"place": place} | asdict(reads) for place, reads in kept.items()]

    def _add(self, place: str, reads: PlaceReads) -> None:
        self.places.setdefault(place, PlaceReads()).add(reads)


def place_of(uri: str) -> str:
    """The host of a web address; the folder of any other file."""
    if uri.startswith(("http://", "https://")):
        return urlsplit(uri).hostname or uri
    return uri.rpartition("/")[0] or "."
