"""When the second prototype pays: the difference along a study's conditions, and by facts of the episodes.

from dpnet_lite.course.explorers.payoff import payoff_explorer
payoff_explorer()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dpnet_lite.ablation.figures import OTHER_STYLES, VARIANT_STYLES, VERMILION, draw_line
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.course.analysis.payoff import PRECISION, Along, by_fact, differences_along, facts_of, study_rows
from dpnet_lite.course.analysis.scenes import FACTS
from dpnet_lite.course.analysis.strata import PairedEpisodes, Stratified, overall, paired_ious
from dpnet_lite.course.explorers.shell import Explorer, dropdown
from dpnet_lite.evaluation import Floats
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE

_STUDIES = ("gap", "shots", "label-noise")
_VARIANT, _CONTROL = "full", "support only"
# Differences have styles of their own, by the module they are about; a precision has that of its variant.
_DIFFERENCE_STYLES = {
    "full less support only": VARIANT_STYLES["full"],
    "CCM less baseline": VARIANT_STYLES["CCM"],
    "MSF less baseline": VARIANT_STYLES["MSF"],
    "CCM + PIM less CCM": VARIANT_STYLES["CCM + PIM"],
}


def along_figure(series: Mapping[str, Along], what: str, *, percent: bool = False, zero: bool = True) -> Figure:
    """Lines along the conditions of a study, each with its intervals; they differ in colour, mark and dashes."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    others = iter(OTHER_STYLES * len(series))
    for number, (name, along) in enumerate(series.items()):
        style = {**VARIANT_STYLES, **_DIFFERENCE_STYLES}.get(name) or next(others)
        _line(axes, along, 0.05 * (number - (len(series) - 1) / 2), style, name)
    _finish(axes, what, zero=zero)
    if percent:
        axes.set_ylim(0, 100)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    return figure


def strata_figure(tables: Mapping[str, tuple[Stratified, Sequence[str]]], mean: float) -> Figure:
    """A panel for each fact, two a row: the difference in each stratum with its interval, beside the mean of all."""
    n_rows = -(-len(tables) // 2)
    figure = Figure(figsize=(7.5, 2.7 * n_rows), layout="constrained")
    grid = figure.subplots(n_rows, 2, squeeze=False, sharey=True)
    for axes in grid.flat[len(tables) :]:
        axes.remove()
    for axes, (name, (table, names)) in zip(grid.flat, tables.items(), strict=False):
        _strata(axes, table, names, mean)
        axes.set_title(name, fontsize=12)
    for axes in grid[:, 0]:
        axes.set_ylabel("difference of IoU, points", fontsize=11)
    return figure


def _line(axes: Axes, along: Along, aside: float, style: tuple[str, str, str], name: str | None) -> None:
    values = 100 * along.values
    ends = 100 * np.array(along.intervals)  # [conditions, 2]
    places = np.arange(len(values)) + aside
    for way in along.ways:
        draw_line(axes, places[way], values[way], ends[way], style)
    draw_line(axes, [], [], np.empty((0, 2)), style, label=name)
    axes.set_xticks(range(len(values)), along.conditions, fontsize=11, rotation=25 if len(values) > 5 else 0)


def _finish(axes: Axes, what: str, *, zero: bool) -> None:
    if zero:
        axes.axhline(0, color=BLACK, linewidth=1)
    axes.set_ylabel(what, fontsize=11)
    axes.tick_params(axis="y", labelsize=11)
    axes.spines[["top", "right"]].set_visible(False)


def _strata(axes: Axes, table: Stratified, names: Sequence[str], mean: float) -> None:
    """Points with intervals at a line for 0 and a dashed one for the mean of all; below each its share of episodes."""
    values = np.array([100 * stratum.difference for stratum in table.strata])
    ends = 100 * np.array([stratum.interval for stratum in table.strata])  # [strata, 2]
    axes.axhline(100 * mean, color=ORANGE, linewidth=1.5, linestyle="--")
    reach = np.abs(ends.T - values)
    axes.errorbar(range(len(values)), values, reach, fmt="o", color=BLUE, capsize=4, markersize=7, linewidth=2)
    labels = [f"{name}\n({100 * stratum.share:.0f})" for name, stratum in zip(names, table.strata, strict=True)]
    axes.set_xticks(range(len(values)), labels, fontsize=10)
    axes.set_xlim(-0.5, len(values) - 0.5)
    _finish(axes, "", zero=True)


@lru_cache(maxsize=16)
def _along(study: str) -> Along:
    return differences_along(load_study(study), study_rows(study), _VARIANT, _CONTROL)


@lru_cache(maxsize=32)
def _episodes(study: str, position: int) -> tuple[PairedEpisodes, dict[str, Floats]]:
    condition = load_study(study).conditions[position]
    paired = paired_ious(study_rows(study), _VARIANT, _CONTROL, condition.name)
    return paired, facts_of(paired, condition)


def _payoff_figure(study: str, position: int, fact: str) -> Figure:
    """Left: full less support only along the study, the chosen condition ringed; right: by strata of the fact."""
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    along = _along(study)
    _line(left, along, 0, VARIANT_STYLES["full"], None)
    left.plot(position, 100 * along.values[position], "o", markersize=16, mfc="none", mec=VERMILION, mew=2)
    _finish(left, "difference of mIoU, points", zero=True)
    left.set_title(f"{_VARIANT} less {_CONTROL}", fontsize=12)
    paired, facts = _episodes(study, position)
    table, names = by_fact(paired, facts, fact)
    _strata(right, table, names, overall(paired).difference)
    right.set_ylabel("difference of IoU, points", fontsize=11)
    right.set_title(f"{along.conditions[position]}, by {fact}", fontsize=12)
    right.set_xlabel(f"in brackets: share of episodes, %\nlast less first: {table.verdict}", fontsize=11)
    return figure


def _conditions(study: str) -> list[tuple[str, int]]:
    return [(condition.name, position) for position, condition in enumerate(load_study(study).conditions)]


def payoff_explorer(study: str = _STUDIES[0]) -> Explorer:
    """Choose a study, one of its conditions and a fact of the episodes; see where full is ahead of support only."""
    studies = dropdown("study", _STUDIES, value=study)
    conditions = dropdown("condition", _conditions(study))
    facts = dropdown("strata by", [*FACTS, PRECISION], value=PRECISION)

    def rename(change: Any) -> None:
        conditions.options = _conditions(change["new"])

    studies.observe(rename, names="value")
    alt = "The difference between full and support only along the conditions of a study, and by strata of its episodes"
    return Explorer(_payoff_figure, {"study": studies, "position": conditions, "fact": facts}, alt=alt)
