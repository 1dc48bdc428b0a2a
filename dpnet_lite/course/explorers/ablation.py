"""The ablation explorer: switches of the network; masks and shipped evidence at once, a short paired run second."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import combinations, product
from textwrap import fill
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from dpnet_lite.ablation.comparisons import JUDGED_RESAMPLES, labelled_scores, runs_of
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import shipped_names
from dpnet_lite.config import ModelConfig
from dpnet_lite.course.analysis.payoff import study_rows
from dpnet_lite.course.explorers.episode import variant_heads
from dpnet_lite.course.explorers.panels import show_image
from dpnet_lite.course.explorers.shell import BackgroundJob, Explorer, dropdown
from dpnet_lite.course.live_ablation import Bench, LiveAblation, LiveResult
from dpnet_lite.course.opened_episode import OpenedEpisode, ShownEpisodes, open_episode, with_switches
from dpnet_lite.episodes import Episode
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_paired_difference, percent
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, overlay
from dpnet_lite.model.dpnet import DPNet

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
CONTROL = "full"  # every switch at its first value
# Each with the full network among its variants, tested under one condition.
_STUDIES = ("modules", "selection", "interaction", "scales", "aux")
_MODULES = ("CCM", "PIM", "MSF")
Changes = tuple[tuple[str, Any], ...]  # settings and their new values
Scores = dict[tuple[int, int], EpisodeScores]  # by fold and seed
Choice = Callable[[Mapping[str, Any]], tuple[ShownEpisodes, Episode]]  # from the values of controls
_ALT = (
    "The masks of the full network and of a variant on one episode; the difference of mIoU between variants and the "
    "full network, with intervals: shipped studies, short live runs"
)


def base_model() -> ModelConfig:
    """The full network of the shipped studies on the toy world."""
    return ModelConfig.from_dict({**ModelConfig().to_dict(), **load_study("modules").model})


def variant_name(chosen: Mapping[str, str]) -> str:
    """What is not as in the full network: "MSF off, prior on"; the control's name where nothing is changed."""
    changed = [f"{name} {value}" for name, value in chosen.items() if value != next(iter(SWITCHES[name]))]
    return ", ".join(changed) or CONTROL


def changes_of(chosen: Mapping[str, str]) -> Changes:
    """The settings that the chosen switches change."""
    return tuple(item for name, value in chosen.items() for item in SWITCHES[name][value].items())


def variant_model(chosen: Mapping[str, str]) -> ModelConfig:
    """The full network with the chosen switches."""
    return replace(base_model(), **dict(changes_of(chosen)))


@lru_cache(maxsize=64)
def _shipped_scores(changes: Changes, data: str) -> tuple[Scores, Scores] | None:
    """Shipped scores of the full network with these settings changed, and those of its control; None: not trained."""
    full = next(row for row in study_rows("modules", data) if row["variant"] == CONTROL)["identity"]["model"]
    for study in [one for one in _STUDIES if changes and one in shipped_names(data)]:
        rows = [row for row in study_rows(study, data) if row["parameters"]]
        names = [
            next((row["variant"] for row in rows if row["identity"]["model"] == model), None)
            for model in ({**full, **dict(changes)}, full)
        ]
        if None not in names:
            scores, condition = labelled_scores(rows), load_study(study).conditions[0].name
            own, other = (runs_of(scores, str(name), condition) for name in names)
            return own, other
    return None


@lru_cache(maxsize=64)
def shipped_difference(name: str, changes: Changes, data: str = "toy") -> LiveResult | None:
    """A variant minus the full network in a shipped study on "toy" or "photos"; None where none trained it."""
    found = _shipped_scores(changes, data)
    if found is None:
        return None
    own, other = (list(scores.values()) for scores in found)
    return LiveResult(name, *mean_paired_difference(own, other, n_resamples=JUDGED_RESAMPLES), len(own))


def shipped_differences(data: str = "toy") -> dict[str, LiveResult]:
    """Every shipped combination of modules that are off, minus the full network, by name."""
    values = product(*([next(iter(SWITCHES[name])), "off"] for name in _MODULES))
    switched = [dict(zip(_MODULES, chosen, strict=True)) for chosen in values]
    found = [shipped_difference(variant_name(chosen), changes_of(chosen), data) for chosen in switched]
    return {one.name: one for one in found if one is not None}


def expected_widths(changes: Changes, bench: Bench) -> tuple[float, float]:
    """The narrowest and the widest interval of shipped runs cut down to a bench's folds, episodes and number of seeds.

    Each choice of seeds gives one; of this variant, or of all with one module off where it was not trained. A bench
    trains for fewer steps, and scatters more.
    """
    tried = [changes] if _shipped_scores(changes, "toy") else [changes_of({name: "off"}) for name in _MODULES]
    widths = []
    for own, other in filter(None, (_shipped_scores(one, "toy") for one in tried)):
        for seeds in combinations(sorted({seed for _, seed in own}), len(bench.seeds)):
            runs = [(fold, seed) for fold in bench.folds for seed in seeds]
            cut, rest = ([scores[run].part(slice(bench.n_episodes)) for run in runs] for scores in (own, other))
            _, interval = mean_paired_difference(cut, rest, n_resamples=300)
            widths.append(interval.high - interval.low)
    return min(widths), max(widths)


def answers_of(shown: ShownEpisodes, world: str, episode: Episode, changes: Changes) -> list[OpenedEpisode]:
    """The full network's answer, then the variant's, if weights of it are shipped or it only selects otherwise."""
    heads = [variant_heads(world)[CONTROL], *_heads_with_masks(world, changes)][: 1 + bool(changes)]
    return [open_episode(head, shown.bank, episode) for head in heads]


def _heads_with_masks(world: str, changes: Changes) -> list[DPNet]:
    heads, changed = variant_heads(world), dict(changes)
    trained = [head for head in heads.values() if head.config == replace(heads[CONTROL].config, **changed)]
    if not trained and changed.keys() <= {"selection"}:
        trained = [with_switches(heads[CONTROL], **changed)]
    return trained


def marked(value: str, setting: Mapping[str, Any]) -> str:
    """A switch's value as its menu shows it: with what alone there is where masks are missing."""
    changes = tuple(setting.items())
    only = "bar only" if _shipped_scores(changes, "toy") else "live only"
    note = "uses the truth" if value == "oracle" else ""
    if not _heads_with_masks("toy", changes):
        note = f"drawn world: {only}" if _heads_with_masks("photographs", changes) else only
    return f"{value} ({note})" if note else value


def ablation_figure(
    answers: Sequence[OpenedEpisode], name: str, live: Sequence[LiveResult], shipped: Sequence[LiveResult]
) -> Figure:
    """Above: support, query, the masks of the full network and of the variant `name`. Below: differences to the full
    network with intervals, a row for each short run and each shipped variant; those of the variant are lit.
    """
    rows = [(result, ORANGE, "s") for result in live] + [(result, BLUE, "o") for result in shipped]
    names = [fill(result.name, _LABEL) for result, *_ in rows]
    heights = np.array([0.34 + 0.17 * text.count("\n") for text in names])  # inches, [rows]
    below = 1.3 + float(heights.sum())
    figure = Figure(figsize=(7.5, 2.2 + below), layout=ConstrainedLayoutEngine(h_pad=0.08))
    masks, bars = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.2, below))[:, 0]
    _draw_masks(masks.subplots(1, 4, squeeze=False)[0], answers, name)
    axes = bars.subplots(squeeze=False)[0, 0]
    places = heights.cumsum() - heights / 2
    for row, (result, colour, mark) in zip(places, rows, strict=True):
        style: dict[str, Any] = {"color": colour, "alpha": 1.0 if result.name == name else 0.4}
        ends = [100 * result.interval.low, 100 * result.interval.high]
        axes.plot(ends, [row, row], linewidth=4 if result.name == name else 2.5, **style)
        axes.plot(100 * result.difference, row, mark, markersize=8, **style)
    if live and shipped:
        axes.axhline(heights[: len(live)].sum(), color=BLACK, linewidth=0.8, linestyle=":")
    axes.axvline(0, color=BLACK, linewidth=1)
    axes.set_yticks(places, names, fontsize=11)
    for text, (result, *_) in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if result.name == name else "normal")
    axes.set_ylim(max(heights.sum(), 0.1), 0)
    axes.tick_params(axis="x", labelsize=11)
    axes.set_xlabel("mIoU minus that of the full network, points, with 95 % interval", fontsize=11)
    for label, colour, mark in (("short live run", ORANGE, "s"), ("full length, shipped", BLUE, "o"))[not live :]:
        axes.plot([], [], mark, color=colour, linestyle="-", linewidth=2.5, label=label)
    bars.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=11)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _draw_masks(panels: Sequence[Axes], answers: Sequence[OpenedEpisode], name: str) -> None:
    first = answers[0]
    show_image(panels[0], first.support_images[0], f"support: {first.class_name}", outline=first.support_masks[0])
    show_image(panels[1], first.query_image, "query")
    for axes, title, answer in zip(panels[2:], (CONTROL, fill(name, 24)), answers, strict=False):
        painted = overlay(answer.query_image, answer.prediction, ORANGE)
        show_image(axes, painted, f"{title}\nIoU {answer.iou:.2f}", outline=answer.truth)
    for axes in panels[2 + len(answers) :]:
        axes.set_axis_off()
        told = "change a switch" if name == CONTROL else "no weights of\nthis variant\nare shipped"
        axes.text(0.5, 0.5, told, ha="center", va="center", fontsize=11, transform=axes.transAxes)


def switches_of(state: Mapping[str, Any]) -> dict[str, str]:
    """The switches' values among those of all controls."""
    return {name: state[name] for name in SWITCHES}


def _state_figure(choose: Choice, results: Mapping[str, LiveResult], **state: Any) -> Figure:
    chosen, (shown, episode) = switches_of(state), choose(state)
    name, changes = variant_name(chosen), changes_of(chosen)
    world, data = ("photographs", "photos") if state["photographs"] else ("toy", "toy")
    own = {name: shipped_difference(name, changes, data)}
    shipped = [one for one in {**shipped_differences(data), **own}.values() if one is not None]
    live = [] if state["photographs"] else list(results.values())  # they are of the drawn world
    return ablation_figure(answers_of(shown, world, episode, changes), name, live, shipped)


class AblationLab(BackgroundJob[LiveAblation]):
    """Change a switch: masks and shipped bar follow at once; Start trains that variant and the full network in pairs.

    Args:
        bench: data and budget of the short runs.
        controls: of the episode, see `Explorer`.
        choose: from their values to the episode and what it is from.
        named: for `Explorer`: `follow`, `tell`, `seek`.
    """

    preparing = "drawing scenes and computing their features ..."

    def __init__(self, bench: Bench, controls: Mapping[str, Any], choose: Choice, **named: Any) -> None:
        layout = widgets.Layout(width="220px")
        menus = {name: [(marked(*item), item[0]) for item in values.items()] for name, values in SWITCHES.items()}
        switches = {name: dropdown(name, menu, layout=layout) for name, menu in menus.items()}
        switches["CCM"].value = "off"  # the question of the whole course comes first
        results: dict[str, LiveResult] = {}
        draw = partial(_state_figure, choose, results)
        explorer = Explorer(draw, {**controls, **switches}, alt=_ALT, **named)
        super().__init__(_ALT, explorer)
        self.bench, self.explorer, self.switches, self.results = bench, explorer, switches, results
        for control in (*switches.values(), controls["photographs"]):
            control.observe(self._switched, names="value")
        self.message.value = self.offer()

    @property
    def chosen(self) -> dict[str, str]:
        """The value of each switch."""
        return switches_of(self.explorer.state)

    def offer(self) -> str:
        """What a short run of the chosen variant would be, and how little it would say."""
        name, changes, bench = variant_name(self.chosen), changes_of(self.chosen), self.bench
        if name == CONTROL:
            return "this is the full network itself; change a switch"
        data, world = ("photos", "photographs") if self.explorer.state["photographs"] else ("toy", "the drawn world")
        own, toy = (shipped_difference(name, changes, one) for one in (data, "toy"))
        known = "no shipped study trained this variant"
        if own is not None:
            known = f"{percent(own.difference, own.interval, signed=True)} points in {own.pairs} shipped pairs"
        if name in self.results:
            return f"<b>{name}</b> on {world}: {known}. Done before, see the drawn world's picture."
        low, high = (100 * width for width in expected_widths(changes, bench))
        borrowed = "" if toy is not None else " (widths of other variants, for want of its own)"
        pairs, steps, longer = len(bench.pairs()), bench.training.steps, load_study("modules").toy_training["steps"]
        return (
            f"<b>{name}</b> on {world}: {known}. Start trains it and the full network, on the drawn world whatever is "
            f"shown: {pairs} pairs of {steps} steps. This will hardly settle anything. Even shipped runs of {longer} "
            f"steps, cut to as few folds, seeds and episodes, have intervals {low:.0f} to {high:.0f} points wide"
            f"{borrowed}; with {steps} steps they can be far wider."
        )

    def _switched(self, change: Any) -> None:
        """Another variant: the run under way is given up; networks that it finished are kept by the bench."""
        if change["owner"] in self.switches.values():
            self.give_up()
        self.message.value = self.offer()

    def make_run(self) -> LiveAblation:
        """The chosen variant against the full network."""
        return LiveAblation(variant_name(self.chosen), variant_model(self.chosen), base_model(), self.bench)

    def draw(self) -> str:
        """A bar for each run that is done."""
        run = self.run
        if run is not None and run.result is not None and self.results.get(run.name) is not run.result:
            self.results[run.name] = run.result
            self.explorer.redraw()
        return "" if run is None else f", {run.name}"
