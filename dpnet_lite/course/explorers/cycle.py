"""The cycle explorer's picture: one support pixel, its nearest query pixel, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from dpnet_lite.course.explorers.panels import cell_centre, draw_outline, new_figure, show_image, show_map
from dpnet_lite.course.opened_episode import EpisodeView, selection_quality
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, WHITE, overlay
from dpnet_lite.model.cycle_comparison import membership


@dataclass(frozen=True)
class Cycle:
    """One way from the support to the query and back; cells are (row, column) of the feature grid."""

    start: tuple[int, int]
    match: tuple[int, int]
    landing: tuple[int, int]
    starts_inside: bool
    lands_inside: bool

    @property
    def accepted(self) -> bool:
        return self.starts_inside and self.lands_inside

    @property
    def verdict(self) -> str:
        if not self.starts_inside:
            return "not asked, the start is outside"
        return "kept, it lands in the mask" if self.lands_inside else "rejected, it lands outside"


def follow_cycle(view: EpisodeView, start: tuple[int, int], shot: int = 0) -> Cycle:
    """The cycle of one support cell of one shot.

    Raises:
        ValueError: the cell lies outside the feature grid, or the head ran without matching.
    """
    height, width = view.trace.query.shape[-2:]
    if not (0 <= start[0] < height and 0 <= start[1] < width):
        raise ValueError(f"cell {start} is outside the grid of {height} x {width}; choose a cell inside")
    if len(view.trace.matches) != len(view.support_masks):
        raise ValueError(f"there are matches of {len(view.trace.matches)} sets of pixels; ask for one per shot")
    matches = view.trace.matches[shot]
    inside = membership(view.trace.support_masks[:, shot].flatten(1))[0]  # [h, w] -> [N_s]
    j = start[0] * width + start[1]
    i = int(matches.forward_match[0, j])
    back = int(matches.backward_match[0, i])
    return Cycle(start, divmod(i, width), divmod(back, width), bool(inside[j]), bool(inside[back]))


def cycle_figure(view: EpisodeView, start: tuple[int, int], shot: int = 0) -> Figure:
    """Support, query, and what is selected, with the cycle of one support cell as arrows.

    Left: the support with the mask's outline, the start (circle) and the landing (square). Middle: the query with
    the match. Right: the weight of each query cell in P_q under the view's selection rule, with its precision and
    recall against the truth. The verdict on the cycle is the plain cycle's; what another rule makes of it is on the
    right.
    """
    cycle = follow_cycle(view, start, shot)
    size, rows = view.query_image.shape[0], view.trace.query.shape[-2]
    figure, grid = new_figure(3, width=3.1, height=3.3)
    left, middle, right = grid[0]
    show_image(left, view.support_images[shot], f"support: {view.class_name}", outline=view.support_masks[shot])
    show_image(middle, view.query_image, f"query: {cycle.verdict}")
    points = [
        cell_centre(cell, n, size) for cell, n in ((cycle.start, rows), (cycle.match, rows), (cycle.landing, rows))
    ]
    for axes, point, marker in ((left, points[0], "o"), (middle, points[1], "D"), (left, points[2], "s")):
        axes.plot(*point, marker, markersize=9, markerfacecolor="none", markeredgecolor=BLACK, markeredgewidth=4)
        axes.plot(*point, marker, markersize=9, markerfacecolor="none", markeredgecolor=WHITE, markeredgewidth=1.5)
    for a, b, first, second, bend in ((left, middle, 0, 1, -0.15), (middle, left, 1, 2, -0.15)):
        _arrow(figure, a, b, points[first], points[second], bend, cycle.accepted)
    weights = view.trace.reliable[0]
    precision, recall = selection_quality(weights, view.truth_shares)
    show_image(
        right,
        overlay(view.query_image, view.selected, BLUE, strength=1.0),
        f"selected: precision {precision:.2f}, recall {recall:.2f}",
        outline=view.truth,
    )
    return figure


def _arrow(figure: Figure, a, b, start, end, bend: float, accepted: bool) -> None:  # type: ignore[no-untyped-def]
    for colour, width in ((BLACK, 3.5), (WHITE if accepted else ORANGE, 1.8)):
        figure.add_artist(
            ConnectionPatch(
                start,
                end,
                "data",
                "data",
                axesA=a,
                axesB=b,
                arrowstyle="-|>",
                mutation_scale=14,
                color=colour,
                linewidth=width,
                linestyle="-" if accepted else "--",
                connectionstyle=f"arc3,rad={bend}",
            )
        )


def similarity_figure(view: EpisodeView, start: tuple[int, int], shot: int = 0) -> Figure:
    """The row of S behind the forward match: cosine of one support cell with every query cell, and its maximum."""
    cycle = follow_cycle(view, start, shot)
    size, (rows, columns) = view.query_image.shape[0], view.trace.query.shape[-2:]
    support = view.trace.support[0, shot].flatten(1).double()  # [C, h, w] -> [C, N_s]
    query = view.trace.query[0].flatten(1).double()  # [C, h, w] -> [C, N_q]
    own = support[:, cycle.start[0] * columns + cycle.start[1]]
    cosines = (own @ query) / (own.norm() * query.norm(dim=0)).clamp_min(1e-12)
    figure, grid = new_figure(3, width=3.1, height=3.0)
    show_image(grid[0, 0], view.support_images[shot], "start in the support", outline=view.support_masks[shot])
    show_image(grid[0, 1], view.query_image, "query")
    show_map(grid[0, 2], cosines.unflatten(0, (rows, columns)).numpy(), "cosine with the start", size=size)
    draw_outline(grid[0, 2], view.truth)
    for axes, cell, marker in (
        (grid[0, 0], cycle.start, "o"),
        (grid[0, 1], cycle.match, "D"),
        (grid[0, 2], cycle.match, "D"),
    ):
        point = cell_centre(cell, rows, size)
        axes.plot(*point, marker, markersize=9, markerfacecolor="none", markeredgecolor=BLACK, markeredgewidth=4)
        axes.plot(*point, marker, markersize=9, markerfacecolor="none", markeredgecolor=WHITE, markeredgewidth=1.5)
    return figure
