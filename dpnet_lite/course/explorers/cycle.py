"""The cycle explorer's picture: one support pixel, its nearest query pixel, and the way back; and all ways at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch
from torch import Tensor

from dpnet_lite.course.analysis.selections import OUTCOMES, all_cycles
from dpnet_lite.course.explorers.panels import cell_centre, draw_outline, new_figure, show_image, show_map
from dpnet_lite.course.opened_episode import OpenedEpisode, selection_quality
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, WHITE, overlay
from dpnet_lite.model.cycle_comparison import membership
from dpnet_lite.model.prototypes import masks_at

_MARKS = tuple(zip(OUTCOMES, (BLUE, ORANGE, BLUE, ORANGE), ("o", "o", "X", "X"), strict=True))


@dataclass(frozen=True)
class Cycle:
    """One way to the query and back; cells are (row, column) of the feature grid."""

    start: tuple[int, int] | None  # None: only the way back was asked for, and no cell in the mask leads to its match
    match: tuple[int, int]
    landing: tuple[int, int]
    starts_inside: bool
    lands_inside: bool

    @property
    def accepted(self) -> bool:
        """Whether it starts and ends inside the mask."""
        return self.starts_inside and self.lands_inside

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.start is None:
            return f"no cycle here; would land {'inside' if self.lands_inside else 'outside'}"
        if not self.starts_inside:
            return "not counted, it starts outside"
        return "kept, it lands in the mask" if self.lands_inside else "rejected, it lands outside"


def follow_cycle(opened: OpenedEpisode, start: tuple[int, int], shot: int = 0) -> Cycle:
    """The cycle of one support cell of one shot.

    Raises:
        ValueError: the cell lies outside the feature grid, or the head ran without matching.
    """
    j, matches = _checked(opened, start, shot)
    width, inside = opened.trace.query.shape[-1], _inside(opened, shot)
    i = int(matches.forward_match[0, j])
    back = int(matches.backward_match[0, i])
    return Cycle(start, divmod(i, width), divmod(back, width), bool(inside[j]), bool(inside[back]))


def follow_back(opened: OpenedEpisode, match: tuple[int, int], shot: int = 0) -> Cycle:
    """The way back from a query cell; it starts in the first support cell in the mask that leads there, if one does.

    Raises:
        ValueError: as `follow_cycle`.
    """
    i, matches = _checked(opened, match, shot)
    width, inside = opened.trace.query.shape[-1], _inside(opened, shot)
    asking = ((matches.forward_match[0] == i) & inside).nonzero().flatten().tolist()
    back = int(matches.backward_match[0, i])
    return Cycle(
        divmod(asking[0], width) if asking else None, match, divmod(back, width), bool(asking), bool(inside[back])
    )


def _checked(opened: OpenedEpisode, cell: tuple[int, int], shot: int) -> tuple[int, Any]:
    """The number of a cell, and the matches of a shot."""
    height, width = opened.trace.query.shape[-2:]
    if not (0 <= cell[0] < height and 0 <= cell[1] < width):
        raise ValueError(f"cell {cell} is outside the grid of {height} x {width}; choose a cell inside")
    if len(opened.trace.matches) != len(opened.support_masks):
        raise ValueError(f"there are matches of {len(opened.trace.matches)} sets of pixels; ask for one per shot")
    return cell[0] * width + cell[1], opened.trace.matches[shot]


def first_inside(opened: OpenedEpisode, shot: int = 0) -> tuple[int, int]:
    """(row, column) of the middle one of the support cells inside the mask."""
    inside = _inside(opened, shot).nonzero().flatten()
    return divmod(int(inside[len(inside) // 2]), opened.trace.query.shape[-1])


def telling_start(opened: OpenedEpisode, *, failure: bool) -> tuple[int, int]:
    """The start of the kept way that shows best what happened: its match is most on the object, or on another one.

    That of `first_inside` where no way is kept.
    """
    cycles = all_cycles(opened)
    kept = (cycles.shots == 0) & (cycles.outcomes < OUTCOMES.index("rejected, was right"))
    if not kept.any():
        return first_inside(opened)
    others = torch.from_numpy(np.any([np.zeros_like(opened.truth), *opened.others.values()], axis=0))
    shares = (opened.truth_shares - masks_at(others, opened.batch.cells)).flatten()[cycles.matches[kept]]  # [n]
    start = cycles.starts[kept][shares.argmin() if failure else shares.argmax()]
    return divmod(int(start), opened.trace.query.shape[-1])


def _inside(opened: OpenedEpisode, shot: int) -> Tensor:
    """Which support cells belong to the mask, bool [N_s]."""
    return membership(opened.trace.support_masks[:, shot].flatten(1))[0]  # [h, w] -> [N_s]


def cycle_figure(opened: OpenedEpisode, start: tuple[int, int], shot: int = 0, *, from_query: bool = False) -> Figure:
    """Support, query, and what is selected, with the cycle of one support cell as arrows.

    Left: the support with the mask's outline, the start (circle) and the landing (square). Middle: the query with
    the match. Right: the weight of each query cell in P_q under the episode's selection rule, with its precision and
    recall against the truth. The verdict on the cycle is the plain cycle's; what another rule makes of it is on the
    right. With `from_query` the given cell is the match, see `follow_back`.
    """
    cycle = (follow_back if from_query else follow_cycle)(opened, start, shot)
    figure, grid = new_figure(3, width=3.1, height=3.3)
    left, middle, right = grid[0]
    show_image(left, opened.support_images[shot], f"support: {opened.class_name}", outline=opened.support_masks[shot])
    show_image(middle, opened.query_image, f"query: {cycle.verdict}")
    second = (middle, _mark_cell(middle, opened, cycle.match, "D"))
    if cycle.start is not None:
        _arrow(figure, (left, _mark_cell(left, opened, cycle.start, "o")), second, cycle)
    _arrow(figure, second, (left, _mark_cell(left, opened, cycle.landing, "s")), cycle)
    precision, recall = selection_quality(opened.trace.reliable[0], opened.truth_shares)
    show_image(
        right,
        overlay(opened.query_image, opened.selected, BLUE, strength=1.0),
        f"selected: precision {precision:.2f}, recall {recall:.2f}",
        outline=opened.truth,
    )
    return figure


def _mark_cell(axes: Axes, opened: OpenedEpisode, cell: tuple[int, int], marker: str) -> tuple[float, float]:
    """An open mark in the middle of a cell; returns its place."""
    x, y = cell_centre(cell, opened.trace.query.shape[-2], opened.query_image.shape[0])
    for colour, width in ((BLACK, 4), (WHITE, 1.5)):
        axes.plot(x, y, marker, markersize=9, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=width)
    return x, y


def _arrow(
    figure: Figure, start: tuple[Axes, tuple[float, float]], end: tuple[Axes, tuple[float, float]], cycle: Cycle
) -> None:
    for colour, width in ((BLACK, 3.5), (WHITE if cycle.accepted else ORANGE if cycle.starts_inside else "0.7", 1.8)):
        style: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 14, "connectionstyle": "arc3,rad=-0.15"}
        line: dict[str, Any] = {"color": colour, "linewidth": width, "linestyle": "-" if cycle.accepted else "--"}
        (a, place), (b, other) = start, end
        figure.add_artist(ConnectionPatch(place, other, "data", "data", axesA=a, axesB=b, **style, **line))


def similarity_figure(opened: OpenedEpisode, start: tuple[int, int], shot: int = 0) -> Figure:
    """The row of S behind the forward match: cosine of one support cell with every query cell, and its maximum."""
    cycle = follow_cycle(opened, start, shot)
    size, (rows, columns) = opened.query_image.shape[0], opened.trace.query.shape[-2:]
    support = opened.trace.support[0, shot].flatten(1).double()  # [C, h, w] -> [C, N_s]
    query = opened.trace.query[0].flatten(1).double()  # [C, h, w] -> [C, N_q]
    own = support[:, start[0] * columns + start[1]]
    cosines = (own @ query) / (own.norm() * query.norm(dim=0)).clamp_min(1e-12)
    figure, grid = new_figure(3, width=3.1, height=3.0)
    left, middle, right = grid[0]
    show_image(left, opened.support_images[shot], "start in the support", outline=opened.support_masks[shot])
    show_image(middle, opened.query_image, "query")
    show_map(right, cosines.unflatten(0, (rows, columns)).numpy(), "cosine with the start", size=size)
    draw_outline(right, opened.truth)
    for axes, cell, marker in ((left, start, "o"), (middle, cycle.match, "D"), (right, cycle.match, "D")):
        _mark_cell(axes, opened, cell, marker)
    return figure


def cycles_figure(opened: OpenedEpisode) -> Figure:
    """All ways of a one-shot episode: where they start, where they match, where they land; marked by how they end.

    Blue: the match is on the object; orange: it is not. Disc: kept; cross: rejected.
    """
    cycles = all_cycles(opened)
    figure, grid = new_figure(3, width=3.1, height=3.8)
    support = (opened.support_images[0], opened.support_masks[0])
    panels = (
        ("support: where the cycles start", support, cycles.starts),
        ("query: their nearest cells", (opened.query_image, opened.truth), cycles.matches),
        ("support: where they land", support, cycles.landings),
    )
    for axes, (title, (picture, outline), cells) in zip(grid[0], panels, strict=True):
        show_image(axes, picture, title, outline=outline)
        _mark_outcomes(axes, opened, cells, cycles.outcomes)
    counts = cycles.outcomes.bincount(minlength=len(OUTCOMES)).tolist()
    keys = []
    for (name, colour, marker), count in zip(_MARKS, counts, strict=True):
        faces: dict[str, Any] = {"markersize": 8, "markerfacecolor": colour, "markeredgecolor": BLACK}
        keys.append(Line2D([], [], linestyle="", marker=marker, label=f"{name}: {count}", **faces))
    figure.legend(handles=keys, loc="outside lower center", ncols=2, frameon=False, fontsize=14)
    return figure


def _mark_outcomes(axes: Axes, opened: OpenedEpisode, cells: Tensor, outcomes: Tensor) -> None:
    """A mark in the middle of each cell; several ways may share one, then the kept and right ones lie on top."""
    size, (n_rows, n_columns) = opened.query_image.shape[0], opened.trace.query.shape[-2:]
    for number, (_, colour, marker) in reversed(list(enumerate(_MARKS))):
        places = [cell_centre(divmod(int(cell), n_columns), n_rows, size) for cell in cells[outcomes == number]]
        if places:
            x, y = np.array(places).T
            axes.scatter(x, y, s=42, marker=marker, color=colour, edgecolors=WHITE, linewidths=0.8, zorder=3)
