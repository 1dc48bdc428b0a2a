"""What may be concluded from a study: paired differences, their intervals, wins, p-values corrected for many tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dpnet_lite.ablation.studies import Comparison, Study
from dpnet_lite.ablation.table import Row, unpack_scores
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import Interval, mean_paired_difference, percent

NO_DIFFERENCE = "no measurable difference"
JUDGED_RESAMPLES = 2000  # of episodes and runs, for every interval of a difference between variants
_Label = tuple[str, str, int, int]  # variant, condition, fold, seed


@dataclass(frozen=True)
class Judged:
    """A comparison under one condition, and what came out. Differences are variant minus control, in mIoU (0 to 1)."""

    comparison: Comparison
    condition: str
    difference: float  # mean over folds and seeds
    interval: Interval  # 95 %
    wins: int  # pairs in which the variant is ahead
    pairs: int
    p: float  # two-sided, of this comparison alone
    p_corrected: float = 1.0  # after Holm, over all comparisons of the study

    @property
    def verdict(self) -> str:
        """In words: better, worse, or `NO_DIFFERENCE` where the interval contains 0."""
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else NO_DIFFERENCE

    @property
    def graded_verdict(self) -> str:
        """The verdict, "weak" where it does not outlast the correction for many questions."""
        weak = self.verdict != NO_DIFFERENCE and self.p_corrected > 0.05
        return f"{self.verdict}, weak" if weak else self.verdict

    @property
    def sentence(self) -> str:
        """The verdict in one sentence, with its numbers in points of mIoU."""
        points = percent(self.difference, self.interval, signed=True)
        counted = f"{points} points, ahead in {self.wins} of {self.pairs} pairs"
        names = f"{self.comparison.variant!r}", f"{self.comparison.control!r}"
        if self.verdict == NO_DIFFERENCE:
            return f"{NO_DIFFERENCE} between {names[0]} and {names[1]}: {counted}"
        weak = " (weak)" if self.graded_verdict != self.verdict else ""
        return f"{names[0]} is {self.verdict} than {names[1]}{weak}: {counted}"


def judge(study: Study, rows: Sequence[Row], *, n_resamples: int = JUDGED_RESAMPLES) -> list[Judged]:
    """Judge every comparison of a study under every condition, on labelled rows (see `jobs.labelled_rows`).

    A pair is a fold and a seed: variant and control have had the same training episodes, the same initial weights
    where shapes allow, and have the same test episodes.

    Raises:
        ValueError: a variant lacks a row that its control has, or the other way round.
    """
    scores = labelled_scores(rows)
    judged = [
        _judge_one(comparison, condition.name, scores, n_resamples)
        for condition in study.conditions
        for comparison in study.comparisons
    ]
    corrected = holm([entry.p for entry in judged])
    return [replace(entry, p_corrected=p) for entry, p in zip(judged, corrected, strict=True)]


def label(row: Row) -> _Label:
    """Variant, condition, fold and seed of a labelled row."""
    return row["variant"], row["condition"], row["fold"], row["seed"]


def labelled_scores(rows: Sequence[Row]) -> dict[_Label, EpisodeScores]:
    """The scores of labelled rows by variant, condition, fold and seed; ValueError where two rows have one label."""
    labels = [label(row) for row in rows]
    if doubled := [own for own, count in Counter(labels).items() if count > 1]:
        raise ValueError(
            f"{len(doubled)} runs come twice, first {doubled[0]}; give the rows of one study on one data set"
        )
    return {own: unpack_scores(row["scores"]) for own, row in zip(labels, rows, strict=True)}


def runs_of(scores: dict[_Label, Any], variant: str, condition: str) -> dict[tuple[int, int], Any]:
    """What belongs to a variant under a condition, by fold and seed, in their order."""
    chosen = {key[2:]: value for key, value in scores.items() if key[:2] == (variant, condition)}
    return dict(sorted(chosen.items()))


def _judge_one(comparison: Comparison, condition: str, scores: dict[_Label, EpisodeScores], n_resamples: int) -> Judged:
    variant, control = (runs_of(scores, name, condition) for name in (comparison.variant, comparison.control))
    if not variant or variant.keys() != control.keys():
        raise ValueError(
            f"{comparison.variant!r} has {len(variant)} runs under {condition!r} and "
            f"{comparison.control!r} {len(control)}; both need the same folds and seeds"
        )
    pairs = [(variant[key], control[key]) for key in variant]
    difference, interval = mean_paired_difference([a for a, _ in pairs], [b for _, b in pairs], n_resamples=n_resamples)
    if min(np.unique(run.class_index, return_counts=True)[1].min() for run, _ in pairs) < 2:
        interval = Interval(-1.0, 1.0)  # a single episode of a class shows no spread
    by_pair = np.array([a.miou - b.miou for a, b in pairs])
    wins, p = int((by_pair > 0).sum()), fold_p(by_pair, [fold for fold, _ in variant])
    return Judged(comparison, condition, difference, interval, wins, len(pairs), p)


def fold_p(differences: ArrayLike, folds: ArrayLike) -> float:
    """Two-sided p-value of the mean of paired differences [n], of which the folds [n] are the observations.

    Student's t on the means of the folds: pairs of one fold share its classes, its episodes and their images, so they
    are no independent evidence, as signs flipped pair by pair would take them. 1 with one fold, or where the folds do
    not differ at all.
    """
    from scipy import stats

    values, labels = np.asarray(differences, dtype=float), np.asarray(folds)
    means = np.array([values[labels == kind].mean() for kind in np.unique(labels)])
    return 1.0 if np.ptp(means) == 0 else float(stats.ttest_1samp(means, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values [m] that hold for all m questions together."""
    order = np.argsort(p_values, kind="stable")
    corrected, running = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[index])  # NaN, which comes last, is not taken
        corrected[index] = min(running + 0 * p_values[index], 1.0)
    return corrected
