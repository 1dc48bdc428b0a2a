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

from dpnet_lite.ablation.comparisons import Judged
from dpnet_lite.ablation.figures import P_STYLES, VERMILION, draw_bar, draw_line, kind_of, name_marks
from dpnet_lite.ablation.studies import Study, load_study
from dpnet_lite.course.analysis.payoff import PRECISION, by_fact, facts_of, judged_along, study_rows
from dpnet_lite.course.analysis.scenes import FACTS
from dpnet_lite.course.analysis.strata import PairedEpisodes, Stratified, paired_ious
from dpnet_lite.course.explorers.shell import Explorer, dropdown
from dpnet_lite.evaluation import Floats
from dpnet_lite.experiments.intervals import percent
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE

_STUDIES = ("gap", "shots", "label-noise")
_VARIANT, _CONTROL = "full", "support only"
_WIDTH = 6.5  # inches of a picture: at letters of 12 points it can be read at half the page's width
_AHEAD, _BEHIND, _, _UNCLEAR = P_STYLES.values()


def along_figure(series: Mapping[str, tuple[Study, Sequence[Judged]]], own_scale: Sequence[str] = ()) -> Figure:
    """A panel for each study, on one scale but for those named: the difference along its conditions, in Holm's p."""
    figure = Figure(figsize=(_WIDTH, 0.6 + 2.1 * len(series)), layout="constrained")
    panels = figure.subplots(len(series), squeeze=False)[:, 0]
    alike = [axes for axes, name in zip(panels, series, strict=True) if name not in own_scale]
    for axes in alike[1:]:
        axes.sharey(alike[0])
    for axes, (name, (study, judged)) in zip(panels, series.items(), strict=True):
        _along(axes, study, judged)
        axes.set_title(name, fontsize=13, loc="left")
    name_marks(panels[0], [entry for _, judged in series.values() for entry in judged])
    figure.supylabel("full minus support only, points of mIoU", fontsize=12)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=12)
    return figure


def contrasts_figure(tables: Mapping[str, tuple[Stratified, Sequence[str]]]) -> Figure:
    """A row for each fact: by how much the difference of its last stratum is above that of its first."""
    figure = Figure(figsize=(_WIDTH, 0.8 + 0.55 * len(tables)), layout="constrained")
    axes = figure.subplots()
    for row, (name, (table, names)) in enumerate(tables.items()):
        style = {"grows": _AHEAD, "shrinks": _BEHIND}.get(table.verdict, _UNCLEAR)
        numbers = percent(table.contrast, table.contrast_interval, signed=True)
        what = f"{name}: {names[-1]} against {names[0]}"
        draw_bar(axes, row, what, numbers, table.contrast, table.contrast_interval, style)
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set(yticks=[], ylim=(len(tables) - 0.5, -0.75))
    axes.tick_params(axis="x", labelsize=12)
    axes.set_xlabel("change of the difference, points of IoU", fontsize=12)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def strata_figure(table: Stratified, names: Sequence[str], mean: float, what: str) -> Figure:
    """The difference in each stratum of a fact with its interval, beside the mean of all; below: share of episodes."""
    figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    _strata(axes, table, names, mean)
    axes.set_xlabel(f"{what}\n(in brackets: share of the scored episodes, %)", fontsize=12)
    return figure


def _along(axes: Axes, study: Study, judged: Sequence[Judged]) -> None:
    """A grey line along the conditions, joined where they are steps along one way, and a mark for each."""
    values = 100 * np.array([entry.difference for entry in judged])
    ends = 100 * np.array([entry.interval for entry in judged])  # [conditions, 2]
    for way in study.ways:
        axes.plot(np.arange(len(values))[way], values[way], color="#999999", linewidth=1.5)
    for place, entry in enumerate(judged):
        colour, mark, face = P_STYLES[kind_of(entry)]
        draw_line(axes, [place], values[[place]], ends[[place]], (colour, mark, "-"), thick=False, face=face)
    names = [entry.condition.replace(" by ", "\nby ") for entry in judged]
    axes.set_xticks(range(len(values)), names, fontsize=12)
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.axhline(0, color=BLACK, linewidth=1)
    axes.tick_params(axis="y", labelsize=12)
    axes.spines[["top", "right"]].set_visible(False)


def _strata(axes: Axes, table: Stratified, names: Sequence[str], mean: float) -> None:
    """Points with intervals at a line for 0 and a dashed one for the mean of all; below each its share of episodes."""
    values = np.array([100 * stratum.difference for stratum in table.strata])
    ends = 100 * np.array([stratum.interval for stratum in table.strata])  # [strata, 2]
    axes.axhline(100 * mean, color=ORANGE, linewidth=1.5, linestyle="--", label="mean of all episodes")
    reach = np.abs(ends.T - values)
    axes.errorbar(range(len(values)), values, reach, fmt="o", color=BLUE, capsize=4, markersize=8, linewidth=2.5)
    labels = [f"{name}\n({100 * stratum.share:.0f})" for name, stratum in zip(names, table.strata, strict=True)]
    axes.set_xticks(range(len(values)), labels, fontsize=12)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_ylabel("difference of IoU, points", fontsize=12)
    axes.legend(frameon=False, fontsize=12)
    _finish(axes)


@lru_cache(maxsize=32)
def _episodes(study: str, position: int) -> tuple[PairedEpisodes, dict[str, Floats]]:
    condition = load_study(study).conditions[position]
    paired = paired_ious(study_rows(study), _VARIANT, _CONTROL, condition.name)
    return paired, facts_of(paired, condition)


def _payoff_figure(study: str, position: int, fact: str) -> Figure:
    """Above: full minus support only along the study, the chosen condition ringed; below: by strata of the fact."""
    figure = Figure(figsize=(_WIDTH, 7.2), layout="constrained")
    above, below = figure.subplots(2)
    found, judged = judged_along(study)
    _along(above, found, judged)
    above.plot(position, 100 * judged[position].difference, "o", markersize=18, mfc="none", mec=VERMILION, mew=2)
    above.set_ylabel("difference of mIoU, points", fontsize=12)
    above.set_title(f"{_VARIANT} minus {_CONTROL}", fontsize=13)
    paired, facts = _episodes(study, position)
    table, names = by_fact(paired, facts, fact, level=1 - 0.05 / len(facts), n_resamples=10_000)
    _strata(below, table, names, float(paired.differences.mean()))
    below.set_title(f"{judged[position].condition}, by {fact}", fontsize=13)
    corrected = f"(corrected for {len(facts)} facts, not for the conditions)"
    below.set_xlabel(f"in brackets: share of episodes, %\nlast minus first: {table.verdict}\n{corrected}", fontsize=12)
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
