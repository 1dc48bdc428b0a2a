"""A real browser opens JupyterLab as `make lab` does and the page of `make app`, and sees pictures change.

Needs a Chromium on the machine; `.ci/run` installs one and sets DPNET_LITE_NEEDS_BROWSER, which turns the skip into a
failure. DPNET_LITE_SCREENSHOTS names a folder for the pictures of the pages.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_servers import server
from PIL import Image
from places import ROOT

from dpnet_lite.datasets import OBJECTS_CREDIT

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: test)")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
RUN_SECONDS, ATTEMPTS = 240, 3
TOKEN = "browser-test"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        reason = f"none of {', '.join(BROWSERS)} is on the PATH"
        if os.environ.get("DPNET_LITE_NEEDS_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with playwright.sync_playwright() as api:
        # A container has neither a sandbox nor much shared memory.
        chromium = api.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield chromium
        chromium.close()


def keep(page: Any, name: str) -> None:
    """A picture of the page, for people to look at."""
    folder = os.environ.get("DPNET_LITE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def change_of_picture(page: Any, picture: Any, action: Any, *, seconds: int = 30) -> None:
    """`action` must change what the picture shows, within so many seconds."""
    before = picture.get_attribute("src")
    action()
    page.wait_for_function(
        "([image, old]) => image.src !== old", arg=[picture.element_handle(), before], timeout=1000 * seconds
    )


def upload(page: Any, button: str, file: Any) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=button).click()
    chooser.value.set_files(file)


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A new JupyterLab, with no notebook open, on a copy of the notebooks, since it saves what it runs."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    # All cells stay in the page, also those out of sight.
    settings = (
        folder / "jupyter_config_dir/lab/user-settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    )
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')
    options = f"--IdentityProvider.token={TOKEN} --ServerApp.allow_root=True --LabApp.news_url=None"
    with server("lab", options, folder) as address:
        yield address


def open_and_run(page: Any, lab: str, name: str) -> None:
    """Open a notebook, run everything in its new kernel, wait for the last cell, and find no error."""
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text("utf-8"))["cells"]
    total = sum(cell["cell_type"] == "code" for cell in cells)
    page.goto(f"{lab}/lab/tree/notebooks/{name}.ipynb?token={TOKEN}")
    prompts = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)"
    # The cells appear one by one, and a busy machine takes its time.
    page.wait_for_function(f"n => {prompts}.length === n", arg=total, timeout=60_000)
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=60_000)
    # On a busy machine JupyterLab says "idle" too early and drops all cells, or all but the first: the last one has no
    # number then. A person would press once more.
    for _ in range(ATTEMPTS):
        try:
            press_run(page, prompts)
            page.wait_for_function(f"() => !{prompts}.some(text => text.includes('*'))", timeout=1000 * RUN_SECONDS)
        except playwright.TimeoutError:
            continue  # the numbers in sight may still be those of the file
        errors = page.locator("[data-mime-type='application/vnd.jupyter.error']")
        assert errors.count() == 0, errors.all_inner_texts()
        # A late first press and a second one count further than the number of cells.
        if page.evaluate(f"n => Number({prompts}.at(-1).match(/[0-9]+/)) >= n", total):
            return
    raise AssertionError(f"{total} cells, after {ATTEMPTS} attempts: {page.evaluate(prompts)}")


def press_run(page: Any, prompts: str) -> None:
    """Run > Run All Cells, and wait until a cell has started."""
    if page.locator(".jp-Dialog").count():  # a busy machine is late with the kernel, and JupyterLab asks for one
        page.locator(".jp-Dialog .jp-mod-accept").last.click()
    page.get_by_role("menuitem", name="Run", exact=True).click(timeout=10_000)  # that question may also come just now
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click(timeout=10_000)
    page.wait_for_function(f"() => {prompts}.some(text => text.includes('*'))", timeout=20_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "handle"), [("00_start_here", "gap"), ("03_cycle_comparison", "row")], ids=["00", "03"]
)
def test_a_notebook_runs_in_jupyterlab_and_its_explorer_answers(browser: Any, lab: str, name: str, handle: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_and_run(page, lab, name)
    picture = page.locator("img.widget-image, .widget-image img, img.jupyter-widgets").last
    picture.scroll_into_view_if_needed()
    beginning = {"00": "Support images with outlined masks", "03": "A support pixel"}[name[:2]]
    assert any(text.startswith(beginning) and "IoU" in text for text in image_names(page))
    slider = page.locator(".widget-slider", has=page.locator(f"label:text-is('{handle}')")).last

    def move() -> None:
        slider.locator(".noUi-handle").focus()
        page.keyboard.press("ArrowRight")

    change_of_picture(page, picture, move)
    if name.startswith("03"):
        box = picture.bounding_box()
        place = {"x": 0.06 * box["width"], "y": 0.8 * box["height"]}
        change_of_picture(page, picture, lambda: picture.click(position=place))
    keep(page, f"lab_{name[:2]}")
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "control", "value", "seconds"),
    [("11_ablations", "MSF", "off", 300), ("12_when_does_it_pay", "condition", "gap 1", 60)],
    ids=["11", "12"],
)
def test_a_choice_in_a_lesson_on_ablations_changes_its_picture(
    browser: Any, lab: str, name: str, control: str, value: str, seconds: int
) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    open_and_run(page, lab, name)
    picture = page.locator("img.widget-image, .widget-image img, img.jupyter-widgets").last
    picture.scroll_into_view_if_needed()
    choice = page.locator(".widget-dropdown", has=page.locator(f"label:text-is('{control}')")).last.locator("select")
    change_of_picture(page, picture, lambda: choice.select_option(label=value), seconds=seconds)
    alerts = page.locator(".jp-OutputArea [role=alert]:visible")  # those of JupyterLab itself are none of ours
    assert alerts.count() == 0, alerts.all_inner_texts()
    keep(page, f"lab_{name[:2]}")
    page.close()


def image_names(page: Any) -> list[str]:
    """The alternative texts of the pictures in sight, as Chromium hands them to a screen reader."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    return [str(node["name"]["value"]) for node in tree if node.get("role", {}).get("value") == "image"]


def reloading(page: Any) -> None:
    """From now on no picture knows its own size, as at times while a new one loads; then `dataX` and `dataY` are 0."""
    page.evaluate("Object.defineProperty(HTMLImageElement.prototype, 'naturalWidth', {get: () => 0})")
    page.evaluate("Object.defineProperty(HTMLImageElement.prototype, 'naturalHeight', {get: () => 0})")


@pytest.mark.parametrize("width", [1280, pytest.param(420, marks=pytest.mark.slow)])
def test_strokes_arrive_where_the_mouse_was(browser: Any, app: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 1000})
    page.goto(f"{app}/?token={TOKEN}", timeout=120_000)
    page.get_by_role("tab", name="Your images").click()
    page.locator("img.widget-image:visible").nth(1).wait_for(timeout=60_000)
    page.get_by_role("button", name="clear").click()
    painter = page.locator("img.widget-image:visible").first
    painter.scroll_into_view_if_needed()
    reloading(page)
    box = painter.bounding_box()
    wanted = []  # places of the mouse in shares of the picture
    for n in range(5):
        for step in range(12):
            share = (0.3 + 0.04 * step, 0.2 + 0.14 * n + 0.01 * step)
            page.mouse.move(box["x"] + share[0] * box["width"], box["y"] + share[1] * box["height"])
            if step == 0:
                page.mouse.down()
            page.wait_for_timeout(20)
            wanted.append(share)
        page.wait_for_timeout(100)  # the last place goes out late
        page.mouse.up()
    page.get_by_role("button", name="Segment").click()
    link = page.locator("a[download='support_mask.png']")
    link.wait_for(timeout=60_000)
    mask = np.array(Image.open(io.BytesIO(base64.b64decode(link.get_attribute("href").split(",")[1])))) > 0
    rows, columns = mask.nonzero()
    own = np.array(wanted) * mask.shape[::-1]  # (x, y) in pixels
    distance = np.hypot(columns[:, None] - own[:, 0], rows[:, None] - own[:, 1])  # [painted, places]
    brush, spacing = 12, 0.04 * mask.shape[1]
    assert distance.min(axis=1).max() < brush + spacing, "something is painted where the mouse never was"
    assert distance.min(axis=0).max() < 2, "the mouse was where nothing is painted"
    keep(page, f"app_{width}_strokes")
    page.close()


@pytest.mark.parametrize(
    ("theme", "width"), [("light", 1280), pytest.param("dark", 420, marks=pytest.mark.slow)], ids=["light", "dark"]
)
def test_the_page_of_make_app_shows_every_explorer_and_takes_a_click(
    browser: Any, app: str, theme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(f"{app}/?token={TOKEN}&theme={theme}", timeout=120_000)
    tabs = "Episode, Cycle, Gallery, Interaction, Correlations, Scales, Ablation, Luck, Payoff, Your images, Training"
    for tab in tabs.split(", "):
        page.get_by_role("tab", name=tab).click()
        picture = page.locator("img.widget-image:visible, .widget-image:visible img").last
        picture.wait_for(timeout=60_000)
        if tab in ("Episode", "Cycle", "Gallery", "Interaction", "Scales", "Ablation"):
            failure = page.get_by_role("button", name="show a failure").locator("visible=true")
            change_of_picture(page, picture, failure.click)
            page.get_by_text("Failure, IoU").locator("visible=true").first.wait_for()
            if tab != "Gallery":  # its pictures are many; the name comes after the picture and the sentence
                page.wait_for_function("image => /failure, iou/i.test(image.title)", arg=picture.element_handle())
            success = page.get_by_role("button", name="show a success").locator("visible=true")
            change_of_picture(page, picture, success.click)
        assert len(image_names(page)[-1]) > 40
        if tab == "Cycle":
            box = picture.bounding_box()
            place = {"x": 0.06 * box["width"], "y": 0.8 * box["height"]}
            change_of_picture(page, picture, lambda: picture.click(position=place))  # noqa: B023
        if tab in ("Cycle", "Ablation"):
            world = page.locator(".widget-dropdown:visible", has=page.locator("label:text-is('world')"))
            change_of_picture(page, picture, lambda: world.locator("select").select_option(label="photographs"))  # noqa: B023
            page.get_by_text(OBJECTS_CREDIT).locator("visible=true").wait_for()
            assert page.locator("label:text-is('gap'):visible").count() == 0
        if tab == "Your images":
            upload(page, "query image", ROOT / "figures/overview.png")
            page.get_by_text("overview.png is the query now").wait_for()
            page.get_by_role("button", name="Segment").click()
            page.locator("img.widget-image:visible").nth(1).wait_for()  # below the painter; it was hidden
            keep(page, f"app_{theme}_{width}_own")
            large = {"name": "large.png", "mimeType": "image/png", "buffer": bytes(20_100_000)}
            upload(page, "support image", large)
            page.get_by_text("large.png has 20.1 MB; give a file of at most 20 MB").wait_for(timeout=60_000)
            continue
        assert page.locator("[role=alert]:visible").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{tab} is wider than the window"
        keep(page, f"app_{theme}_{width}_{tab.lower()}")
    page.close()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("app")
    shutil.copytree(ROOT / "tools", folder / "tools")
    with server("app", f"--token={TOKEN}", folder) as address:
        yield address
