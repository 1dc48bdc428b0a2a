"""Draw figures/cycle.gif, one cycle that is kept and one that is rejected, and figures/cycle.png, the same for print.

    python tools/draw_cycle.py               # in place
    python tools/draw_cycle.py --out FOLDER  # elsewhere

Both cycles are of one episode of the drawn world, as the shipped head matches it. The world knows what lies in every
cell, so it is asserted that the rejected match lies on another object, and that the way back ends on another one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dpnet_lite.course.analysis.selections import all_cycles
from dpnet_lite.course.explorers.cycle import Cycle, follow_cycle
from dpnet_lite.course.explorers.episode import toy_episodes
from dpnet_lite.course.opened_episode import OpenedEpisode, ToyEpisodes
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, WHITE

FOLDER = Path(__file__).resolve().parents[1] / "figures"
FOLD, GAP, NUMBER = 2, 0.3, 3  # in a list of 40: a heart, and two stars with the same scales in the query
PANEL, EDGE, BETWEEN, TOP, BOTTOM = 300, 14, 44, 44, 58  # pixels of a frame
KEY = 46  # more pixels below each row of the strip, for the steps in words
WIDTH, HEIGHT, DPI = 2 * (PANEL + EDGE) + BETWEEN, TOP + PANEL + BOTTOM, 100
COLOURS = 160
MOVES = (0.25, 0.5, 0.75)  # of the way, in the frames between two stops
STOP, LAST, MOVE = 2200, 3200, 120  # milliseconds
Cell = tuple[int, int]
Point = tuple[float, float]


class Case(NamedTuple):
    """One cycle, and what lies where it matches and where it lands: a class, or -1 for the background."""

    cycle: Cycle
    match: int
    landing: int


def opened_case() -> tuple[ToyEpisodes, OpenedEpisode]:
    """The world and the episode that are drawn."""
    toy = toy_episodes(FOLD, GAP)
    return toy, toy.open(toy.episodes(count=40, seed=0).episodes[NUMBER])


def cases(toy: ToyEpisodes, opened: OpenedEpisode) -> tuple[Case, Case]:
    """The first clear cycle that is kept, and the first that leads from the class over other objects."""
    support, query, own = opened.episode.support[0], opened.episode.query, opened.episode.class_index
    width = opened.trace.query.shape[-1]
    kept, rejected = [], []
    for start in all_cycles(opened).starts.tolist():
        cycle = follow_cycle(opened, divmod(start, width))
        seen = [(support, cycle.start), (query, cycle.match), (support, cycle.landing)]
        shown = [_only_class(toy.world[image].labels, cell, width) for image, cell in seen]
        if None in shown:
            continue
        case = Case(cycle, *shown[1:])
        if shown == [own] * 3 and _apart(cycle) >= 3:
            kept.append(case)
        elif shown[0] == own and min(shown[1:]) >= 0 and own not in shown[1:]:
            rejected.append(case)
    assert kept and rejected, "the episode has no clear cycle of each kind; choose another"
    assert kept[0].cycle.accepted and not rejected[0].cycle.accepted
    return kept[0], rejected[0]


def _apart(cycle: Cycle) -> int:
    """Cells between start and landing."""
    return max(abs(a - b) for a, b in zip(cycle.start, cycle.landing, strict=True))


def _only_class(labels: Tensor, cell: Cell, n_cells: int) -> int | None:
    """The class that fills a cell, -1 for the background; None where it shows several."""
    step = labels.shape[0] // n_cells
    row, column = cell
    shown = labels[row * step : (row + 1) * step, column * step : (column + 1) * step].unique()
    return int(shown[0]) - 1 if len(shown) == 1 else None


def captions(toy: ToyEpisodes, case: Case) -> tuple[str, str, str, str]:
    """What is said at the start, at the match, at the landing, and of the end."""
    steps = ("1  start: a cell of the object", "2  its nearest query cell", "3  that cell's nearest support cell")
    if case.cycle.accepted:
        return (*steps, "lands in the mask: the query cell is kept")
    match, landing = (toy.class_names[found] for found in (case.match, case.landing))
    assert match == landing, "the captions say that both lie on the same kind of object"
    return (steps[0], f"2  its nearest query cell: on a {match}", steps[2], f"lands on a {landing}: rejected")


class Sheet:
    """Support and query side by side, in pixels from the top left corner."""

    def __init__(self, axes: Axes, opened: OpenedEpisode, left: float = 0, top: float = 0) -> None:
        self.axes, self.cells = axes, opened.trace.query.shape[-1]
        self.corners = [(left + EDGE, top + TOP), (left + EDGE + PANEL + BETWEEN, top + TOP)]
        for (x, y), picture in zip(self.corners, (opened.support_images[0], opened.query_image), strict=True):
            axes.imshow(picture, extent=(x, x + PANEL, y + PANEL, y), interpolation="nearest")
        x, y = self.corners[0]
        places = (np.arange(picture.shape[0]) + 0.5) * PANEL / picture.shape[0]
        for colour, width in ((BLACK, 3.5), (WHITE, 1.6)):
            mask = opened.support_masks[0]
            axes.contour(x + places, y + places, mask, levels=[0.5], colors=colour, linewidths=width)
        for (x, y), name in zip(self.corners, (f"support: {opened.class_name}", "query"), strict=True):
            axes.text(x, y - 12, name, fontsize=14, weight="bold")

    def place(self, panel: int, cell: Cell) -> Point:
        """The middle of a cell."""
        (x, y), step = self.corners[panel], PANEL / self.cells
        return x + (cell[1] + 0.5) * step, y + (cell[0] + 0.5) * step

    def stop(self, panel: int, cell: Cell, number: int, colour: str) -> None:
        """A numbered disc on a cell."""
        x, y = self.place(panel, cell)
        self.axes.plot(x, y, "o", markersize=16, color=colour, markeredgecolor=BLACK, markeredgewidth=1.5, zorder=5)
        ink = BLACK if colour == WHITE else WHITE if colour == BLUE else BLACK
        self.axes.text(
            x, y, str(number), fontsize=11, weight="bold", color=ink, ha="center", va="center_baseline", zorder=6
        )

    def way(self, start: Point, end: Point, share: float, colour: str, dashed: bool) -> None:
        """The first `share` of a bent arrow; the way to the query bends up, the way back down."""
        t = np.linspace(0, share, 40)[:, None]
        a, b = np.array(start), np.array(end)
        bend = (a + b) / 2 + np.array([0, -60 if b[0] > a[0] else 60])
        points = (1 - t) ** 2 * a + 2 * t * (1 - t) * bend + t**2 * b
        length = np.linalg.norm(points - b, axis=1)
        points = points[length > 14] if share == 1 else points  # the head ends at the disc
        for line, width in ((BLACK, 4.5), (colour, 2.4)):
            style = (0, (3, 1.5)) if dashed and line != BLACK else "-"
            self.axes.plot(*points.T, color=line, linewidth=width, linestyle=style, zorder=3, solid_capstyle="round")
        head = {
            "arrowstyle": "-|>",
            "mutation_scale": 18,
            "facecolor": colour,
            "edgecolor": BLACK,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        self.axes.annotate("", points[-1] + 6 * _unit(points[-1] - points[-3]), points[-3], arrowprops=head, zorder=4)

    def draw(self, case: Case, progress: float) -> None:
        """A cycle up to a place: 0 the start, 1 the match, 2 the landing, 3 with its verdict."""
        cycle, decided = case.cycle, progress == 3
        colour = (BLUE if cycle.accepted else ORANGE) if decided else WHITE
        stops = [(0, cycle.start), (1, cycle.match), (0, cycle.landing)]
        for leg in (0, 1):
            share = min(1.0, progress - leg)
            if share > 0:
                ends = [self.place(*stops[leg]), self.place(*stops[leg + 1])]
                self.way(*ends, share, colour, decided and not cycle.accepted)
        for number, (panel, cell) in enumerate(stops):
            if progress >= number:
                self.stop(panel, cell, number + 1, colour)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """An empty figure whose axes count pixels."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=WHITE)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    return figure, axes


def finished(figure: Figure, axes: Axes, width: int, height: int) -> Image.Image:
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_aspect("auto")
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    return Image.fromarray(np.asarray(drawn.buffer_rgba())).convert("RGB")


def frames() -> Iterator[tuple[Image.Image, int]]:
    """The frames of the GIF and for how many milliseconds each is shown."""
    toy, opened = opened_case()
    for case in cases(toy, opened):
        said = captions(toy, case)
        for stop in range(4):
            moves = [stop - 1 + share for share in MOVES] if stop in (1, 2) else []
            for progress in (*moves, stop):
                figure, axes = canvas(WIDTH, HEIGHT)
                Sheet(axes, opened).draw(case, progress)
                axes.text(EDGE, HEIGHT - 20, said[stop], fontsize=16, weight="bold" if stop == 3 else "normal")
                shown = MOVE if progress != stop else LAST if stop == 3 else STOP
                yield finished(figure, axes, WIDTH, HEIGHT), shown


def strip() -> Image.Image:
    """Both cycles as they end, under each other, for print."""
    toy, opened = opened_case()
    height = HEIGHT + KEY
    figure, axes = canvas(WIDTH, 2 * height)
    for row, case in enumerate(cases(toy, opened)):
        *steps, end = captions(toy, case)
        Sheet(axes, opened, top=row * height).draw(case, 3)
        for line, words in enumerate((f"{steps[0]}    {steps[1]}", steps[2])):
            axes.text(EDGE, row * height + TOP + PANEL + 24 + 24 * line, words, fontsize=13)
        axes.text(EDGE, (row + 1) * height - 24, end, fontsize=16, weight="bold")
    return finished(figure, axes, WIDTH, 2 * height)


def reduced(image: Image.Image, sample: Image.Image) -> Image.Image:
    """An image in the colours of a sample; those that mean something stay as they are."""
    few = sample.quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    fixed = [round(255 * channel) for colour in (BLUE, ORANGE, BLACK, WHITE) for channel in to_rgb(colour)]
    few.putpalette((few.getpalette() or [])[: 3 * COLOURS] + fixed)
    return image.quantize(palette=few, dither=Image.Dither.NONE)


def save(folder: Path) -> None:
    """Write both files; all frames in the colours of the strip."""
    sample = strip()
    made = list(frames())
    first, *rest = (reduced(image, sample) for image, _ in made)
    times = [milliseconds for _, milliseconds in made]
    first.save(folder / "cycle.gif", save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    reduced(sample, sample).save(folder / "cycle.png", optimize=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw two cycles, one kept and one rejected.")
    parser.add_argument("--out", type=Path, default=FOLDER)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    save(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
