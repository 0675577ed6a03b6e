"""The report: self-contained, every number labelled, nothing of the user's taken for markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import shohin as sh
from shohin.deploy.layout import Layout, Piece, Stage
from shohin.report import svg

pytest.importorskip("jinja2")


class Balanced(HTMLParser):
    """Fails where tags do not close."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """<line/> opens nothing."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> sh.Shipment:
    sh.seed(0)
    net = sh.nn.Sequential(sh.nn.Linear(6, 8), sh.nn.ReLU(), sh.nn.Linear(8, 3))
    x = np.random.default_rng(0).normal(size=(32, 6)).astype(np.float32)
    return sh.ship(net, x, device="host", flash="1MB", ram="1MB", to=tmp_path_factory.mktemp("r") / "s", name="<b>net</b>", progress=False)


def test_it_is_one_file_whose_tags_close(found: sh.Shipment) -> None:
    path = sh.write_report(found)
    text = path.read_text()
    assert path == found.folder / "report.html"
    page = Balanced()
    page.feed(text)
    assert page.open == []
    assert not re.search(r"<(script|link|img|iframe)|https?://|@import|url\(", text)
    assert "<b>net</b>" not in text and "&lt;b&gt;net&lt;/b&gt;" in text
    said = " ".join("".join(page.text).split())
    best = found.best
    assert best is not None and best.differing is not None
    assert f"0 of {sum(c.compared for c in found.candidates):,}" in said
    assert f"{best.flash.value / 1000:,.1f} kB" in said and "measured" in said and "prefers-color-scheme: dark" in text


def test_every_number_of_the_table_has_its_label(found: sh.Shipment) -> None:
    text = sh.write_report(found).read_text()
    rows = re.findall(r"<tr class.*?</tr>", text, re.DOTALL)
    assert len(rows) == len(found.candidates)
    for row in rows:
        for cell in re.findall(r"<td data-name=.*?</td>", row, re.DOTALL):
            assert 'class="none"' in cell or re.search(r">(measured|emulated|modelled)<", cell)
    for tile in re.findall(r'<div class="tile">.*?</div>', text):
        assert re.search(r">(measured|emulated|modelled)<", tile)


def test_one_that_does_not_fit(found: sh.Shipment, tmp_path: Path) -> None:
    text = sh.write_report(replace(found, budget=sh.search.Budget(flash=10), short=("a needs b",)), tmp_path / "no.html").read_text()
    assert "Nothing fits" in text and "falls short: a needs b" in text and "of 10 bytes" in text


# ------------------------------------------------------------------------------------------------------- pictures


def numbers(text: str, attribute: str) -> list[float]:
    return [float(v) for v in re.findall(rf' {attribute}="(-?[\d.]+)"', text)]


@pytest.mark.parametrize("limit", [None, 10.0, 55.0, 1e9])
def test_dots_lie_inside_and_labels_apart(limit: float | None) -> None:
    rng = np.random.default_rng(0)
    points = [svg.Point(float(x), float(y), k, "fits", "t") for k, (x, y) in enumerate(zip(rng.uniform(1, 60, 9), rng.uniform(0.5, 0.9, 9)), 1)]
    text = svg.scatter(points, x="flash", y="accuracy", limit=limit, percent=True)
    assert all(0 <= v <= 380 for v in numbers(text, "cx")) and all(0 <= v <= 250 for v in numbers(text, "cy"))
    labels = re.findall(r'class="name" x="([\d.]+)" y="([\d.]+)"', text)
    at = np.array([[float(a), float(b)] for a, b in labels])
    assert len(at) == 9 and min(np.hypot(*(a - b)) for k, a in enumerate(at) for b in at[:k]) > 8
    assert ("budget" in text) == (limit in (10.0, 55.0))


def test_one_point_or_equal_ones_have_a_scale() -> None:
    one = svg.Point(5.0, 1.0, 1, "front", "t")
    for points in ([one], [one, replace(one, number=2)], [replace(one, y=float("inf"))]):
        text = svg.scatter(points, x="x", y="y", limit=None, percent=False)
        assert "nan" not in text and ("inf" not in text)
    assert svg.scatter([replace(one, y=float("inf"))], x="x", y="y", limit=None, percent=False) == ""


def test_blocks_of_the_arena_lie_as_they_do_in_memory() -> None:
    steps = tuple(Stage(place=f"l{k}/op", live=n, constants=0) for k, n in enumerate((64, 96, 32)))
    blocks = (Piece(place="l0/op", offset=0, size=64, first=0, last=1), Piece(place="l1/op", offset=64, size=32, first=1, last=2))
    text = svg.arena(Layout(steps=steps, blocks=blocks), 96, None)
    rects = re.findall(r'<rect class="block c\d" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', text)
    (x0, y0, w0, h0), (x1, y1, w1, h1) = ([float(v) for v in r] for r in rects)
    assert x1 == pytest.approx(x0 + w0 / 2, abs=0.2) and w1 == w0 and h0 == pytest.approx(2 * h1, abs=0.2) and y1 + h1 == pytest.approx(y0, abs=0.2)
    assert "peak at l1" in text and svg.arena(Layout(), 0, None) == ""


def test_curves() -> None:
    text = svg.curves([("a", [1.0, 0.5, 0.25]), ("b", [2.0])], y="loss")
    assert text.count("<polyline") == 2 and text.count("<circle") == 4 and svg.curves([("a", [])], y="loss") == ""
