"""What the explorers' pictures share: panels with images and outlines, maps with a colour bar, and the PNG file."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dpnet_lite.experiments.plots import BLACK, WHITE

SIMILARITY, _SIGNED = "cividis", "PuOr"  # both told apart by colour-blind readers; the second has a neutral middle
DPI = 100  # of every picture: a click on the page is looked up in the figure at the same scale


def new_figure(n_columns: int, n_rows: int = 1, *, width: float, height: float) -> tuple[Figure, Any]:
    """A figure of panels, sizes in inches, and its axes [n_rows, n_columns]; pyplot does not know it."""
    engine = ConstrainedLayoutEngine(h_pad=0.08)  # inches: less would cut the titles at the edge
    figure = Figure(figsize=(width * n_columns, height * n_rows), layout=engine)
    return figure, figure.subplots(n_rows, n_columns, squeeze=False)


def show_image(axes: Axes, picture: np.ndarray, title: str, *, outline: np.ndarray | None = None) -> None:
    """An image [H, W, 3] without ticks; `outline`, a bool mask [H, W], is drawn around."""
    axes.imshow(picture, interpolation="nearest")
    if outline is not None and outline.any() and not outline.all():
        draw_outline(axes, outline)
    _finish(axes, title)


def show_map(
    axes: Axes,
    values: np.ndarray,
    title: str,
    *,
    size: int,
    limits: tuple[float, float] | None = None,
    signed: bool = False,
    colour_bar: bool = True,
) -> None:
    """A map [h, w] stretched over `size` pixels, so that outlines and points of the image fit on it.

    A signed map has a neutral colour at 0, unless `limits` says otherwise. Maps with the same limits need one
    `colour_bar` among them.
    """
    largest = float(np.abs(values).max()) or 1.0
    low, high = limits or ((-largest, largest) if signed else (float(values.min()), float(values.max())))
    image = axes.imshow(
        values,
        cmap=_SIGNED if signed else SIMILARITY,
        interpolation="nearest",
        vmin=low,
        vmax=high,
        extent=(-0.5, size - 0.5, size - 0.5, -0.5),
    )
    _finish(axes, title)
    if colour_bar:
        axes.get_figure().colorbar(image, ax=axes, shrink=0.75, pad=0.02)  # type: ignore[union-attr]


def draw_outline(axes: Axes, mask: np.ndarray) -> None:
    """The border of a bool mask [H, W], seen on any picture."""
    for colour, width in ((BLACK, 3.0), (WHITE, 1.2)):
        axes.contour(mask, levels=[0.5], colors=colour, linewidths=width)


def enlarge(figure: Figure) -> None:
    """Letters that can still be read where the picture is shown at half its width."""
    for axes in figure.axes:
        axes.title.set_fontsize(13)
        axes.xaxis.label.set_fontsize(12)
        axes.yaxis.label.set_fontsize(12)
        axes.tick_params(labelsize=11)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


def cell_centre(cell: tuple[int, int], n_cells: int, size: int) -> tuple[float, float]:
    """(x, y) in pixels of the middle of a feature cell (row, column)."""
    step = size / n_cells
    return (cell[1] + 0.5) * step - 0.5, (cell[0] + 0.5) * step - 0.5


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.set_dpi(DPI)
    # Not by savefig, which draws twice where the figure has, or had, a layout engine.
    FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()
