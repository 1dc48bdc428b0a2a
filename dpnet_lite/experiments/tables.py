"""Tables of results as text: one line a method, intervals beside the means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.fold_run import FULL, METHODS, SUPPORT_ONLY, TRAINING_FREE, FoldResult
from dpnet_lite.experiments.intervals import mean_interval, mean_paired_difference
from dpnet_lite.experiments.resampling import Interval

MIN_PER_CLASS = 5  # episodes; with fewer, resampling them shows much less than their real spread (our choice)


def percent(value: float, interval: Interval | None = None, *, signed: bool = False) -> str:
    """0.417 -> "41.7", with an interval "41.7 [40.1, 43.2]"."""
    number = "{:+.1f}" if signed else "{:.1f}"
    text = number.format(100 * value)
    if interval is None:
        return text
    return f"{text} [{number.format(100 * interval.low)}, {number.format(100 * interval.high)}]"


def enough_episodes(runs: Sequence[EpisodeScores]) -> bool:
    """Whether every class of every run has episodes enough to tell their spread."""
    return all(np.unique(run.class_index, return_counts=True)[1].min() >= MIN_PER_CLASS for run in runs)


def score_cell(runs: Sequence[EpisodeScores]) -> str:
    """Mean mIoU over runs with its interval, without it where a class has too few episodes."""
    interval = mean_interval(runs, "miou", resample_runs=True) if enough_episodes(runs) else None
    return percent(mean(runs, "miou"), interval)


def difference_cell(results: Sequence[FoldResult], rival: str, n_shot: int) -> str:
    """Mean difference of mIoU between DPNet and a rival with its interval, without it as in `score_cell`."""
    own, other = (method_scores(results, method, n_shot) for method in (FULL, rival))
    difference, interval = mean_paired_difference(own, other, "miou")
    return percent(difference, interval if enough_episodes(own) else None, signed=True)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells (the first is the head) as a Markdown table whose columns line up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def method_scores(results: Sequence[FoldResult], method: str, n_shot: int) -> list[EpisodeScores]:
    return [result.scores[method, n_shot] for result in results]


def mean(scores: Sequence[EpisodeScores], metric: str) -> float:
    """Mean of a metric over runs (folds and seeds)."""
    return sum(getattr(run, metric) for run in scores) / len(scores)


def summary_table(results: Sequence[FoldResult]) -> str:
    """mIoU and FB-IoU per method and number of shots, averaged over the folds and seeds of `results`, in percent.

    Intervals: bootstrap 95 %, seeds and episodes resampled (see `intervals`).
    """
    methods = [m for m in METHODS if any(m == name for name, _ in results[0].scores)]
    rows = [["method", "shots", "mIoU % [95 % interval]", "FB-IoU %"]]
    for n_shot in sorted(results[0].episodes):
        for method in methods:
            runs = method_scores(results, method, n_shot)
            rows.append([method, str(n_shot), score_cell(runs), percent(mean(runs, "fb_iou"))])
    if all(enough_episodes([scores]) for result in results for scores in result.scores.values()):
        return aligned(rows)
    return (
        f"{aligned(rows)}\n\nNo intervals: a class has fewer than {MIN_PER_CLASS} episodes; give more with --episodes."
    )


def difference_table(results: Sequence[FoldResult]) -> str:
    """Paired differences of mIoU between DPNet and each rival on the same episodes, in points."""
    rows = [["mIoU of DPNet less that of", "shots", "points [95 % interval]"]]
    for n_shot in sorted(results[0].episodes):
        for rival in (TRAINING_FREE, SUPPORT_ONLY):
            if (rival, n_shot) in results[0].scores and (FULL, n_shot) in results[0].scores:
                rows.append([rival, str(n_shot), difference_cell(results, rival, n_shot)])
    return aligned(rows)


def fold_table(results: Sequence[FoldResult]) -> str:
    """mIoU per fold (mean over seeds) and method, in percent, with intervals."""
    folds = sorted({result.fold for result in results})
    methods = [m for m in METHODS if any(m == name for name, _ in results[0].scores)]
    rows = [["method", "shots", *(f"fold {fold}" for fold in folds)]]
    for n_shot in sorted(results[0].episodes):
        for method in methods:
            cells = []
            for fold in folds:
                runs = method_scores([r for r in results if r.fold == fold], method, n_shot)
                cells.append(score_cell(runs))
            rows.append([method, str(n_shot), *cells])
    return aligned(rows)
