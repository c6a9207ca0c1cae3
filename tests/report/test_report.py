"""The page is complete, offline, and inert whatever the names in it say."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from clusterlib.report.page import Page, render
from clusterlib.report.sheets import sheet_webp

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


def page(text: str, **changes: Any) -> Page:
    pick = {"row_id": 1, "image_id": text, "uri": text}
    cluster = {
        "cluster_id": 3,
        "size": 7,
        "spread": 0.1,
        "silhouette": 0.2,
        "negative_share": 0.25,
        "outliers": 1,
        "majority_label": text,
        "majority_share": 0.5,
        "nearest": [pick, pick],
        "boundary": [pick],
        "random": [pick],
    }
    values: dict[str, Any] = {
        "title": text,
        "run_id": "r" * 12,
        "fit_id": "f" * 12,
        "run_uri": text,
        "source": text,
        "encoder": text,
        "rows": 9,
        "embedded": 7,
        "rejected_by_code": {"empty": 2},
        "code_meanings": {"empty": "the file has no bytes"},
        "rejected_examples": [{"code": "empty", "image_id": text, "detail": text}],
        "k": 4,
        "reason": text,
        "agreement": {"nmi": 0.5, "ari": 0.4, "purity": 0.75},
        "sweep": [
            {"k": 2, "silhouette": None, "inertia": 9.0, "smallest": 1, "largest": 6},
            {"k": 4, "silhouette": 0.3, "inertia": 5.0, "smallest": 1, "largest": 4},
        ],
        "clusters": [cluster],
        "thumbnail_size": 64,
        "settings": {"seed": text},
        "version": "1",
    }
    return Page(**{**values, **changes})


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def parse(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_hostile_text_adds_no_element() -> None:
    tame, evil = parse(render(page("tame"))), parse(render(page(EVIL)))
    assert evil.tags == tame.tags
    assert "script" not in evil.tags
    assert not any(name.startswith("on") for name, _ in evil.attributes)


def test_nothing_is_fetched_from_elsewhere() -> None:
    html = render(page("tame"))
    addresses = re.findall(r'(?:src|href)="([^"#]*)"|url\("?([^")]*)', html)
    local = {a or b for a, b in addresses if a or b}
    assert {"sheets/cluster_00003.webp"} == {a for a in local if not a.startswith("#")}
    assert "default-src 'none'" in html


def test_what_people_look_for_is_there() -> None:
    html = render(page("tame"))
    for words in ("images in the catalogue", "NMI", "0.500", "75.0 %", "empty", "mostly “tame”"):
        assert words in html
    assert html.count("<svg") == 2
    assert html.count('role="img"') == 4


def test_without_labels_or_rejects_it_says_less() -> None:
    html = render(page("tame", agreement=None, rejected_by_code={}, rejected_examples=[]))
    assert "NMI" not in html
    assert "None." in html


def thumbnail(color: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_a_sheet_has_one_cell_a_picture() -> None:
    sheet = Image.open(
        io.BytesIO(
            sheet_webp([thumbnail("red", (20, 40)), None, thumbnail("blue", (40, 10))], size=40)
        )
    ).convert("RGB")
    assert sheet.size == (120, 40)
    for place, color in {
        (20, 20): (255, 0, 0),
        (60, 20): (255,) * 3,
        (100, 20): (0, 0, 255),
    }.items():
        assert sheet.getpixel(place) == pytest.approx(color, abs=24)
    assert sheet.getpixel((2, 20)) == pytest.approx((255,) * 3, abs=8)
