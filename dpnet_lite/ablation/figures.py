"""Pictures of a study: scores with every run, differences with their intervals. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dpnet_lite.ablation.comparisons import NO_DIFFERENCE, Judged, labelled_scores, runs_of
from dpnet_lite.ablation.studies import Study
from dpnet_lite.ablation.table import Row
from dpnet_lite.experiments.intervals import Interval, mean_interval, percent
from dpnet_lite.experiments.plots import BLACK, BLUE, GREEN, ORANGE

VERMILION, _PURPLE, _SKY, _GREY = "#D55E00", "#CC79A7", "#56B4E9", "#767676"  # Okabe and Ito's
# A variant looks the same in every picture: colour, mark and dashes by its name; the others share what is left.
VARIANT_STYLES = {
    "full": (BLACK, "o", "-"),
    "support only": (ORANGE, "s", "-"),
    "training-free": (_GREY, "X", ":"),
    "baseline": (VERMILION, "v", "--"),
    "CCM": (BLUE, "D", "--"),
    "MSF": (GREEN, "P", "-."),
    "CCM + PIM": (_PURPLE, "^", "-."),
}
OTHER_STYLES = tuple(
    zip(
        (_SKY, GREEN, _PURPLE, BLUE, VERMILION, _GREY, ORANGE) * 2,
        "<>*hpd8" * 2,
        ["-", "--", "-.", ":"] * 3 + ["-", "--"],
        strict=True,
    )
)
_MAIN = ("full", "support only")  # drawn thicker
_BOUNDS = ("oracle",)  # variants that no method can reach: drawn on a scale of their own
# By the graded verdict, with p after Holm's correction: colour, mark and its face.
P_STYLES = {
    "ahead, p at most 0.05": (BLUE, "o", BLUE),
    "behind, p at most 0.05": (VERMILION, "s", VERMILION),
    "weak, clear of 0, p above 0.05": (_GREY, "D", "white"),
    "cannot tell, 0 lies inside": (_GREY, "D", _GREY),
}


def study_figures(study: Study, rows: Sequence[Row], judged: Sequence[Judged]) -> dict[str, Figure]:
    """The figures of a report by name: `differences` and `scores`, or `conditions` where there are several."""
    figures = {"differences": differences_figure(judged, several=len(study.conditions) > 1)}
    if len(study.conditions) > 1:
        return figures | {"conditions": conditions_figure(study, rows)}
    return figures | {"scores": scores_figure(study, rows)}


def differences_figure(judged: Sequence[Judged], *, several: bool = False) -> Figure:
    """A row for each comparison: variant minus control with its interval; colour and mark say the verdict.

    Variants that are upper bounds have an axis of their own. `several` conditions are named in the rows.
    """
    bounds = [entry for entry in judged if entry.comparison.variant in _BOUNDS]
    groups = [group for group in ([entry for entry in judged if entry not in bounds], bounds) if group]
    figure, grid = plt.subplots(
        len(groups),
        figsize=(7, 0.8 + 0.55 * len(judged) + 0.6 * len(groups)),
        height_ratios=[len(group) for group in groups],
        layout="constrained",
        squeeze=False,
    )
    for axes, group in zip(grid[:, 0], groups, strict=True):
        for row, entry in enumerate(group):
            _draw_difference(axes, row, entry, several)
        axes.axvline(0, color=BLACK, linewidth=1)
        low, high = axes.get_xlim()
        room = 0.1 * (high - low)  # for the names, left of 0
        axes.set(yticks=[], ylim=(len(group) - 0.5, -0.75), xlim=(low - room, high))
        axes.tick_params(axis="x", labelsize=12)
        axes.spines[["top", "right", "left"]].set_visible(False)
    if len(groups) > 1:
        grid[-1, 0].set_title("an upper bound, on its own scale", loc="left", fontsize=12, style="italic")
    grid[-1, 0].set_xlabel("difference of mIoU, points, with its 95 % interval; p after Holm", fontsize=12)
    name_marks(grid[0, 0], judged)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    return figure


def name_marks(axes: Axes, judged: Sequence[Judged]) -> None:
    """Give the legend of a figure the marks that occur in it."""
    for kind in [kind for kind in P_STYLES if kind in map(kind_of, judged)]:
        colour, mark, face = P_STYLES[kind]
        axes.plot([], [], f"{mark}-", color=colour, markerfacecolor=face, linewidth=2.5, markersize=8, label=kind)


def kind_of(entry: Judged) -> str:
    """Which of `P_STYLES` a comparison gets."""
    ahead, behind, weak, unclear = P_STYLES
    return {"better": ahead, "worse": behind, NO_DIFFERENCE: unclear}.get(entry.graded_verdict, weak)


def _draw_difference(axes: Axes, row: int, entry: Judged, several: bool) -> None:
    pair, name = f"{entry.comparison.variant} minus {entry.comparison.control}", entry.comparison.name
    what = entry.condition if several else "" if name.removeprefix("against ") in pair else name
    p = "p < 0.001" if entry.p_corrected < 0.001 else f"p {entry.p_corrected:.3f}"
    numbers = f"{percent(entry.difference, entry.interval, signed=True)}, {p}"
    style = P_STYLES[kind_of(entry)]
    draw_bar(axes, row, f"{what}: {pair}" if what else pair, numbers, entry.difference, entry.interval, style)


def draw_bar(
    axes: Axes, row: int, what: str, numbers: str, value: float, interval: Interval, style: Sequence[str]
) -> None:
    """A value with its interval as a bar, in percent; above it, at the left, what it is, at the right its numbers.

    `style` is colour, mark and, if it differs, the colour of the mark's face.
    """
    colour, mark, *face = style
    axes.plot([100 * end for end in interval], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot(100 * value, row, mark, color=colour, markerfacecolor=[*face, colour][0], markersize=8)
    for place, side, text in ((0, "left", what), (1, "right", numbers)):
        free = {"facecolor": "white", "edgecolor": "none", "pad": 5}  # no line shines through, none touches
        axes.text(
            place, row - 0.45, text, ha=side, va="center", fontsize=12, transform=axes.get_yaxis_transform(), bbox=free
        )


def scores_figure(study: Study, rows: Sequence[Row]) -> Figure:
    """mIoU of every variant: the mean with its interval, and a dot for every fold and seed."""
    scores = labelled_scores(rows)
    figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.45 * len(study.variants)), layout="constrained")
    for row, variant in enumerate(study.variants):
        runs = list(runs_of(scores, variant.name, study.conditions[0].name).values())
        values = 100 * np.array([run.miou for run in runs])
        low, high = (100 * end for end in mean_interval(runs, resample_runs=True))
        axes.plot(values, np.full(len(values), row + 0.18), ".", color=_GREY, markersize=5, alpha=0.7)
        axes.plot([low, high], [row, row], color=BLUE, linewidth=2.5)
        axes.plot(values.mean(), row, "o", color=BLUE, markersize=8)
    axes.set_yticks(range(len(study.variants)), [variant.name for variant in study.variants], fontsize=11)
    axes.set_ylim(len(study.variants) - 0.5, -0.5)
    axes.set_xlabel("mIoU of novel classes, %: mean with its 95 % interval;\ndots: folds and seeds", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd")
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=11)
    return figure


def conditions_figure(study: Study, rows: Sequence[Row]) -> Figure:
    """mIoU of every variant along the conditions, with intervals; lines differ in colour, mark and dashes.

    A line joins conditions that are steps along one way: a support mask that is moved is another way than one that is
    larger or smaller.
    """
    scores = labelled_scores(rows)
    names = [condition.name for condition in study.conditions]
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    others = iter(OTHER_STYLES * len(study.variants))
    for number, variant in enumerate(study.variants):
        style = VARIANT_STYLES.get(variant.name) or next(others)
        runs = [list(runs_of(scores, variant.name, name).values()) for name in names]
        means = np.array([100 * np.mean([run.miou for run in own]) for own in runs])
        ends = 100 * np.array([mean_interval(own, resample_runs=True) for own in runs])  # [conditions, 2]
        places = np.arange(len(names)) + 0.04 * (number - (len(study.variants) - 1) / 2)
        for way in study.ways:
            draw_line(axes, places[way], means[way], ends[way], style, thick=variant.name in _MAIN)
        draw_line(axes, [], [], np.empty((0, 2)), style, thick=variant.name in _MAIN, label=variant.name)
    axes.set_xticks(range(len(names)), names, fontsize=11, rotation=20 if len(names) > 5 else 0)
    axes.set_ylabel("mIoU of novel classes, %", fontsize=12)
    axes.tick_params(axis="y", labelsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=11)
    return figure


def draw_line(
    axes: Axes,
    places: ArrayLike,
    values: ArrayLike,
    ends: np.ndarray,
    style: tuple[str, str, str],
    *,
    thick: bool = True,
    label: str | None = None,
    face: str | None = None,
) -> None:
    """Values with their intervals `ends` [n, 2], joined by a line; `style` is colour, mark and dashes.

    A bar lies over its mark, so that a short one is seen in a mark with another `face`.
    """
    colour, mark, dashes = style
    axes.errorbar(
        places,
        values,
        np.abs(ends.T - np.asarray(values)),
        color=colour,
        marker=mark,
        linestyle=dashes,
        capsize=3,
        barsabove=True,
        linewidth=2.2 if thick else 1.2,
        markersize=7 if thick else 5,
        markerfacecolor=face or colour,
        label=label,
    )
