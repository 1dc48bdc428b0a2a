"""Tables of results as text: one line a method, intervals beside the means.

A run is what one fold and seed scored, by (method, number of shots), as `FoldResult.scores` has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_interval, mean_paired_difference, percent
from dpnet_lite.experiments.jobs import FULL, METHODS, SUPPORT_ONLY, TRAINING_FREE, FoldResult
from dpnet_lite.experiments.presets import MIN_PER_CLASS

_Run = Mapping[tuple[str, int], EpisodeScores]


def enough_episodes(scores: Sequence[EpisodeScores]) -> bool:
    """Whether every class of every run has episodes enough to tell their spread."""
    return all(np.unique(run.class_index, return_counts=True)[1].min() >= MIN_PER_CLASS for run in scores)


def score_cell(scores: Sequence[EpisodeScores]) -> str:
    """Mean mIoU over runs with its interval, without it where a class has too few episodes."""
    interval = mean_interval(scores, "miou", resample_runs=True) if enough_episodes(scores) else None
    return percent(mean(scores, "miou"), interval)


def difference_cell(runs: Sequence[_Run], rival: str, n_shot: int, *, resample_runs: bool = True) -> str:
    """Mean difference of mIoU between DPNet and a rival with its interval, without it as in `score_cell`."""
    own, other = ([run[method, n_shot] for run in runs] for method in (FULL, rival))
    difference, interval = mean_paired_difference(own, other, "miou", resample_runs=resample_runs)
    return percent(difference, interval if enough_episodes(own) else None, signed=True)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells (the first is the head) as a Markdown table whose columns line up."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def mean(scores: Sequence[EpisodeScores], metric: str) -> float:
    """Mean of a metric over runs (folds and seeds)."""
    return sum(getattr(run, metric) for run in scores) / len(scores)


def summary_table(runs: Sequence[_Run]) -> str:
    """mIoU and FB-IoU per method and number of shots, averaged over runs, in percent.

    Intervals: bootstrap 95 %, seeds and episodes resampled (see `intervals`); the line below says what they hold.
    """
    rows = [["method", "shots", "mIoU % [95 % interval]", "FB-IoU %"]]
    for method, n_shot in _methods_by_shots(runs[0]):
        scores = [run[method, n_shot] for run in runs]
        rows.append([method, str(n_shot), score_cell(scores), percent(mean(scores, "fb_iou"))])
    if all(enough_episodes([*run.values()]) for run in runs):
        return f"{aligned(rows)}\n\nIntervals: {_held(runs)}."
    return (
        f"{aligned(rows)}\n\nNo intervals: a class has fewer than {MIN_PER_CLASS} episodes; give more with --episodes."
    )


def _held(runs: Sequence[_Run]) -> str:
    """What intervals hold: the luck of the episodes, and that of the training where a fold has several."""
    first = [next(iter(run.values())) for run in runs]  # the shots of a fold may leave out other classes
    folds = {frozenset(scores.class_names[c] for c in scores.class_index) for scores in first}
    if len(runs) > len(folds):
        return "episodes and trainings"
    return "episodes only, one training" + (" a fold" if len(runs) > 1 else "")


def episode_notes(lists: Sequence[EpisodeList], novel: Sequence[int], class_names: Sequence[str]) -> list[str]:
    """What a reader of the scores must know of their episodes: classes that have none, support images that repeat."""
    notes = []
    for episodes in lists:
        what = f"Fold {episodes.fold}, {episodes.n_shot}-shot"
        left_out = [class_names[index] for index in novel if index not in {e.class_index for e in episodes}]
        if left_out:
            of = f"{len(novel) - len(left_out)} of {len(novel)} classes"
            names = ", ".join(left_out[:5]) + f" and {len(left_out) - 5} more" * (len(left_out) > 5)
            too_few = "fewer episodes than classes; give more with --episodes"
            why = too_few if len(episodes) < len(novel) else "each needs two images"
            notes.append(f"{what}: the scores are of {of}; {names}: no episode ({why})")
        fewest = min(len(set(episode.support)) for episode in episodes)
        if fewest < episodes.n_shot:
            notes.append(f"{what}: support images repeat; a class has only {fewest} different ones beside the query")
    return list(dict.fromkeys(notes))


def difference_table(runs: Sequence[_Run], *, resample_runs: bool = True) -> str:
    """Paired differences of mIoU between DPNet and each rival on the same episodes, in points.

    Intervals: as in `summary_table`; where all runs are of one network, without `resample_runs`.
    """
    rows = [["mIoU of DPNet minus that of", "shots", "points [95 % interval]"]]
    for rival, n_shot in _methods_by_shots(runs[0]):
        if rival in (TRAINING_FREE, SUPPORT_ONLY) and (FULL, n_shot) in runs[0]:
            rows.append([rival, str(n_shot), difference_cell(runs, rival, n_shot, resample_runs=resample_runs)])
    return aligned(rows)


def fold_table(results: Sequence[FoldResult]) -> str:
    """mIoU per fold (mean over seeds) and method, in percent, with intervals."""
    folds = sorted({result.fold for result in results})
    rows = [["method", "shots", *(f"fold {fold}" for fold in folds)]]
    for key in _methods_by_shots(results[0].scores):
        cells = [score_cell([result.scores[key] for result in results if result.fold == fold]) for fold in folds]
        rows.append([key[0], str(key[1]), *cells])
    return aligned(rows)


def _methods_by_shots(run: _Run) -> list[tuple[str, int]]:
    """What a run scored, in the order of the tables' rows."""
    return sorted(run, key=lambda key: (key[1], METHODS.index(key[0])))
