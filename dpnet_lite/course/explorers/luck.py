"""The luck explorer: how far a difference of two scores hangs on the episodes that happened to be drawn."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
from matplotlib.figure import Figure

from dpnet_lite.ablation.table import unpack_scores
from dpnet_lite.course.analysis.payoff import study_rows
from dpnet_lite.course.explorers.shell import Explorer, dropdown, slider
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import bootstrap_interval, paired_difference
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE

_LISTS, _RESAMPLES = 20, 200
_RIVALS = ("support only", "CCM + MSF", "CCM", "baseline", "training-free")  # close relatives first


@lru_cache(maxsize=16)
def stored(data: str, variant: str, fold: int) -> EpisodeScores:
    """The first training of a variant in the study of modules."""
    rows = (row for row in study_rows("modules", data) if (row["variant"], row["fold"]) == (variant, fold))
    return unpack_scores(min(rows, key=lambda row: int(row["seed"]))["scores"])


def drawn(scores: EpisodeScores, n: int, seed: int) -> EpisodeScores:
    """n of the episodes, drawn with replacement within each class: as from an endless list like this one.

    They are independent then, so their images are left out: a copy of an episode is no other one of the same image.
    """
    labels, generator = scores.class_index, np.random.default_rng(seed)
    places = [generator.choice(np.flatnonzero(labels == kind)) for kind in labels[:n]]  # classes take turns there
    return replace(scores.part(places), images=None)


@lru_cache(maxsize=256)
def lucky_differences(data: str, fold: int, rival: str, n: int, paired: bool) -> np.ndarray:
    """Full minus rival on each of 20 lists of n episodes, float64 [20, 3]: difference, low and high, in points.

    Not paired, the rival is scored on another list, and the widths add up as those of independent scores do.
    """
    full, other = (stored(data, variant, fold) for variant in ("full", rival))
    found = []
    for seed in range(_LISTS):
        ours = drawn(full, n, seed)
        if paired:
            difference, (low, high) = paired_difference(ours, drawn(other, n, seed), n_resamples=_RESAMPLES)
        else:
            theirs = drawn(other, n, _LISTS + seed)
            difference = ours.miou - theirs.miou
            spans = [bootstrap_interval(scores, n_resamples=_RESAMPLES) for scores in (ours, theirs)]
            half = sum(((span.high - span.low) / 2) ** 2 for span in spans) ** 0.5
            low, high = difference - half, difference + half
        found.append((difference, low, high))
    return 100 * np.array(found)


def luck_figure(data: str, fold: int, rival: str, n: int, paired: bool) -> Figure:
    """The difference on 20 lists with its intervals; blue holds what all 500 episodes say, orange does not."""
    whole = 100 * (stored(data, "full", fold).miou - stored(data, rival, fold).miou)
    found = lucky_differences(data, fold, rival, n, paired)
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    axes = figure.subplots()
    for place, (difference, low, high) in enumerate(found):
        mark, colour = ("o", BLUE) if low <= whole <= high else ("X", ORANGE)
        reach = [[difference - low], [high - difference]]
        axes.errorbar(place, difference, reach, fmt=mark, color=colour, capsize=3, markersize=8)
    axes.axhline(whole, color=BLACK, linestyle="--", label=f"on all 500 episodes: {whole:+.1f}")
    axes.axhline(0, color="grey", linewidth=1)
    wide, silent = (found[:, 2] - found[:, 1]).mean(), int(((found[:, 1] <= 0) & (found[:, 2] >= 0)).sum())
    wrong = int((np.sign(whole) * np.where(whole > 0, found[:, 2], found[:, 1]) < 0).sum())
    told = f"from {found[:, 0].min():+.1f} to {found[:, 0].max():+.1f}; {wide:.1f} points wide on average;\n"
    axes.set_title(f"{told}{silent} of {_LISTS} intervals hold 0, {wrong} lie wholly on its wrong side", fontsize=13)
    axes.set_xlabel(f"{_LISTS} lists of {n} episodes", fontsize=13)
    axes.set_ylabel(f"full minus {rival}, points", fontsize=13)
    axes.set_xticks([])
    axes.tick_params(labelsize=12)
    figure.legend(frameon=False, fontsize=12, loc="outside lower center")
    return figure


def luck_explorer(data: str = "toy") -> Explorer:
    """Choose world ("toy" or "photos"), fold, rival, number of episodes, and the same or other episodes.

    On photographs it opens with two tables' case: a rival that differs, on other episodes.
    """
    toy = data == "toy"
    controls = {
        "data": dropdown("world", [("drawn world", "toy"), ("photographs", "photos")], value=data),
        "fold": dropdown("fold", range(4)),
        "rival": dropdown("full minus", _RIVALS, value=_RIVALS[0 if toy else -1]),
        "n": slider("episodes", 40, 250, 100),
        "paired": dropdown("both on", [("the same episodes", True), ("other episodes", False)], value=toy),
    }
    alt = "The difference of two networks on 20 lists of episodes, each with its interval, and the difference on all"
    return Explorer(luck_figure, controls, alt=alt)
