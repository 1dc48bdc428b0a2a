"""The live ablation: switches of the network, a short paired run in the background, bars with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from textwrap import fill
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from dpnet_lite.ablation.comparisons import Judged, judge
from dpnet_lite.ablation.studies import Comparison, load_study
from dpnet_lite.ablation.table import shipped_rows
from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers.panels import new_figure, png
from dpnet_lite.course.explorers.shell import BackgroundJob, dropdown, in_a_row
from dpnet_lite.course.live_ablation import Bench, LiveAblation, LiveResult
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE

# The first value of each is that of the full network.
SWITCHES: dict[str, Mapping[str, dict[str, Any]]] = {
    "CCM": {"on": {}, "off": {"pseudo_prototype": False}},
    "selection": {
        "cycle, support first": {},
        "cycle, query first": {"selection": "query_first"},
        "threshold": {"selection": "threshold"},
        "top 12": {"selection": "top_k"},
        "oracle": {"selection": "oracle"},
    },
    "PIM": {"joint": {}, "correlation": {"interaction": "correlation"}, "off": {"interaction": "off"}},
    "MSF": {"ASPP": {}, "pyramid": {"fusion": "pyramid"}, "off": {"fusion": "single"}},
    "auxiliary": {"query": {}, "support": {"auxiliary": "support"}, "none": {"auxiliary": "none"}},
    "background": {"on": {}, "off": {"background": False}},
    "prior": {"off": {}, "on": {"prior": True}},
}
_LABEL = 30  # letters in a line of a row's name: more would leave the bars no room
CONTROL = "full"  # of the study `modules`: every switch at its first value
_ALT = "Difference of mIoU between each variant and the full network, with intervals: short live runs, shipped studies"


def base_model() -> ModelConfig:
    """The full network of the shipped studies on the toy world."""
    return ModelConfig.from_dict({**ModelConfig().to_dict(), **load_study("modules").model})


def variant_name(chosen: Mapping[str, str]) -> str:
    """What is not as in the full network: "MSF off, prior on"; the control's name where nothing is changed."""
    changed = [f"{name} {value}" for name, value in chosen.items() if value != next(iter(SWITCHES[name]))]
    return ", ".join(changed) or CONTROL


def variant_model(chosen: Mapping[str, str]) -> ModelConfig:
    """The full network with the chosen switches."""
    changes: dict[str, Any] = {}
    for name, value in chosen.items():
        changes |= SWITCHES[name][value]
    return replace(base_model(), **changes)


@lru_cache(maxsize=1)
def shipped_differences() -> dict[str, Judged]:
    """Each trained variant of the study `modules` less the full network, from the rows of the package."""
    study, rows = load_study("modules"), shipped_rows("modules")
    others = [v.name for v in study.variants if v.name != CONTROL and v.method == "trained"]
    study = replace(study, comparisons=tuple(Comparison(name, name, CONTROL) for name in others))
    return {entry.comparison.name: entry for entry in judge(study, rows, n_resamples=500)}


def ablation_figure(live: Sequence[LiveResult], shipped: Mapping[str, Judged]) -> Figure:
    """A row for each short run and each shipped variant: the difference to the full network and its interval."""
    rows = [(f"{r.name}", r.difference, r.interval, ORANGE, "s") for r in live]
    rows += [(name, entry.difference, entry.interval, BLUE, "o") for name, entry in shipped.items()]
    names = [fill(name, _LABEL) for name, *_ in rows]
    heights = np.array([0.34 + 0.17 * name.count("\n") for name in names])  # inches, [rows]
    ends = heights.cumsum()
    places = ends - heights / 2
    figure, grid = new_figure(1, width=7.5, height=1.6 + heights.sum())
    axes = grid[0, 0]
    for row, (_, difference, interval, colour, mark) in zip(places, rows, strict=True):
        axes.plot([100 * interval.low, 100 * interval.high], [row, row], color=colour, linewidth=2.5)
        axes.plot(100 * difference, row, mark, color=colour, markersize=8)
    if live and shipped:
        axes.axhline(ends[len(live) - 1], color=BLACK, linewidth=0.8, linestyle=":")
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set_yticks(places, names, fontsize=10)
    axes.set_ylim(max(heights.sum(), 0.1), 0)
    axes.set_xlabel("mIoU less that of the full network, points, with 95 % interval", fontsize=11)
    for label, colour, mark in (("short live run", ORANGE, "s"), ("full length, shipped", BLUE, "o")):
        axes.plot([], [], mark, color=colour, linestyle="-", linewidth=2.5, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


class AblationLab(BackgroundJob[LiveAblation]):
    """Change a switch, and a short paired run against the full network starts; its bar joins the others.

    Args:
        bench: data and budget of the short runs.
    """

    preparing = "drawing scenes and computing their features ..."

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.results: dict[str, LiveResult] = {}
        layout = widgets.Layout(width="220px")
        self.switches = {name: dropdown(name, list(values), layout=layout) for name, values in SWITCHES.items()}
        for switch in self.switches.values():
            switch.observe(self._switched, names="value")
        super().__init__(_ALT, [in_a_row(list(self.switches.values()))])
        self.message.value = "change a switch: a short run against the full network starts"
        self.draw()

    @property
    def chosen(self) -> dict[str, str]:
        """The value of each switch."""
        return {name: switch.value for name, switch in self.switches.items()}

    def _switched(self, change: Any) -> None:
        """Another variant: the run under way is given up; networks that it finished are kept by the bench."""
        self.give_up()
        name = variant_name(self.chosen)
        if name == CONTROL:
            self.message.value = "this is the full network itself; change a switch"
        elif name in self.results:
            self.message.value = f"{name}: done before, see the picture"
        else:
            self.begin()

    def make_run(self) -> LiveAblation:
        """The chosen variant against the full network."""
        return LiveAblation(variant_name(self.chosen), variant_model(self.chosen), base_model(), self.bench)

    def draw(self) -> str:
        """A bar for each run that is done."""
        run = self.run
        fresh = run is not None and run.result is not None and self.results.get(run.name) is not run.result
        if run is not None and run.result is not None:
            self.results[run.name] = run.result
        if fresh or not self.picture.value:
            self.picture.value = png(ablation_figure(list(self.results.values()), shipped_differences()))
        return "" if run is None else f", {run.name}"
