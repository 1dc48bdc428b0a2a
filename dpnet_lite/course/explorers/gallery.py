"""Pictures of many selections: a table of tiles, cases from support to mask, and all cycles of one episode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from dpnet_lite.course.analysis.selections import OUTCOMES, all_cycles
from dpnet_lite.course.explorers.panels import cell_centre, new_figure, show_image
from dpnet_lite.course.opened_episode import EpisodeView, selection_quality
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, WHITE, overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKS = tuple(zip(OUTCOMES, (BLUE, ORANGE, BLUE, ORANGE), ("o", "o", "X", "X"), strict=True))


def precision_of(view: EpisodeView) -> float:
    """Share of the selection's weight that lies on the object, in [0, 1]."""
    return selection_quality(view.trace.reliable[0], view.truth_shares)[0]


def tiles_figure(rows: Sequence[Sequence[EpisodeView]], row_names: Sequence[str]) -> Figure:
    """A query with its selected pixels for each view, in rows with names; the outline is the truth.

    Raises:
        ValueError: the rows differ in length, or there are not as many names.
    """
    if len({len(row) for row in rows}) != 1 or len(rows) != len(row_names):
        sizes = ", ".join(str(len(row)) for row in rows)
        raise ValueError(
            f"rows have {sizes} views and {len(row_names)} names; give rows of one length, a name for each"
        )
    figure, grid = new_figure(len(rows[0]), len(rows), width=1.4, height=1.75)
    for views, name, line in zip(rows, row_names, grid, strict=True):
        for view, axes in zip(views, line, strict=True):
            _selection(axes, view, f"{view.class_name}\nprecision {precision_of(view):.2f}")
        line[0].set_ylabel(name, fontsize=12)
    return figure


def cases_figure(views: Sequence[EpisodeView]) -> Figure:
    """A column for each view: its first support with the mask, the selection in the query, and the predicted mask."""
    figure, grid = new_figure(len(views), 3, width=1.45, height=1.7)
    for view, (support, selected, predicted) in zip(views, grid.T, strict=True):
        show_image(support, view.support_images[0], view.class_name, outline=view.support_masks[0])
        _selection(selected, view, f"precision {precision_of(view):.2f}")
        painted = overlay(view.query_image, view.prediction, ORANGE)
        show_image(predicted, painted, f"IoU {view.iou:.2f}", outline=view.truth)
    for axes, name in zip(grid[:, 0], ("support", "selected pixels", "predicted mask"), strict=True):
        axes.set_ylabel(name, fontsize=12)
    return figure


def cycles_figure(view: EpisodeView) -> Figure:
    """All ways of a one-shot episode: where they start, where they match, where they land; marked by how they end.

    Blue: the match is on the object; orange: it is not. Disc: kept; cross: rejected.
    """
    cycles = all_cycles(view)
    figure, grid = new_figure(3, width=3.1, height=3.5)
    support = (view.support_images[0], view.support_masks[0])
    panels = (
        ("support: where the ways start", support, cycles.starts),
        ("query: their nearest cells", (view.query_image, view.truth), cycles.matches),
        ("support: where they land", support, cycles.landings),
    )
    for axes, (title, (picture, outline), cells) in zip(grid[0], panels, strict=True):
        show_image(axes, picture, title, outline=outline)
        _mark(axes, view, cells, cycles.outcomes)
    counts = cycles.outcomes.bincount(minlength=len(OUTCOMES)).tolist()
    keys = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=marker,
            markersize=8,
            markerfacecolor=colour,
            markeredgecolor=BLACK,
            label=f"{name}: {count}",
        )
        for (name, colour, marker), count in zip(MARKS, counts, strict=True)
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    return figure


def _selection(axes: Axes, view: EpisodeView, title: str) -> None:
    show_image(axes, overlay(view.query_image, view.selected, BLUE, strength=1.0), title, outline=view.truth)


def _mark(axes: Axes, view: EpisodeView, cells: Tensor, outcomes: Tensor) -> None:
    """A mark in the middle of each cell; several ways may share one, then the kept and right ones lie on top."""
    size, (n_rows, n_columns) = view.query_image.shape[0], view.trace.query.shape[-2:]
    for number, (_, colour, marker) in reversed(list(enumerate(MARKS))):
        places = [cell_centre(divmod(int(cell), n_columns), n_rows, size) for cell in cells[outcomes == number]]
        if places:
            x, y = np.array(places).T
            axes.scatter(x, y, s=42, marker=marker, color=colour, edgecolors=WHITE, linewidths=0.8, zorder=3)
