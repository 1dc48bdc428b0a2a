"""Make the pictures of results in figures/, from the shipped weights and the built-in data alone.

python tools/make_figures.py                # in place
python tools/make_figures.py --out FOLDER   # elsewhere, to compare
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from dpnet_lite.course.explorers.episode import draw_answer
from dpnet_lite.course.explorers.panels import new_figure, show_image
from dpnet_lite.course.opened_episode import ObjectEpisodes, ShownEpisodes, ToyEpisodes

FOLDER = Path(__file__).resolve().parents[1] / "figures"
ROWS = 3


def overview() -> Figure:
    """The first episodes of a list of the drawn world, from support to truth."""
    return _rows(ToyEpisodes(0))


def photographs() -> Figure:
    """The same of the shipped photographs."""
    return _rows(ObjectEpisodes())


def _rows(shown: ShownEpisodes) -> Figure:
    figure, grid = new_figure(5, ROWS, width=2.0, height=2.15)
    for axes, episode in zip(grid, shown.episodes().episodes[:ROWS], strict=True):
        opened = shown.open(episode)
        title = f"support: {opened.class_name}"
        show_image(axes[0], opened.support_images[0], title, outline=opened.support_masks[0])
        draw_answer(axes[1:], opened.query_image, opened.selected, opened.prediction, opened.truth, opened.iou)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {"overview.png": overview, "photographs.jpg": photographs}
JPEG = {"quality": 88, "subsampling": 0, "optimize": True, "progressive": True}  # a third of a PNG, and looks the same


def save(figure: Figure, path: Path) -> None:
    """Write a picture, as PNG or JPEG by its name."""
    figure.savefig(
        path, dpi=110, **({"pil_kwargs": JPEG} if path.suffix == ".jpg" else {"metadata": {"Software": None}})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the pictures of the README.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        save(draw(), args.out / name)
        print(f"made {name}")


if __name__ == "__main__":
    main()
