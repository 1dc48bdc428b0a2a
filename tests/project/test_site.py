"""The website: its written pages are in step, it builds, asks no other host for anything, and its explorers answer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import draw_glossary
import pytest
import write_mistakes
from places import ROOT
from test_browser import browser, change_of_picture, keep  # noqa: F401

from dpnet_lite.course.explorers.outcomes import why
from dpnet_lite.course.opened_episode import ToyEpisodes

pytest.importorskip("jupytext", reason="jupytext is not installed (extra: notebooks)")
import measure_minutes
import site_explorers
import slide_deck


def test_common_mistakes_are_in_step_with_the_checks() -> None:
    assert write_mistakes.PAGE.read_text(encoding="utf-8") == write_mistakes.page(), "run `make pages`"
    source = (
        'def check_x(f):\n    """1.1: f."""\n    late = "the first step stands still"\n'
        '    require(a, "return a list of numbers")\n    require(b, f"query {q} is in its own support")\n'
        '    compare(g, w, {late: 1, **_more()}, "it should be 3")\n'
        'def _more():\n    return {"the two ends are exchanged" if a else "one end is missing": 2}\n'
    )
    wanted = ["query ... is in its own support", "the first step stands still", "the two ends are exchanged"]
    ((line, messages),) = write_mistakes.checks(source).values()
    assert (line, sorted(messages)) == ("1.1: f.", ["one end is missing", *wanted])


def test_the_minutes_of_lessons_and_of_the_teaching_page_are_measured() -> None:
    for text in (path.read_text(encoding="utf-8") for path in (ROOT / "notebooks").glob("*.py")):
        found = measure_minutes.measure(text)
        assert measure_minutes.says_so(text, found), f"a lesson should say: {found.line}"
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    assert page == measure_minutes.page(page, measure_minutes.lessons()), "run `make pages`"
    words = "word " * 1750  # with the heading 1758, at 180 a minute 9.8 minutes, and two pictures one more: 10
    source = (
        f"# %% [markdown]\n# {words}\n# ### Exercise 1.1: x (write, easy, 15 minutes)\n# <details>{words}</details>"
    )
    source += '\n\n# %% alt=["a", "b"]\nx = 1\n\n# %% jupyter={"source_hidden": true}\ny = 1\n'
    minutes = measure_minutes.measure(source)
    assert (minutes.pictures, minutes.code_lines, minutes.reading, minutes.total) == (2, 1, 10, 25)


def test_every_term_of_the_glossary_has_its_picture() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    names = re.findall(r"glossary/term_(\w+)\.svg", page)
    assert sorted(names) == sorted(draw_glossary.PICTURES) and page.count("\n### ") == len(names)
    for name, content in draw_glossary.files().items():
        assert (ROOT / "figures" / name).read_text(encoding="utf-8") == content, "run `make figures`"


def test_the_deck_finds_its_pictures_and_a_case_of_the_explorers_is_what_it_is_called(tmp_path: Path) -> None:
    slide_deck.write(tmp_path / "deck")
    toy = ToyEpisodes(n_scenes=60)
    good, failed = (toy.open(episode) for episode in site_explorers.cases_of(toy).values())
    assert good.iou >= 0.7 and failed.iou < 0.5
    assert site_explorers.plain(why(failed)).startswith(f"Failure, IoU {failed.iou:.2f}: the")


@pytest.fixture(scope="module")
def site() -> Path:
    pytest.importorskip("furo", reason="Sphinx is not installed (extra: site)")
    command = [sys.executable, str(ROOT / "tools" / "build_site.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return ROOT / "build" / "site" / "html"


@pytest.mark.slow
@pytest.mark.xdist_group("site")
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 420)])
def test_every_page_has_all_it_asks_for_from_here(browser: Any, site: Path, theme: str, width: int) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
    asked, failed, links, ids = [], [], {}, {}
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    for file in sorted(site.rglob("*.html")):
        page.goto(file.as_uri())
        if page.locator(".math").count():
            page.locator("mjx-container svg").first.wait_for(state="attached")
        ids[file.as_uri()] = set(page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)"))
        links[file.as_uri()] = page.evaluate("[...document.querySelectorAll('a[href]')].map(e => e.href)")
        assert page.locator("img:not([alt]), img[alt='']").count() == 0, f"{file.name}: a picture without words"
        assert page.locator("p", has_text=re.compile(r"\|\s*:?[-\u2013\u2014]")).count() == 0, "a table as text"
        wide = page.evaluate("document.documentElement.scrollWidth") > width
        assert not wide or file.parent.name == "slides", f"{file.name} is wider than the window"
        keep(page, f"site_{theme}_{width}_{file.stem}")
    page.close()
    elsewhere = [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]
    assert elsewhere == [] == failed and len(links) > 40
    for start, address in [(start, address) for start, found in links.items() for address in found]:
        name, _, anchor = address.partition("#")
        if name.startswith("file:") and not anchor.startswith("/"):  # as reveal.js writes the place of a slide
            assert Path(unquote(name.partition("?")[0]).removeprefix("file://")).exists(), f"{start}: {address}"
            assert not anchor or unquote(anchor) in ids.get(name, {unquote(anchor)}), f"{start}: {address}"


@pytest.mark.slow
@pytest.mark.xdist_group("site")
def test_explorers_answer_without_a_kernel_and_the_search_without_a_network(browser: Any, site: Path) -> None:  # noqa: F811
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.goto((site / "explorers.html").as_uri())
    for explorer in page.locator(".explorer").all():
        picture, said = explorer.locator("img"), explorer.locator(".said").inner_text()
        explorer.scroll_into_view_if_needed()
        change_of_picture(page, picture, explorer.get_by_role("button", pressed=False).first.click)
        for slider in explorer.get_by_role("slider").all():
            slider.focus()
            change_of_picture(page, picture, lambda: page.keyboard.press("ArrowRight"))
        page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
        assert explorer.locator(".said").inner_text() != said
    cycle = page.locator(".explorer").first
    cycle.get_by_role("button").first.click()
    place = page.evaluate("JSON.parse(document.querySelector('.explorer script').textContent).states[7].at")
    box = cycle.locator("img").bounding_box()
    cycle.locator("img").click(position={"x": place[0] * box["width"], "y": place[1] * box["height"]})
    assert cycle.get_by_role("slider").input_value() == "7"
    assert "?" in cycle.locator(".said").inner_text() and cycle.locator("table").is_hidden()
    change_of_picture(page, cycle.locator("img"), cycle.get_by_role("button", name="Show the way").click)
    assert re.search("(kept|rejected), .*object|background", cycle.locator(".said").inner_text())
    assert len(cycle.locator("tr").all()) == 4 and cycle.locator("table").is_visible()
    page.goto((site / "search.html").as_uri() + "?q=prototype")
    page.locator("#search-results li").first.wait_for()
    page.close()
