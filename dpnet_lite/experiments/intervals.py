"""How sure one may be of a metric: bootstrap intervals over episodes, for one run, a pair or several.

The bootstrap draws the same things anew with replacement, and sees how far a mean moves. A resample is a row of
weights: how often each thing was drawn. A mean under many rows is one matrix product, and two measures of the same
episodes get the same draw if they get the same rows. All are percentile intervals, in the units of the metric. That
they resample within classes and folds is our choice; the reasons stand at the functions. The spread of the resamples
is widened by what they cannot show: that episodes share images, and that few episodes are few (`shared_images.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpnet_lite.evaluation import EpisodeScores, Floats, Metric, class_tables, mean_of_defined, metric_of_sums
from dpnet_lite.experiments.shared_images import Spread, spread


class Interval(NamedTuple):
    """Ends of a percentile interval, in the units of what was resampled."""

    low: float
    high: float


def multiplicities(n: int, n_resamples: int, generator: np.random.Generator, *, n_drawn: int | None = None) -> Floats:
    """How often each of n things occurs in `n_drawn` draws (default n) with replacement: float64 [n_resamples, n]."""
    drawn = generator.integers(n, size=(n_resamples, n if n_drawn is None else n_drawn))
    drawn += n * np.arange(n_resamples)[:, None]  # its own range of numbers for every resample
    return np.bincount(drawn.ravel(), minlength=n_resamples * n).reshape(n_resamples, n).astype(float)


def bootstrap_weights(labels: ArrayLike, n_resamples: int = 1000, *, seed: int = 0) -> Floats:
    """How often each of N episodes is drawn in each resample, float64 [n_resamples, N].

    Args:
        labels: int [N], the class of each. Episodes are drawn with replacement within their class, as in
            `bootstrap_interval`, which gives the reason.
    """
    classes = np.asarray(labels)
    generator = np.random.default_rng(seed)
    weights = np.zeros((n_resamples, len(classes)))
    for label in np.unique(classes):
        members = np.flatnonzero(classes == label)
        weights[:, members] = multiplicities(len(members), n_resamples, generator)
    return weights


def run_weights(folds: ArrayLike, n_resamples: int, generator: np.random.Generator) -> Floats:
    """Weights of runs, of which there are few: float64 [n_resamples, n], adding up to the number of runs in each fold.

    Runs are drawn within their fold. The plain bootstrap shows only (n - 1) / n of the variance of a mean, which
    matters for 2 to 5 training seeds; here n - 1 are drawn and weigh n / (n - 1) each, which gives all of it (Rao and
    Wu 1988). And a spread that is known from few runs may be too small by luck, so each resample's departure from
    equal weights is stretched by sqrt(v / chi^2_v), as in Student's t, with v the runs minus the folds. Without that,
    95 % intervals of 3 seeds on 2 folds hold the truth in 88 % of cases. Trainings are taken to scatter alike in all
    folds, and in each by themselves. Weights may be negative: apply them to observed values, not to ratios of sums.

    Args:
        folds: int [n], the fold of each run. A fold with one run gives it weight 1.
    """
    labels = np.asarray(folds)
    kinds = np.unique(labels)
    weights = np.ones((n_resamples, len(labels)))
    freedom = len(labels) - len(kinds)
    if freedom == 0:
        return weights
    stretch = np.sqrt(freedom / generator.chisquare(freedom, size=(n_resamples, 1)))
    for kind in kinds:
        members = np.flatnonzero(labels == kind)
        n = len(members)
        if n > 1:
            drawn = multiplicities(n, n_resamples, generator, n_drawn=n - 1) * (n / (n - 1))
            weights[:, members] += stretch * (drawn - 1)
    return weights


def percentile_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Where the middle `level` of resampled values [n_resamples] lies; NaN among them is left out.

    Raises:
        ValueError: the level is not between 0 and 1, a value is infinite, or there are several columns.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}: give a share between 0 and 1, such as 0.95")
    kept = np.asarray(values, dtype=float)
    if kept.ndim != 1:
        raise ValueError(f"the resampled values are {list(kept.shape)}; give one column at a time")
    kept = kept[~np.isnan(kept)]
    if np.isinf(kept).any():
        raise ValueError("the resampled values hold infinity; give finite ones, or NaN for what is not defined")
    if not len(kept):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def percent(value: float, interval: Interval | None = None, *, signed: bool = False) -> str:
    """0.417 -> "41.7", with an interval "41.7 [40.1, 43.2]"."""
    number = "{:+.1f}" if signed else "{:.1f}"
    text = number.format(100 * value)
    if interval is None:
        return text
    return f"{text} [{number.format(100 * interval.low)}, {number.format(100 * interval.high)}]"


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
    general. Where the scores name the images of their episodes, it holds for other images of these classes; else
    episodes are taken as independent. A class with one episode adds no width at all.
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
    return mean_paired_difference([a], [b], metric, n_resamples=n_resamples, seed=seed, level=level)


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
    runs = tuple(runs)
    _check_settings(runs, metric, n_resamples, seed)
    values = _resampled_values(runs, _list_numbers(runs), metric, n_resamples, seed)
    observed = np.array([getattr(run, metric) for run in runs])
    added = [influence(run, metric) for run in runs]
    return _within(_interval_of_mean(values, observed, added, runs, seed, level, resample_runs), 0.0)


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
    seed). With resample_runs each resample draws episodes within each run, and besides runs, as pairs and within their
    fold, and adds up what both change: it covers the noise of training seeds and of episodes. Folds are strata, as
    classes are: runs with the same classes form a fold, and all folds are always present. Runs on the same episode list
    share their draw, since the luck of a list is common to them. Seeds are few, so they are drawn as
    `run_weights` says; with 1 seed a fold the interval covers the episodes only. Where networks differ in
    which episodes suit them, that part of the noise counts twice: intervals are then a little wide, never narrow.
    Raises ValueError where the two sequences differ in length or a pair in its episodes.
    """
    runs_a, runs_b = tuple(runs_a), tuple(runs_b)
    _check_settings(runs_a, metric, n_resamples, seed)
    if len(runs_a) != len(runs_b):
        raise ValueError(f"{len(runs_a)} runs cannot be paired with {len(runs_b)}: give one run of each per pair")
    for a, b in zip(runs_a, runs_b, strict=True):
        _check_same_episodes(a, b)
    lists = _list_numbers(runs_a)
    values = _resampled_values(runs_a, lists, metric, n_resamples, seed)
    values -= _resampled_values(runs_b, lists, metric, n_resamples, seed)
    differences = np.array([getattr(a, metric) - getattr(b, metric) for a, b in zip(runs_a, runs_b, strict=True)])
    added = [influence(a, metric) - influence(b, metric) for a, b in zip(runs_a, runs_b, strict=True)]
    interval = _interval_of_mean(values, differences, added, runs_a, seed, level, resample_runs)
    return float(differences.mean()), _within(interval, -1.0)


def _resampled_values(
    runs: Sequence[EpisodeScores], lists: Sequence[int], metric: Metric, n_resamples: int, seed: int
) -> Floats:
    """The metric of each run on resampled episodes: float64 [n_resamples, runs]. One list, one draw."""
    columns = []
    for scores, number in zip(runs, lists, strict=True):
        tables = class_tables(scores)
        draws = _draws_of_list(tuple(map(len, tables)), number, n_resamples, seed)
        # Equals gathering the drawn rows and adding them up, in a fraction of the memory.
        sums = np.stack([drawn @ rows for drawn, rows in zip(draws, tables, strict=True)], axis=1)
        columns.append(metric_of_sums(sums, metric))  # sums: [n_resamples, classes, 6]
    return np.stack(columns, axis=-1)


@lru_cache(maxsize=8)  # the lists of a few folds, which many runs share; 500 episodes, 2,000 times: 8 MB
def _draws_of_list(sizes: tuple[int, ...], number: int, n_resamples: int, seed: int) -> tuple[Floats, ...]:
    """How often each episode of a list is drawn, class by class: [n_resamples, episodes of the class] each."""
    generator = np.random.default_rng([seed, 1 + number])
    draws = tuple(multiplicities(size, n_resamples, generator) for size in sizes)
    for drawn in draws:
        drawn.setflags(write=False)  # they are shared
    return draws


def influence(scores: EpisodeScores, metric: Metric) -> Floats:
    """By how much the metric falls without an episode, times 1 - 1 / n of its class's n: float64 [episodes].

    Its mean over the episodes of a class is left out, since a class has its fixed number of episodes. Stratified
    jackknife (Efron and Stein 1981): of few episodes, their resamples show too small a spread of a ratio of sums.
    """
    tables = class_tables(scores)
    sums = np.stack([table.sum(axis=0) for table in tables])  # [classes, 6]
    falls = np.zeros(len(scores.counts))
    for number, (c, table) in enumerate(zip(np.unique(scores.class_index), tables, strict=True)):
        without = np.repeat(sums[None], len(table), axis=0)  # [n_c, classes, 6]
        without[:, number] -= table
        fall = (metric_of_sums(sums, metric) - metric_of_sums(without, metric)) * (1 - 1 / len(table))  # [n_c]
        falls[scores.class_index == c] = np.nan_to_num(fall - fall.mean())
    return falls


def _spread_of_mean(added: Sequence[Floats], runs: Sequence[EpisodeScores]) -> Spread:
    """How far the mean over runs may be off; `added` is the influence of each run's episodes."""
    lists: dict[int, tuple[EpisodeScores, Floats]] = {}
    for number, run, falls in zip(_list_numbers(runs), runs, added, strict=True):
        lists[number] = run, falls / len(runs) + (lists[number][1] if number in lists else 0.0)
    classes: dict[str, list[tuple[Floats, Any]]] = {}
    for run, falls in lists.values():
        for c in np.unique(run.class_index):
            chosen = run.class_index == c
            images = None if run.images is None else run.images[chosen]
            classes.setdefault(run.class_names[c], []).append((falls[chosen], images))
    falls_of = [np.concatenate([falls for falls, _ in parts]) for parts in classes.values()]
    images_of = [
        None if any(images is None for _, images in parts) else np.concatenate([images for _, images in parts])
        for parts in classes.values()
    ]
    return spread(falls_of, images_of)


def _interval_of_mean(
    values: Floats,
    observed: Floats,
    added: Sequence[Floats],
    runs: Sequence[EpisodeScores],
    seed: int,
    level: float,
    resample_runs: bool,
) -> Interval:
    """Percentiles of the mean over runs of resampled `values` [n_resamples, runs], if asked of runs drawn in folds.

    The scatter of the `observed` values [runs] holds the luck of each run with its episodes already. So runs are drawn
    from these, not from resampled values, which would have that luck once more.
    """
    generator = np.random.default_rng([seed, 0])
    resampled = values.mean(axis=1)
    # mIoU of few episodes is too high on average, and once more that of resamples of them: they keep their own mean.
    departures = resampled - mean_of_defined(resampled)
    if (shown := float(mean_of_defined(departures**2))) > 1e-30:
        # To the variance that is found, and as in Student's t, by its degrees of freedom over a draw of chi^2.
        variance, freedom = _spread_of_mean(added, runs)
        drawn = np.random.default_rng([seed, 0, 1]).chisquare(freedom, size=len(values))
        departures *= np.sqrt(variance / shown * freedom / drawn)
    means = observed.mean() + departures
    if resample_runs:
        folds = np.array(_numbered([frozenset(run.class_names[c] for c in run.class_index) for run in runs]))
        means = means + (run_weights(folds, len(values), generator) - 1) @ observed / len(runs)
    return percentile_interval(means, level)


def _within(interval: Interval, lowest: float) -> Interval:
    """The interval, not beyond what a metric or a difference of two can be: few runs can carry it there."""
    return Interval(max(interval.low, lowest), min(interval.high, 1.0))


def _numbered(keys: Sequence[Any]) -> list[int]:
    """0 for the first distinct key, 1 for the second, and so on."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(key, len(numbers)) for key in keys]


def _valid_pixels(scores: EpisodeScores) -> NDArray[np.int64]:
    """Scored pixels of each episode. They depend on the labels only, so they help to tell lists apart."""
    return scores.counts[:, 1] + scores.counts[:, 2]


def _list_numbers(runs: Sequence[EpisodeScores]) -> list[int]:
    """Number the distinct episode lists among runs."""
    shown = [_shown(run) for run in runs]
    shown = shown if None not in shown else [None] * len(runs)  # of runs that do not all name their images
    keys = [(r.episodes_sha256, r.class_index.tobytes(), _valid_pixels(r).tobytes()) for r in runs]
    return _numbered([*zip(keys, shown, strict=True)])


def _shown(scores: EpisodeScores) -> bytes | None:
    """The images of each episode, the support in whatever order; None where they are not known."""
    return None if (own := scores.images) is None else own[:, :1].tobytes() + np.sort(own[:, 1:], axis=1).tobytes()


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
    elif None not in (shown := [_shown(a), _shown(b)]) and shown[0] != shown[1]:
        what = "they are of other images"
    else:
        return
    raise ValueError(f"the two runs have different episodes ({what}): score both on one episode list, at one size")


def _check_settings(runs: Sequence[EpisodeScores], metric: str, n_resamples: int, seed: int) -> None:
    if not runs:
        raise ValueError("there are 0 runs: give the scores of at least one")
    if len(shots := {run.images.shape[1] - 1 for run in runs if run.images is not None}) > 1:
        raise ValueError(f"the runs are of {' and '.join(map(str, sorted(shots)))} shots: give those of one number")
    if metric not in get_args(Metric):
        raise ValueError(f"unknown metric {metric!r}: choose one of {', '.join(get_args(Metric))}")
    if n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples}: give at least 1, for a stable interval 1000")
    if seed < 0:
        raise ValueError(f"seed is {seed}: give 0 or more")


def weighted_correlation(x: ArrayLike, y: ArrayLike, weights: Floats) -> Any:
    """Pearson correlation of x and y [N] under each row of weights [..., N]."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    shares = weights / weights.sum(axis=-1, keepdims=True)
    mean_x, mean_y = shares @ x, shares @ y
    spread = np.sqrt((shares @ x**2 - mean_x**2) * (shares @ y**2 - mean_y**2))
    return (shares @ (x * y) - mean_x * mean_y) / spread


def weighted_auc(x: ArrayLike, positive: ArrayLike, weights: Floats) -> Any:
    """Area under the ROC curve: how often a positive's x is above a negative's, ties half, under each row of weights.

    Args:
        x: float [N], the measure; positive: bool [N], what it should tell apart.
        weights: float [..., N]; a pair counts as often as the product of its two weights.

    Returns:
        float [...] in [0, 1]; NaN where a row has no positives or no negatives.
    """
    x, chosen = np.asarray(x, dtype=float), np.asarray(positive, dtype=bool)
    above = np.sign(x[chosen][:, None] - x[~chosen][None, :]) / 2 + 0.5  # [positives, negatives]
    first, second = weights[..., chosen], weights[..., ~chosen]
    with np.errstate(invalid="ignore"):
        return ((first @ above) * second).sum(axis=-1) / (first.sum(axis=-1) * second.sum(axis=-1))
