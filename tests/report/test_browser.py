"""The report in a real browser, from disk: search, cluster page, tree, map, hostile names.

The small ones run wherever Chromium is installed. `make test-browser` makes the demo's report and
drives that too; it writes the README's screenshots.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clusterlib.report.points import Points
from clusterlib.report.sheets import atlas_webp, sheet_webp
from clusterlib.report.site import pages, status_pages
from tests.conftest import ROOT, wait_for
from tests.report.browser import chromium, executable, open_page
from tests.report.test_report import EVIL, content

pytestmark = pytest.mark.skipif(executable() is None, reason="Chromium is not installed")

CLUSTERS, POINTS = 12, 600
WIDTHS = (360, 1280, 2560)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("report"), "tame")


def write(folder: Path, text: str) -> Path:
    """A report with every kind of page and real picture files."""
    rng = np.random.default_rng(0)
    cluster_N = np.sort(np.arange(POINTS, dtype=np.int32) % CLUSTERS)
    angle_N = 2 * np.pi * cluster_N / CLUSTERS
    xy_N2 = np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1) * 5
    xy_N2 = (xy_N2 + rng.normal(size=(POINTS, 2))).astype(np.float32)
    xy_N2[-1] = 400  # one far out
    labels = np.zeros(POINTS, np.int32)
    ids = [f"{text} {n}" for n in range(POINTS)]
    found = Points(xy_N2, cluster_N, labels, [text], ids, pictures=POINTS)
    for path, body in pages(content(text, clusters=CLUSTERS), found):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(body, encoding="utf-8")
    for name in ("sheets", "map"):
        (folder / name).mkdir()
    for number in range(CLUSTERS):
        cells = [np.full((48, 48, 3), color_of(number), dtype=np.uint8)] * 24
        (folder / f"sheets/{number:05d}.webp").write_bytes(sheet_webp(cells, size=48))
    for number in range(-(-POINTS // 256)):
        part = cluster_N[number * 256 : (number + 1) * 256]
        data = atlas_webp([square(int(n)) for n in part])
        (folder / f"map/atlas-{number:04d}.webp").write_bytes(data)
    return folder


def color_of(number: int) -> tuple[int, ...]:
    return tuple(int(v) for v in np.random.default_rng(number).integers(40, 220, 3))


def square(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (48, 48), color_of(number)).save(buffer, "WEBP")
    return buffer.getvalue()


def shown(page: Any) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        ".card", "cards => cards.filter(c => !c.hidden).map(c => c.dataset.id)"
    )
    return found


def settled(page: Any, place: Any) -> tuple[float, float]:
    """Where a point lies once no input is under way any more."""
    before = None
    while before != (now := place()):
        before = now
        page.wait_for_timeout(120)
    return now


def until(page: Any, condition: str) -> None:
    """Wait for a JavaScript condition; the page's policy forbids Playwright's own way, by eval."""
    wait_for(lambda: bool(page.evaluate(condition)), seconds=30, what=condition)


def test_search_and_sort(browser: Any, report: Path) -> None:
    with open_page(browser, report) as page:
        assert len(shown(page)) == CLUSTERS
        page.keyboard.press("/")
        page.keyboard.type("tame 11")
        assert shown(page) == ["11"]
        assert page.text_content("#count") == f"1 of {CLUSTERS}"
        page.fill("#find", "")
        page.select_option("#sort", "size-up")
        assert shown(page)[0] == str(CLUSTERS - 1)
        page.click(".card >> nth=0 >> .cover")
        assert page.url.endswith("clusters/00011.html")
        until(page, f"document.querySelector('.sheet img')?.naturalWidth == {4 * 48}")
        page.keyboard.press("ArrowLeft")
        page.wait_for_url("**/clusters/00010.html")


def test_the_tree_opens(browser: Any, report: Path) -> None:
    with open_page(browser, report, "tree.html") as page:
        assert page.locator(".tree details[open]").count() == 1
        page.click(
            ".tree details details >> nth=3 >> summary >> .branch", position={"x": 90, "y": 8}
        )
        assert page.locator(".tree details[open]").count() == 2
        page.click(".tree details details >> nth=3 >> summary a")
        assert page.url.endswith("clusters/00003.html")


def test_the_map_zooms_to_pictures_hovers_and_opens(browser: Any, report: Path) -> None:
    with open_page(browser, report, "map.html", width=360) as page:
        until(page, "document.getElementById('map').dataset.painted")
        assert page.evaluate("document.getElementById('map').dataset.pictures") == "0"
        point = 3 * POINTS // CLUSTERS + 5
        box = page.locator("#map").bounding_box()

        def place() -> tuple[float, float]:
            x, y = page.evaluate(f"clusterMap.place({point})")
            return box["x"] + x, box["y"] + y

        page.mouse.move(*place())
        for _ in range(12):
            page.mouse.wheel(0, -240)
        until(page, "Number(document.getElementById('map').dataset.pictures) > 0")
        page.click("#reset")
        page.mouse.move(*place())
        page.mouse.wheel(0, -1500)
        before = settled(page, place)
        page.mouse.move(*before)
        page.mouse.down()
        page.mouse.move(before[0] + 30, before[1] + 20, steps=3)
        page.mouse.up()
        after = (before[0] + 30, before[1] + 20)
        assert settled(page, place) == pytest.approx(after, abs=1.5)
        assert page.url.endswith("map.html"), "a drag is no click"
        page.mouse.move(*place())
        assert page.is_visible("#hover")
        assert page.text_content("#hover-id") == f"tame {point}"
        assert page.evaluate("document.getElementById('hover-picture').src").endswith(".webp")
        page.mouse.click(*place())
        page.wait_for_url("**/clusters/00003.html")


def test_the_map_by_keyboard(browser: Any, report: Path) -> None:
    with open_page(browser, report, "map.html") as page:
        page.focus("#map")
        before = page.evaluate("clusterMap.place(0)")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("clusterMap.place(0)")[0] == pytest.approx(before[0] - 60, abs=1)
        page.keyboard.press("+")
        assert page.is_visible("#hover")
        page.keyboard.press("Enter")
        page.wait_for_url("**/clusters/*.html")


def test_without_scripts_pictures_and_numbers_are_there(browser: Any, report: Path) -> None:
    with open_page(browser, report, script=False) as page:
        assert page.locator(".card").count() == CLUSTERS
        assert not page.is_visible("#tools")
        page.click(".card >> nth=2 >> .cover")
        assert page.locator(".cell img").count() >= 24
    with open_page(browser, report, "map.html", script=False) as page:
        assert page.is_visible("noscript a")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_is_wider_than_the_window(browser: Any, report: Path, width: int) -> None:
    for name in ("index", "quality", "rejected", "tree", "map", "clusters/00000"):
        with open_page(browser, report, f"{name}.html", width=width) as page:
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name


def test_hostile_names_do_nothing(browser: Any, tmp_path: Path) -> None:
    evil = write(tmp_path, EVIL)
    for name in ("index", "quality", "rejected", "tree", "map", "clusters/00000"):
        with open_page(browser, evil, f"{name}.html") as page:
            assert page.evaluate("document.querySelectorAll('img[src=x], [onerror]').length") == 0
            if name == "map":
                page.focus("#map")
                page.keyboard.press("+")
                assert EVIL in page.text_content("#hover-id")


def test_the_policy_stops_what_would_get_in(browser: Any, report: Path) -> None:
    page = browser.new_page()
    page.goto((report / "index.html").as_uri())
    page.evaluate(
        """() => {
          const script = document.createElement('script');
          script.textContent = 'window.ran = 1';
          document.body.append(script);
          document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.ran = 2">');
        }"""
    )
    page.wait_for_timeout(200)
    assert page.evaluate("typeof window.ran") == "undefined"
    page.close()


def test_an_unfinished_run_has_a_page(browser: Any, tmp_path: Path) -> None:
    for path, body in status_pages(
        content(), problem="p", facts=[("a", "1")], states=[("fit", "not done")], pictures=0
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(body)
    with open_page(browser, tmp_path) as page:
        assert "not finished" in page.text_content("main")


@pytest.mark.browser
def test_the_demo_looks_as_the_readme_shows(browser: Any, tmp_path: Path) -> None:
    """Drives every page of the newest demo run, and writes the README's pictures."""
    latest = json.loads((ROOT / "runs/demo/latest.json").read_text())
    demo = Path(latest["report"]).parent
    for name in ("index", "quality", "rejected", "tree", "map", "clusters/00000"):
        for width in WIDTHS:
            for scheme in ("light", "dark"):
                with open_page(browser, demo, f"{name}.html", width=width, scheme=scheme) as page:
                    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for name, scheme in (("index", "light"), ("map", "dark")):
        with open_page(browser, demo, f"{name}.html", scheme=scheme) as page:
            page.wait_for_timeout(500)
            page.screenshot(path=str(ROOT / f"tests/report/demo_{name}.png"))


def test_a_point_far_out_does_not_squeeze_the_map(browser: Any, report: Path) -> None:
    with open_page(browser, report, "map.html") as page:
        until(page, "document.getElementById('map').dataset.painted")
        xs, ys = page.evaluate(
            "() => { const p = [...Array(clusterMap.count - 1).keys()].map(clusterMap.place);"
            " return [p.map(v => v[0]), p.map(v => v[1])]; }"
        )
        box = page.locator("#map").bounding_box()
        assert min(*xs, *ys) >= 0
        assert max(xs) <= box["width"]
        assert max(ys) <= box["height"]
        assert max(ys) - min(ys) > 0.6 * box["height"]
