"""The page, opened in a real browser without a network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.report.page import write_report
from tests.experiments.report_run import write_extras, write_run

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed"
)
CHROMIUM = Path("/usr/bin/chromium")
LEAST_FONT_PX = 9.5
MANY = [f"a-rather-long-hospital-name-number-{number:02d}" for number in range(22)]

# Texts that leave their drawing, or lie on one another in it.
MISPLACED = """() => {
  const wrong = [];
  for (const svg of document.querySelectorAll('svg[role=img]')) {
    const box = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(
      text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([name, one], index) => {
      if (one.left < box.left - 2 || one.right > box.right + 2
          || one.top < box.top - 3 || one.bottom > box.bottom + 3) wrong.push(name);
      for (const [other, two] of texts.slice(index + 1)) {
        const across = Math.min(one.right, two.right) - Math.max(one.left, two.left);
        const down = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
        if (across > 2 && down > 5) wrong.push(name + ' on ' + other);
      }
    });
  }
  return wrong;
}"""
SMALLEST = """() => Math.min(...[...document.querySelectorAll('body *')]
  .filter(one => one.checkVisibility() && [...one.childNodes].some(
    node => node.nodeType === 3 && node.textContent.trim()))
  .map(one => {
    const size = parseFloat(getComputedStyle(one).fontSize);
    const svg = one.closest('svg[role=img]');
    return svg ? size * svg.getBoundingClientRect().width / 360 : size;
  }))"""
LOADED = "() => [...document.images].every(one => one.complete && one.naturalWidth > 0)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    full = write_run(folder / "full")
    write_extras(full)
    many = write_run(folder / "many", sites=MANY, rounds=24)
    fedavg = write_run(folder / "fedavg", strategy="fedavg", rounds=1, ends=False)
    return {run.name: write_report(run) for run in (full, many, fedavg)}


@pytest.mark.parametrize("name", ["full", "many", "fedavg"])
@pytest.mark.parametrize(("width", "scheme"), [(375, "light"), (1200, "dark")])
def test_the_page_opens_quietly_fits_and_can_be_read(
    browser: Any,  # noqa: ANN401 - playwright may be absent
    pages: dict[str, Path],
    name: str,
    width: int,
    scheme: str,
) -> None:
    context = browser.new_context(
        viewport={"width": width, "height": 800}, offline=True, color_scheme=scheme
    )
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    for fold in page.query_selector_all("summary"):
        fold.click()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [
        pages[name].as_uri()
    ]
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(LOADED)
    assert page.evaluate(MISPLACED) == []
    assert page.evaluate(SMALLEST) >= LEAST_FONT_PX
    assert page.locator("h1").is_visible()
    assert all(one.is_visible() for one in page.locator("h2").all())
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(17, 20, 24)") == (scheme == "dark")
    context.close()


def test_a_picture_of_the_full_page_has_its_overlay(
    browser: Any,  # noqa: ANN401 - playwright may be absent
    pages: dict[str, Path],
) -> None:
    page = browser.new_page()
    page.goto(pages["full"].as_uri())
    assert page.locator("#gallery").count() == 1
    assert page.evaluate("() => document.images[0].naturalWidth") == 720
    page.close()
