"""Reads are told apart by folder or host, and the record of them stays small."""

from __future__ import annotations

import pytest

from clusterlib.stages.embedding.source_reads import OTHERS, PLACES, SourceReads, place_of


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/shoes/1.jpg", "s3://bucket/shoes"),
        ("/data/1.jpg", "/data"),
        ("1.jpg", "."),
        ("https://user:word@images.example:8443/a/b.jpg?sig=x/y", "images.example"),
    ],
)
def test_a_place_is_a_folder_or_a_host(uri: str, place: str) -> None:
    assert place_of(uri) == place


def test_reads_add_up_and_the_slowest_is_kept() -> None:
    block, whole = SourceReads(), SourceReads()
    block.note("https://a.example/1.jpg?secret", size_bytes=10, tries=1, seconds=2.0)
    block.note("https://a.example/2.jpg", size_bytes=20, tries=3, seconds=1.0)
    block.note("/data/3.jpg", size_bytes=5, tries=1, seconds=4.0)
    whole.merge(block.rows())
    whole.merge(block.rows())
    assert [row["place"] for row in whole.rows()] == ["/data", "a.example"]
    assert whole.rows()[1] == {
        "place": "a.example",
        "images": 4,
        "bytes": 60,
        "retried": 2,
        "seconds": 6.0,
        "slowest_seconds": 2.0,
        "slowest_uri": "https://a.example/1.jpg",
    }


def test_many_places_become_few_and_none_is_lost() -> None:
    reads = SourceReads()
    for number in range(5 * PLACES):
        one = SourceReads()
        one.note(f"/data/{number}/1.jpg", size_bytes=1, tries=1, seconds=float(number))
        reads.merge(one.rows())
    rows = reads.rows()
    assert len(rows) <= PLACES + 1
    assert rows[0]["place"] == f"/data/{5 * PLACES - 1}"
    assert OTHERS in [row["place"] for row in rows]
    assert sum(row["images"] for row in rows) == 5 * PLACES
    assert sum(row["seconds"] for row in rows) == sum(range(5 * PLACES))
