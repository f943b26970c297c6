"""The page is well-formed, needs nothing from outside and can be read out."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from experiments.report.page import make_page
from experiments.report.reading import read_run
from tests.experiments.report_run import write_extras, write_run

BOXES = ("scroll", "picture")
VOID = {"meta", "link", "img", "br"}
MANY = [f"a-rather-long-hospital-name-number-{number:02d}" for number in range(22)]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Outline(HTMLParser):
    """Collects elements, and refuses ends that do not fit their beginnings."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module", params=["full", "fedavg", "open", "many"])
def page(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder: Path = tmp_path_factory.mktemp(request.param) / "run"
    if request.param == "full":
        write_extras(write_run(folder))
    elif request.param == "fedavg":
        write_run(folder, strategy="fedavg", rounds=2, failed={"virtual": "no reply"})
    elif request.param == "open":
        write_run(folder, rounds=0, ends=False)
    else:
        write_run(folder, sites=MANY, rounds=12)
    return make_page(read_run(folder))


def test_every_element_is_closed_where_it_was_opened(page: str) -> None:
    assert Outline(page).open == []
    assert page.startswith("<!DOCTYPE html>")


def test_there_is_one_main_heading_and_every_section_has_one(page: str) -> None:
    outline = Outline(page)
    assert len(outline.all("h1")) == 1
    assert len(outline.all("section")) == len(outline.all("h2"))
    headings = {one["id"] for one in outline.all("h2")}
    assert {one["aria-labelledby"] for one in outline.all("section")} == headings


def test_ids_are_unique_and_every_link_leads_to_one(page: str) -> None:
    outline = Outline(page)
    ids = [one["id"] for _, one in outline.found if "id" in one]
    assert len(ids) == len(set(ids))
    assert {f"#{one}" for one in ids} == {one["href"] for one in outline.all("a")}


def test_every_picture_and_chart_is_described_or_hidden(page: str) -> None:
    outline = Outline(page)
    assert all(one.get("alt") for one in outline.all("img"))
    for chart in outline.all("svg"):
        described = chart.get("role") == "img" and chart.get("aria-label")
        assert described or chart.get("aria-hidden") == "true"
    for box in (one for _, one in outline.found if one.get("class") in BOXES):
        assert box["tabindex"] == "0"
        assert box["aria-label"]


def test_the_page_asks_for_nothing_from_outside(page: str) -> None:
    outline = Outline(page)
    policies = [
        one["content"]
        for one in outline.all("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    ]
    assert len(policies) == 1
    assert str(policies[0]).startswith(POLICY)
    for name in ("script", "iframe", "object", "embed", "form", "base", "use"):
        assert not outline.all(name)
    for _, attributes in outline.found:
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href", "srcset", "action", "xlink:href"):
            assert re.match("data:|#|$", attributes.get(key) or "")
    assert not re.search(r"@import|url\(|https?:|//", re.sub("data:[^\"']+", "", page))


def test_the_page_fits_a_phone_and_follows_light_and_dark(page: str) -> None:
    named = {one.get("name"): one.get("content") for one in Outline(page).all("meta")}
    assert named["viewport"] == "width=device-width, initial-scale=1"
    assert named["color-scheme"] == "light dark"
    assert "@media (prefers-color-scheme: dark)" in page


def test_no_coordinate_is_missing_or_endless(page: str) -> None:
    for _, attributes in Outline(page).found:
        values = [attributes.get(key) for key in ("d", "points", "x", "y", "cx", "r")]
        assert not re.search("nan|inf|None", " ".join(filter(None, values)))
