"""Where a difference comes from: paired differences of episodes, within strata of these episodes.

paired = paired_ious(rows, "full", "support only", "1-shot")
table = stratified(paired, facts["hidden share"], [0, 0.01, 0.2, 1])
table.strata[0].difference, table.strata[0].interval, table.contrast_interval ...

The measure is the mean over episodes of their IoU, since a stratum may hold few episodes of a class: it is not
comparable with mIoU. Intervals: percentile bootstrap, episodes drawn within their class and seeds within their fold.
All of this is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from dpnet_lite.ablation.comparisons import label, runs_of
from dpnet_lite.ablation.table import Row, unpack, unpack_scores
from dpnet_lite.evaluation import Floats
from dpnet_lite.experiments.intervals import Interval, bootstrap_weights, percentile_interval, run_weights


@dataclass(frozen=True)
class PairedEpisodes:
    """IoU of the same N episodes under a variant and its control, for S seeds."""

    folds: np.ndarray  # int64 [N], in blocks
    numbers: np.ndarray  # int64 [N], position of the episode in its fold's list
    class_names: np.ndarray  # str [N]
    variant: Floats  # [S, N] in [0, 1]
    control: Floats  # [S, N]
    precision: Floats  # [S, N], share of the variant's selection that lies on the object; NaN where it has none
    episodes_sha256: dict[int, str]  # by fold

    @property
    def differences(self) -> Floats:
        """[S, N], variant minus control."""
        return self.variant - self.control


@dataclass(frozen=True)
class Stratum:
    """Episodes whose fact lies between two values, and the difference among them."""

    low: float
    high: float  # belongs to the stratum only if it is the last one
    share: float  # of all episodes
    variant: float  # mean IoU
    control: float
    interval: Interval  # 95 %, of the difference

    @property
    def difference(self) -> float:
        """Variant minus control."""
        return self.variant - self.control

    @property
    def contribution(self) -> float:
        """What the stratum adds to the difference over all episodes: those of all strata add up to it."""
        return self.share * self.difference


@dataclass(frozen=True)
class Stratified:
    """A difference by strata, lowest values first; empty strata are left out."""

    strata: tuple[Stratum, ...]
    contrast: float  # difference in the last stratum minus that in the first
    contrast_interval: Interval  # 95 % unless `stratified` was asked for another level

    @property
    def verdict(self) -> str:
        """Whether the difference grows or shrinks from the first stratum to the last."""
        if self.contrast_interval.low > 0:
            return "grows"
        return "shrinks" if self.contrast_interval.high < 0 else "no measurable change"


def paired_ious(rows: Sequence[Row], variant: str, control: str, condition: str) -> PairedEpisodes:
    """Collect the IoU of every episode from labelled rows.

    Raises:
        ValueError: the two lack runs, folds have different seeds, or a pair has different episodes.
    """
    by_label = {label(row): row for row in rows}
    first, second = (runs_of(by_label, name, condition) for name in (variant, control))
    seeds = sorted({seed for _, seed in first})
    folds = sorted({fold for fold, _ in first})
    if not first or first.keys() != second.keys() or len(first) != len(seeds) * len(folds):
        raise ValueError(
            f"{variant!r} has {len(first)} runs under {condition!r} and {control!r} {len(second)}; "
            "both need every seed in every fold"
        )
    blocks = []
    for fold in folds:
        runs, rival_runs = ([unpack_scores(own[fold, seed]["scores"]) for seed in seeds] for own in (first, second))
        if len({run.episodes_sha256 for run in (*runs, *rival_runs)}) > 1:
            raise ValueError(f"the runs of fold {fold} have different episodes; score all on one list")
        n = len(runs[0].class_index)
        names = np.array(runs[0].class_names)[runs[0].class_index]
        # Every episode has foreground, so no union is empty.
        ious = (np.stack([run.counts[:, 0] / run.counts[:, 1] for run in own]) for own in (runs, rival_runs))
        precision = np.stack([_precision(first[fold, seed], n) for seed in seeds])
        blocks.append((np.full(n, fold), np.arange(n), names, *ious, precision))
    numbers, places, names, ours, theirs, precision = (np.concatenate(c, axis=-1) for c in zip(*blocks, strict=True))
    hashes = {fold: first[fold, seeds[0]]["scores"]["episodes_sha256"] for fold in folds}
    return PairedEpisodes(numbers, places, names, ours, theirs, precision, hashes)


def _precision(row: Row, n: int) -> Floats:
    if "precision" not in row:
        return np.full(n, np.nan)
    return np.clip(unpack(row["precision"], np.float16).astype(float), 0, 1)


def quantile_edges(values: ArrayLike, n: int) -> list[float]:
    """Edges of at most n strata of about the same size; fewer where many values are equal."""
    edges = np.nanquantile(np.asarray(values, dtype=float), np.linspace(0, 1, n + 1))
    return [float(edge) for edge in np.unique(edges)]


def strata_of(values: ArrayLike, edges: Sequence[float]) -> np.ndarray:
    """Number of each value's stratum, int64 of the values' shape: k for edges[k] <= value < edges[k + 1].

    The last stratum holds its upper edge too; values outside of all, and NaN, get -1.

    Raises:
        ValueError: the edges do not rise, or are fewer than two.
    """
    edges_array, array = np.asarray(edges, dtype=float), np.asarray(values, dtype=float)
    if len(edges_array) < 2 or (np.diff(edges_array) <= 0).any():
        raise ValueError(f"edges are {list(edges)}; give at least two that rise")
    numbers = np.searchsorted(edges_array, array, side="right") - 1
    numbers[array == edges_array[-1]] = len(edges_array) - 2
    numbers[(array > edges_array[-1]) | np.isnan(array)] = -1
    return numbers


def stratified(
    paired: PairedEpisodes,
    values: ArrayLike,
    edges: Sequence[float],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Stratified:
    """The difference within each stratum of `values`, [N] for facts of episodes or [S, N] for those of runs.

    `level` is that of the contrast's interval: one of several contrasts may ask for more than 0.95.

    Raises:
        ValueError: fewer than two strata hold an episode, or the edges do not rise.
    """
    numbers = np.broadcast_to(strata_of(values, edges), paired.differences.shape)  # [S, N]
    kept = [k for k in range(len(edges) - 1) if (numbers == k).any()]
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} strata hold episodes; move the edges {list(edges)} so that two or more do")
    insides = [numbers == k for k in kept]
    resampled = [_resampled(paired, inside, n_resamples, seed) for inside in insides]
    strata = tuple(
        _stratum(paired, inside, edges[k], edges[k + 1], draws)
        for k, inside, draws in zip(kept, insides, resampled, strict=True)
    )
    contrast = percentile_interval(resampled[-1] - resampled[0], level)
    return Stratified(strata, strata[-1].difference - strata[0].difference, contrast)


def overall(paired: PairedEpisodes, *, n_resamples: int = 1000, seed: int = 0) -> Stratum:
    """All episodes as one stratum."""
    inside = np.ones(paired.differences.shape, dtype=bool)
    return _stratum(paired, inside, -np.inf, np.inf, _resampled(paired, inside, n_resamples, seed))


def _stratum(paired: PairedEpisodes, inside: np.ndarray, low: float, high: float, draws: Floats) -> Stratum:
    variant, control = (float(part[inside].mean()) for part in (paired.variant, paired.control))
    return Stratum(low, high, float(inside.mean()), variant, control, percentile_interval(draws))


@lru_cache(maxsize=1)
def _weights(class_names: tuple[str, ...], n_resamples: int, seed: int) -> Floats:
    """`bootstrap_weights`, [n_resamples, N], drawn once for all strata; a class belongs to one fold."""
    return bootstrap_weights(np.unique(class_names, return_inverse=True)[1], n_resamples, seed=seed)


def _resampled(paired: PairedEpisodes, inside: np.ndarray, n_resamples: int, seed: int) -> Floats:
    """Mean difference inside a stratum, bool [S, N], under resampled episodes and seeds: float64 [n_resamples].

    Episodes are drawn for all seeds alike; to that is added what drawn seeds change of the observed mean, to first
    order, as in `intervals.mean_paired_difference`. All strata get the same draws, as their contrast needs. NaN where a
    draw leaves the stratum empty.
    """
    counted = inside.astype(float)
    sums, sizes = (paired.differences * counted).sum(axis=0), counted.sum(axis=0)  # [S, N] -> [N]
    weights = _weights(tuple(paired.class_names), n_resamples, seed)
    total, size = weights @ sums, weights @ sizes
    means = np.divide(total, size, out=np.full(n_resamples, np.nan), where=size > 0)

    folds = np.unique(paired.folds)
    excess = (paired.differences - sums.sum() / sizes.sum()) * counted  # [S, N]
    by_run = np.stack([excess[:, paired.folds == fold].sum(axis=1) for fold in folds])  # [folds, S]
    labels = np.repeat(np.arange(len(folds)), len(inside))  # [folds * S]
    runs = run_weights(labels, n_resamples, np.random.default_rng([seed, 1]))
    return means + (runs - 1) @ by_run.ravel() / sizes.sum()
