"""The pictures in figures/ are those that `make figures` makes now, and the README shows each with a text."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import draw_glossary
import draw_network
import numpy as np
import pytest
from PIL import Image
from places import ROOT

from dpnet_lite.course.explorers import episode

_spec = importlib.util.spec_from_file_location("make_figures", ROOT / "tools" / "make_figures.py")
make_figures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_figures)

TOLERANCE = 20.0  # of 255, in the patch that differs most: letters and rounding differ a little between machines
PATCH = 16  # pixels along a side


def difference(a: Path, b: Path) -> float:
    """How much the mean colour of a patch differs, where it differs most; 255 for pictures of different sizes."""
    with Image.open(a) as first, Image.open(b) as second:
        if first.size != second.size:
            return 255.0
        small = (max(1, first.width // PATCH), max(1, first.height // PATCH))
        pixels = [np.asarray(p.convert("RGB").resize(small, Image.Resampling.BOX), float) for p in (first, second)]
    return float(np.abs(pixels[0] - pixels[1]).max())


def test_figures_are_those_that_are_made_now(tmp_path):
    shown = {str(path.relative_to(ROOT / "figures")) for path in (ROOT / "figures").rglob("*.*")}
    assert shown == {*make_figures.FIGURES, *draw_network.files(), *draw_glossary.files(), "cycle.gif", "cycle.png"}
    for name, draw in make_figures.FIGURES.items():
        make_figures.save(draw(), tmp_path / name)
        assert (ROOT / "figures" / name).stat().st_size < 350_000
        assert difference(tmp_path / name, ROOT / "figures" / name) < TOLERANCE, f"{name}: run `make figures`"


def test_a_changed_colour_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(episode, "BLUE", episode.GREEN)
    make_figures.overview().savefig(tmp_path / "overview.png", dpi=110)
    assert difference(tmp_path / "overview.png", ROOT / "figures" / "overview.png") > TOLERANCE


def test_a_changed_figure_is_noticed(tmp_path):
    name = next(iter(make_figures.FIGURES))
    with Image.open(ROOT / "figures" / name) as image:
        pixels = np.array(image.convert("RGB"))
    pixels[:, pixels.shape[1] // 2 :] = pixels[:, pixels.shape[1] // 2 :].mean(axis=2, keepdims=True)  # grey half
    Image.fromarray(pixels).save(tmp_path / "grey.png")
    assert difference(tmp_path / "grey.png", ROOT / "figures" / name) > TOLERANCE
    Image.fromarray(pixels[:-10]).save(tmp_path / "cut.png")
    assert difference(tmp_path / "cut.png", ROOT / "figures" / name) == 255


@pytest.mark.parametrize("name", ["network.svg", *make_figures.FIGURES])
def test_the_readme_shows_every_figure_with_a_text(name):
    text = re.search(rf"!\[(.*?)\]\(figures/{name}\)", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert text is not None and len(text.group(1)) > 40
