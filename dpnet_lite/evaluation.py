"""Metrics of few-shot segmentation, and how sure one may be of them. No model code.

An episode is a binary task, so four pixel counts say all that the metrics need. They are kept per episode, in
`EpisodeScores`, and every metric and interval is computed from them afterwards. All metrics are fractions in
[0, 1].

An IoU whose union is empty (nothing to find and nothing predicted) is undefined: it is NaN where it stands
alone and is left out of every mean. A mean of nothing is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Metric = Literal["miou", "fb_iou", "episode_miou"]
Floats = NDArray[np.float64]


class Interval(NamedTuple):
    """Ends of a percentile interval, in the units of the metric."""

    low: float
    high: float


def episode_counts(prediction: Tensor, labels: Tensor, ignore: int = 255) -> Tensor:
    """Count the pixels of one episode that the metrics need.

    prediction: [H, W], any dtype, values 0 and 1. labels: [H, W], values 0, 1 and `ignore`, at the size at
    which the episode is scored. Ignored pixels count nowhere.
    Returns int64 [4]: foreground intersection, foreground union, background intersection, background union.
    Raises ValueError where shapes differ (nothing is resized here) or other values occur.
    """
    if prediction.shape != labels.shape or labels.ndim != 2:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)} and labels have shape {tuple(labels.shape)}: "
            "both must be [H, W], so bring the prediction to the label's size first"
        )
    valid = labels != ignore
    for name, values, allowed in (
        ("prediction", prediction, "0 and 1: take the arg-max or a threshold first"),
        ("labels", labels[valid], f"0, 1 and {ignore}: make the mask binary for the episode's class first"),
    ):
        strange = values[(values != 0) & (values != 1)]
        if strange.numel():
            raise ValueError(f"the value {strange[0].item()} occurs in the {name}; allowed are {allowed}")
    predicted, truth = (prediction == 1) & valid, labels == 1
    intersection, union, total = (predicted & truth).sum(), (predicted | truth).sum(), valid.sum()
    # The background follows: its pixels lie outside the foreground union, and outside the intersection.
    return torch.stack([intersection, union, total - union, total - intersection])


@dataclass(frozen=True, eq=False)
class EpisodeScores:
    """The pixel counts of one run: one method on one list of episodes, in the list's order.

    class_index: int64 [n], the class of each episode, an index into class_names.
    counts: int64 [n, 4], rows of `episode_counts`.
    class_names: names of the data set's classes.
    episodes_sha256: the hash of the episode list, if there is one; it tells runs on different lists apart.
    Raises ValueError where the arrays do not fit together. They are copied and made read-only.
    """

    class_index: NDArray[np.int64]
    counts: NDArray[np.int64]
    class_names: tuple[str, ...]
    episodes_sha256: str = ""

    def __post_init__(self) -> None:
        class_index, counts = np.array(self.class_index, np.int64), np.array(self.counts, np.int64)
        if not counts.size or counts.shape != (len(counts), 4) or class_index.shape != counts.shape[:1]:
            raise ValueError(
                f"class_index has shape {class_index.shape} and counts have shape {counts.shape}: "
                "give [n] and [n, 4] with at least one episode"
            )
        if class_index.min() < 0 or class_index.max() >= len(self.class_names):
            raise ValueError(
                f"class_index runs from {class_index.min()} to {class_index.max()}, but there are "
                f"{len(self.class_names)} class names: give the names of all classes of the data set"
            )
        f_intersection, f_union, b_intersection, b_union = counts.T
        consistent = (f_intersection >= 0) & (f_intersection <= f_union) & (b_intersection >= 0)
        # Each side is the number of valid pixels.
        consistent &= f_union + b_intersection == b_union + f_intersection
        if not consistent.all():
            row = int(np.flatnonzero(~consistent)[0])
            raise ValueError(
                f"counts[{row}] is {counts[row].tolist()}, which no episode can give: use episode_counts"
            )
        for name, array in (("class_index", class_index), ("counts", counts)):
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @classmethod
    def from_lists(
        cls,
        class_index: Sequence[int],
        counts: Sequence[Tensor],
        class_names: Sequence[str],
        episodes_sha256: str = "",
    ) -> EpisodeScores:
        """Build from what a loop over episodes collects: class indices and results of `episode_counts`."""
        if not counts:
            raise ValueError("counts is empty: score at least one episode")
        rows = torch.stack(list(counts)).cpu().numpy()  # n x [4] -> [n, 4]
        return cls(np.asarray(class_index), rows, tuple(class_names), episodes_sha256)

    def class_iou(self) -> dict[int, float]:
        """Foreground IoU of each class that has an episode, its pixels accumulated over all its episodes."""
        sums = _class_sums(self)
        values = _ratio(sums[:, 0], sums[:, 1])
        return {int(c): float(value) for c, value in zip(np.unique(self.class_index), values, strict=True)}

    @property
    def miou(self) -> float:
        """Mean over the classes seen of `class_iou`. The default metric (as in PFENet and HSNet)."""
        return float(_metric_of_sums(_class_sums(self), "miou"))

    @property
    def fb_iou(self) -> float:
        """Mean of foreground IoU and background IoU, each accumulated over all episodes."""
        return float(_metric_of_sums(_class_sums(self), "fb_iou"))

    @property
    def episode_miou(self) -> float:
        """Mean over episodes of each episode's foreground IoU. NOT the default.

        Some published code reports this as mIoU. Small objects weigh as much as large ones in it, so it is
        not comparable with `miou`.
        """
        return float(_metric_of_sums(_class_sums(self), "episode_miou"))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for JSON."""
        return {
            "class_names": list(self.class_names),
            "episodes_sha256": self.episodes_sha256,
            "class_index": self.class_index.tolist(),
            "counts": self.counts.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EpisodeScores:
        """The inverse of `to_dict`. Raises ValueError where the keys are not those of `to_dict`."""
        expected = {"class_names", "episodes_sha256", "class_index", "counts"}
        if set(values) != expected:
            raise ValueError(
                f"scores have the keys {sorted(values)}; expected {sorted(expected)}: save with to_dict"
            )
        return cls(**values)


def bootstrap_interval(
    scores: EpisodeScores,
    metric: Metric = "miou",
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile bootstrap interval of a metric over the episodes of one run.

    Episodes are drawn with replacement *within each class*: episode lists give every class its fixed number
    of episodes, so resampling across classes would add a noise that the design does not have, and could lose
    a class and so change what mIoU averages. The interval thus holds for these classes, not for classes in
    general. It takes episodes as independent; where few images serve many episodes, or a class has few
    episodes, it is too narrow (a class with one episode adds no width at all).
    Raises ValueError for an unknown metric, n_resamples < 1 or a level outside (0, 1).
    """
    return mean_interval([scores], metric, n_resamples=n_resamples, seed=seed, level=level)


def paired_difference(
    a: EpisodeScores,
    b: EpisodeScores,
    metric: Metric = "miou",
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """metric(a) - metric(b) and its interval, both scored on the same resampled episodes.

    Resampling as in `bootstrap_interval`. Raises ValueError where a and b are not scores of the same
    episodes.
    """
    return mean_paired_difference(
        [a], [b], metric, n_resamples=n_resamples, seed=seed, level=level, resample_runs=False
    )


def mean_interval(
    runs: Sequence[EpisodeScores],
    metric: Metric = "miou",
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    resample_runs: bool = False,
) -> Interval:
    """Interval of the mean of a metric over runs (folds x seeds), each run counting the same.

    Episodes are resampled within every run. By default it covers the noise of the episodes only: these very
    networks, other episodes. For the noise of training see `resample_runs` in `mean_paired_difference`.
    """
    _check_settings(runs, metric, n_resamples, level)
    values = _resampled_values(runs, _list_numbers(runs), metric, n_resamples, seed)
    return _interval_of_mean(values, runs, seed, level, resample_runs)


def mean_paired_difference(
    runs_a: Sequence[EpisodeScores],
    runs_b: Sequence[EpisodeScores],
    metric: Metric = "miou",
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    resample_runs: bool = True,
) -> tuple[float, Interval]:
    """Mean over runs of metric(a_i) - metric(b_i), and its interval.

    runs_a[i] and runs_b[i] are two methods on the same episodes (same fold and, for trained methods, same
    seed). With resample_runs (a hierarchical bootstrap) each resample draws runs with replacement, as pairs
    and within their fold, and then episodes within each run: it covers the noise of training seeds and of
    episodes. Folds are strata, as classes are: runs with the same classes form a fold, and all folds are
    always present. Runs on the same episode list share their draw, since the luck of a list is common to
    them. With m seeds a fold the bootstrap shows (m - 1) / m of the variance between seeds, so with 2 or 3
    seeds the interval is on the narrow side; with 1 seed it covers the episodes only. (A run drawn twice
    keeps one draw of episodes: exact where the runs of a fold share a list, slightly wide where each has its
    own.)
    Raises ValueError where the two sequences differ in length or a pair in its episodes.
    """
    _check_settings(runs_a, metric, n_resamples, level)
    if len(runs_a) != len(runs_b):
        raise ValueError(
            f"{len(runs_a)} runs cannot be paired with {len(runs_b)}: give one run of each per pair"
        )
    for a, b in zip(runs_a, runs_b, strict=True):
        _check_same_episodes(a, b)
    lists = _list_numbers(runs_a)
    values = _resampled_values(runs_a, lists, metric, n_resamples, seed)
    values -= _resampled_values(runs_b, lists, metric, n_resamples, seed)
    interval = _interval_of_mean(values, runs_a, seed, level, resample_runs)
    differences = [getattr(a, metric) - getattr(b, metric) for a, b in zip(runs_a, runs_b, strict=True)]
    return float(np.mean(differences)), interval


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _mean_of_defined(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is left. (np.nanmean warns there.)"""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.astype(float).sum(axis=-1))


def _class_sums(
    scores: EpisodeScores, n_resamples: int = 0, generator: np.random.Generator | None = None
) -> Floats:
    """Sums over episodes per class seen: four counts, the episodes' IoU, how many of those are defined.

    Returns float64 [classes, 6], or [n_resamples, classes, 6] of resampled episodes if there is a generator.
    Float64 holds the integer sums exactly (below 2**53).
    """
    counts = scores.counts.astype(float)
    iou = _ratio(counts[:, 0], counts[:, 1])
    defined = ~np.isnan(iou)
    table = np.column_stack([counts, np.where(defined, iou, 0.0), defined])  # [n, 6]
    sums = []
    for c in np.unique(scores.class_index):
        rows = table[scores.class_index == c]  # [n_c, 6]
        if generator is None:
            sums.append(rows.sum(axis=0))
        else:  # equals gathering the drawn rows and adding them up, in a fraction of the memory
            sums.append(_multiplicities(len(rows), n_resamples, generator) @ rows)
    return np.stack(sums, axis=-2)


def _metric_of_sums(sums: Floats, metric: Metric) -> Floats:
    """Metric of `_class_sums`: [..., classes, 6] -> [...]."""
    if metric == "miou":
        return _mean_of_defined(_ratio(sums[..., 0], sums[..., 1]))
    total = sums.sum(axis=-2)  # [..., classes, 6] -> [..., 6]
    if metric == "fb_iou":
        return _mean_of_defined(_ratio(total[..., [0, 2]], total[..., [1, 3]]))
    return _ratio(total[..., 4], total[..., 5])


def _multiplicities(n: int, n_resamples: int, generator: np.random.Generator) -> Floats:
    """How often each of n things occurs among n draws with replacement: float64 [n_resamples, n]."""
    drawn = generator.integers(n, size=(n_resamples, n))
    drawn += n * np.arange(n_resamples)[:, None]  # its own range of numbers for every resample
    return np.bincount(drawn.ravel(), minlength=n_resamples * n).reshape(n_resamples, n).astype(float)


def _resampled_values(
    runs: Sequence[EpisodeScores], lists: Sequence[int], metric: Metric, n_resamples: int, seed: int
) -> Floats:
    """The metric of each run on resampled episodes: float64 [n_resamples, runs]. One list, one draw."""
    columns = []
    for scores, number in zip(runs, lists, strict=True):
        generator = np.random.default_rng([seed, 1 + number])
        columns.append(_metric_of_sums(_class_sums(scores, n_resamples, generator), metric))
    return np.stack(columns, axis=-1)


def _interval_of_mean(
    values: Floats, runs: Sequence[EpisodeScores], seed: int, level: float, resample_runs: bool
) -> Interval:
    """Percentiles of the mean over runs (last axis of values), if asked of runs drawn within folds."""
    weights = np.ones_like(values)
    if resample_runs:
        generator = np.random.default_rng([seed, 0])
        folds = np.array(_numbered([frozenset(run.class_names[c] for c in run.class_index) for run in runs]))
        for fold in np.unique(folds):
            members = np.flatnonzero(folds == fold)
            weights[:, members] = _multiplicities(len(members), len(values), generator)
    means = (weights * values).sum(axis=1) / values.shape[1]
    means = means[~np.isnan(means)]
    if not len(means):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _numbered(keys: Sequence[Any]) -> list[int]:
    """0 for the first distinct key, 1 for the second, and so on."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _valid_pixels(scores: EpisodeScores) -> NDArray[np.int64]:
    """Scored pixels of each episode. They depend on the labels only, so they help to tell lists apart."""
    return scores.counts[:, 1] + scores.counts[:, 2]


def _list_numbers(runs: Sequence[EpisodeScores]) -> list[int]:
    """Number the distinct episode lists among runs."""
    return _numbered([(r.episodes_sha256, r.class_index.tobytes(), _valid_pixels(r).tobytes()) for r in runs])


def _check_same_episodes(a: EpisodeScores, b: EpisodeScores) -> None:
    if len(a.class_index) != len(b.class_index):
        what = f"{len(a.class_index)} episodes against {len(b.class_index)}"
    elif a.class_names != b.class_names:
        what = "their class names are not the same"
    elif a.episodes_sha256 != b.episodes_sha256:
        hashes = [scores.episodes_sha256[:12] or "without hash" for scores in (a, b)]
        what = f"list {hashes[0]} against {hashes[1]}"
    elif (differ := a.class_index != b.class_index).any():
        what = f"episode {np.argmax(differ)} is of another class"
    elif (differ := _valid_pixels(a) != _valid_pixels(b)).any():
        what = f"episode {np.argmax(differ)} has another number of scored pixels"
    else:
        return
    raise ValueError(
        f"the two runs have different episodes ({what}): score both on one episode list, at one size"
    )


def _check_settings(runs: Sequence[EpisodeScores], metric: str, n_resamples: int, level: float) -> None:
    if not runs:
        raise ValueError("there are 0 runs: give the scores of at least one")
    if metric not in get_args(Metric):
        raise ValueError(f"unknown metric {metric!r}: choose one of {', '.join(get_args(Metric))}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}: give at least 1, for a stable interval 1000")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a share between 0 and 1, such as 0.95")
