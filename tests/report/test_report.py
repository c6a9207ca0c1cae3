"""The pages are complete, offline, and inert whatever the names in them say."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusterlib.report.content import (
    Cell,
    ClusterView,
    Contact,
    Content,
    MapFacts,
    Rejects,
    TreeNode,
)
from clusterlib.report.points import Points, morton_order, pack
from clusterlib.report.projection import choose_method, project
from clusterlib.report.sheets import atlas_webp, sheet_webp
from clusterlib.report.site import pages, status_pages

SCORES = ("precision", "recall", "f1")
EVIL = """"><script>alert(1)</script><img src=x onerror=alert(1)></script><!--{{7*7}}'"""


def cluster(number: int, text: str, **changes: Any) -> ClusterView:
    pick = {"image_id": text, "uri": text}
    cell = Cell(0, number, text, text, 0.1)
    values: dict[str, Any] = {
        "cluster_id": number,
        "size": 700 - number,
        "share": 0.25,
        "spread": 0.1,
        "silhouette": 0.2,
        "negative_share": 0.25,
        "outliers": 1,
        "name": f"{text} {number}",
        "majority_label": text,
        "majority_share": 0.5,
        "picks": {"nearest": [pick] * 8, "boundary": [pick] * 8, "random": [pick] * 8},
        "contact": Contact({"nearest": 8, "boundary": 8, "random": 8}, (3,)),
        "neighbors": [(1 - number % 2, 0.5)],
        "labels": [(text, 350), ("other", 100)],
        "histogram": [1, 2, 3, 4],
        "more": [cell],
        "outlier_cells": [cell],
        "duplicates": [[text, text]],
        "proposals": [{"name": text, "score": 0.1, "inside": 0.3, "outside": 0.2}],
    }
    return ClusterView(**{**values, **changes})


def content(text: str = "tame", *, clusters: int = 2, **changes: Any) -> Content:
    views = [cluster(number, text) for number in range(clusters)]
    leaf = TreeNode("part, sampled", 5, [0], cells=[Cell(0, 0, text, text, 0.1)])
    nodes = [
        TreeNode(f"Cluster {v.cluster_id}", v.size, [v.cluster_id], [leaf], is_cluster=True)
        for v in views
    ]
    values: dict[str, Any] = {
        "title": text,
        "run_id": "r" * 12,
        "fit_id": "f" * 12,
        "run_uri": text,
        "source": text,
        "encoder": text,
        "finished_at": "2026-01-01",
        "version": "1",
        "rows": sum(view.size for view in views) + 2,
        "embedded": sum(view.size for view in views),
        "k": 4,
        "reason": text,
        "explained": [0.5, 0.25],
        "sweep": [
            {"k": 2, "silhouette": None, "inertia": 9.0, "smallest": 1, "gap": 0.1},
            {"k": 4, "silhouette": 0.3, "inertia": 5.0, "smallest": 1, "gap": 0.2},
        ],
        "clusters": views,
        "rejects": Rejects(
            {"empty": 2},
            {"empty": "the file has no bytes"},
            {"empty": [{"image_id": text, "uri": text, "detail": text, "attempts": 2}]},
            [(text, 2)],
            1,
        ),
        "stages": {"embed_images": {"seconds": 9.0, "placement": text}, "fit_clusters": {}},
        "settings": {"seed": text},
        "reads": [
            {
                "place": text,
                "images": 4,
                "bytes": 2_500_000,
                "retried": 3,
                "seconds": 6.0,
                "slowest_seconds": 4.25,
                "slowest_uri": text,
            }
        ],
        "agreement": {"nmi": 0.5, "ari": 0.4, "purity": 0.75},
        "label_names": [text, "other"],
        "confusion": [[350, 100]] * clusters,
        "label_scores": [
            {
                "label": text,
                "cluster": 1,
                "precision": 0.9,
                "recall": 0.8,
                "f1": 0.85,
                "support": 5,
            },
            {"label": "x", "cluster": -1, "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
        ],
        "variance": [
            {"axis": n + 1, "share": 0.25, "cumulative": 0.25 * (n + 1), "kept": n < 2}
            for n in range(4)
        ],
        "euclidean": {"value": 0.31, "low": 0.28, "high": 0.34, "rows": 2000},
        "tree": TreeNode(f"{clusters} clusters", 9, [v.cluster_id for v in views], nodes),
        "map": MapFacts("pca", 3, 2, 0.1),
    }
    return Content(**{**values, **changes})


def points(text: str = "tame", *, clusters: int = 2) -> Points:
    n = 3 * clusters
    xy_N2 = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    ids = np.arange(n, dtype=np.int32) % clusters
    return Points(xy_N2, ids, np.zeros(n, np.int32), [text], [text] * n, pictures=n)


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


def html_of(text: str) -> dict[str, str]:
    files = dict(pages(content(text), points(text)))
    status = status_pages(
        content(text), problem=text, facts=[(text, text)], states=[(text, text)], pictures=2
    )
    files |= {f"status/{name}": body for name, body in status}
    return {name: body for name, body in files.items() if name.endswith(".html")}


@pytest.fixture(scope="module")
def tame() -> dict[str, str]:
    return html_of("tame")


def test_hostile_text_adds_no_element(tame: dict[str, str]) -> None:
    evil = html_of(EVIL)
    assert evil.keys() == tame.keys()
    for name, html in evil.items():
        found = parse(html)
        assert found.tags == parse(tame[name]).tags, name
        assert not any(key.startswith("on") for key, _ in found.attributes)


def test_the_policy_allows_what_the_pages_hold(tame: dict[str, str]) -> None:
    """No inline script or style, so that the policy can forbid both."""
    for name, html in tame.items():
        found = parse(html)
        assert not [value for key, value in found.attributes if key == "style"], name
        assert "style" not in found.tags
        assert "unsafe" not in html
        for script in re.findall(r"<script[^>]*>", html):
            assert "src=" in script or "application/json" in script
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
        assert policy
        assert policy[1].startswith("default-src 'none'; ")


def test_every_address_is_a_file_of_the_report() -> None:
    files = dict(pages(content(), points()))
    pictures = {"sheets/00000.webp", "sheets/00001.webp", "map/atlas-0000.webp"}
    for name, html in files.items():
        if not name.endswith(".html"):
            continue
        for key, value in parse(html).attributes:
            if key not in ("src", "href") or value is None or value.startswith("#"):
                continue
            path = value.partition("#")[0]
            if name.startswith("clusters/"):
                path = path.removeprefix("../") if path.startswith("../") else f"clusters/{path}"
            assert path in files.keys() | pictures, (name, value)


def test_what_people_look_for_is_there(tame: dict[str, str]) -> None:
    for words in ("1,401", "NMI", "0.500", "75.0 %", "tame 1", 'class="card"'):
        assert words in tame["index.html"]
    quality = tame["quality.html"]
    # silhouette, inertia, gap, variance, knives; no curve for what the sweep does not have
    assert quality.count("<svg") == 5
    assert "Gap statistic" in quality
    assert "Davies" not in quality
    assert "Every image is there exactly once." in quality
    assert "bottleneck of this command was embed images" in quality
    assert "the file has no bytes" in tame["rejected.html"].lower()
    assert "3 of 4 images read took more than one try" in tame["rejected.html"]
    for figure in ("2.5", "6.0", "1,500.0", "4.25"):
        assert f">{figure}</td>" in tame["rejected.html"]
    assert tame["clusters/00000.html"].count("<img") >= 26
    assert "could not be read again" in tame["clusters/00000.html"]


def test_scores_of_newer_fits_are_shown_and_older_fits_have_none(tame: dict[str, str]) -> None:
    quality = tame["quality.html"]
    assert "0.310</b>, 95 % interval 0.280 to 0.340" in quality
    assert "2 axes keep 50%" in quality
    assert re.search(r'00001.html">1</a></td><td class="n">0.900</td>', quality)
    assert ">none</td>" in quality
    older = content(label_scores=(), variance=(), euclidean=None)
    said = dict(pages(older, None))["quality.html"]
    assert "95 % interval" not in said
    assert "2 axes keep 75%" in said  # of the kept axes, which every fit has
    assert older.numbers()["label_scores"] == ()


def test_a_cluster_that_no_image_came_to_has_its_page() -> None:
    empty = cluster(
        1,
        "tame",
        size=0,
        share=0.0,
        picks={"nearest": [], "boundary": [], "random": []},
        histogram=[0, 0, 0, 0],
        labels=[],
        more=[],
        outlier_cells=[],
        duplicates=[],
    )
    found = content(clusters=2)
    files = dict(pages(replace(found, clusters=[found.clusters[0], empty]), points()))
    assert "<b>0</b> images" in files["index.html"]
    assert "Nearest to the centre" not in files["clusters/00001.html"]
    assert "Nearest to the centre" in files["clusters/00000.html"]
    assert "00001.html" in files["tree.html"]


def test_proposals_are_called_so_and_names_take_their_place() -> None:
    view = cluster(0, "tame", name=None)
    files = dict(pages(replace(content(clusters=1), clusters=[view]), None))
    assert "<b>proposed</b> tame" in files["index.html"]
    assert "+0.100" in files["clusters/00000.html"]
    named = dict(pages(content(clusters=1), None))
    assert "<b>proposed</b>" not in named["index.html"]


def test_a_damaged_run_is_called_so() -> None:
    files = dict(pages(content(embedded=5), None))
    assert "do not add up" in files["quality.html"]
    assert "map.html" not in files


def test_without_labels_or_rejects_it_says_less() -> None:
    bare = content(
        agreement=None, label_names=(), confusion=(), tree=None, rejects=Rejects({}, {}, {}, (), 0)
    )
    files = dict(pages(bare, points()))
    assert "NMI" not in files["index.html"]
    assert "None: all" in files["rejected.html"]
    assert "tree.html" not in files


def test_a_tree_deeper_than_any_template_may_recurse() -> None:
    node = TreeNode("Cluster 0", 1, [0], is_cluster=True)
    for depth in range(3000):
        node = TreeNode(f"{depth} clusters", 1, [0, 1], [node])
    html = dict(pages(content(tree=node), points()))["tree.html"]
    assert html.count("<details") == html.count("</details>") == 3000


def test_numbers_are_json_without_places_of_pictures() -> None:
    found = json.loads(json.dumps(content().numbers()))
    assert found["rejected"] == 2
    assert found["clusters"][0]["silhouette"] == 0.2
    assert "more" not in found["clusters"][0]


def thumbnail(color: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def test_a_sheet_has_rows_of_four_cells() -> None:
    red, blue = (np.zeros((*shape, 3), dtype=np.uint8) for shape in ((40, 20), (10, 40)))
    red[..., 0], blue[..., 2] = 255, 255
    empty = np.empty((0, 0, 3), dtype=np.uint8)
    cells = [red, None, empty, empty, blue]
    sheet = Image.open(io.BytesIO(sheet_webp(cells, size=40))).convert("RGB")
    assert sheet.size == (160, 80)
    grey = (228, 228, 228)
    for place, color in {(20, 20): (255, 0, 0), (60, 20): grey, (20, 60): (0, 0, 255)}.items():
        assert sheet.getpixel(place) == pytest.approx(color, abs=24)
    assert sheet.getpixel((100, 20)) == pytest.approx((255,) * 3, abs=8)


def test_a_sheet_gets_cheaper_until_it_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    full = sheet_webp([noise] * 8, size=96)
    small = sheet_webp([noise] * 8, size=96, max_bytes=len(full) // 3)
    assert len(small) <= len(full) // 3


def test_an_atlas_is_always_as_wide_as_its_cells() -> None:
    atlas = Image.open(io.BytesIO(atlas_webp([thumbnail("red", (64, 64))] * 17)))
    assert atlas.size == (1024, 128)


def test_packed_points_keep_their_proportions() -> None:
    import base64

    made = Points(
        np.array([[0, 0], [2, 0], [0, 1]], np.float32),
        np.array([0, 1, -1], np.int32),
        np.array([0, -1, 0], np.int32),
        ["a"],
        ["</script>", "b", "c"],
        pictures=3,
    )
    packed = pack(made)

    def column(name: str) -> list[int]:
        return np.frombuffer(base64.b64decode(packed[name]), "<u2").tolist()

    assert column("x") == [0, 65535, 0]
    assert column("y") == [0, 0, 32768]
    assert column("cluster") == [0, 1, 65535]
    assert json.loads(packed["ids"])[0] == "</script>"


def test_morton_order_keeps_quarters_together() -> None:
    xy_N2 = np.random.default_rng(1).uniform(0, 1, (400, 2)).astype(np.float32)
    xy_N2[:4] = [[0, 0], [1, 1], [0, 1], [1, 0]]
    quarter = (xy_N2[morton_order(xy_N2)] >= 0.5).astype(int) @ [1, 2]
    assert np.count_nonzero(np.diff(quarter)) == 3


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_a_projection_keeps_blobs_apart(method: Any) -> None:
    rng = np.random.default_rng(0)
    z_NP = np.repeat(np.eye(3, 8), 40, axis=0) + 0.05 * rng.normal(size=(120, 8))
    xy_N2 = project(z_NP.astype(np.float32), method=method, seed=0)
    means = xy_N2.reshape(3, 40, 2).mean(axis=1)
    spread = xy_N2.reshape(3, 40, 2).std(axis=1).max()
    gaps = [np.linalg.norm(means[i] - means[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(gaps) > 2 * spread
    assert np.array_equal(xy_N2, project(z_NP.astype(np.float32), method=method, seed=0))


@pytest.mark.parametrize("n", [1, 2, 15])
def test_few_points_are_projected_too(n: int) -> None:
    z_NP = np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)
    assert np.isfinite(project(z_NP, method="tsne", seed=0)).all()


def test_auto_takes_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusterlib.report.projection.find_spec", lambda name: None)
    assert choose_method("auto", points=100) == "tsne"
    assert choose_method("auto", points=100_000) == "pca"
    with pytest.raises(ValueError, match="clusterlib\\[map\\]"):
        choose_method("pacmap", points=10)
