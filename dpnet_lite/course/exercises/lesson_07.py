"""Checks of notebook 07: mIoU from counts, and a bootstrap interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dpnet_lite.course.exercises import ask, compare, require, require_number, require_pair, right
from dpnet_lite.evaluation import EpisodeScores


def check_miou(function: Callable[[np.ndarray, np.ndarray], float]) -> str:
    """7.1: function(counts int64 [n, 4], class_index int64 [n]) -> mIoU in [0, 1]."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        class_index = generator.permutation([2, 2, 2, 5, 5, 7, 7, 7, 7])
        union = generator.integers(50, 900, 9)
        intersection = (union * generator.uniform(0.1, 0.9, 9)).astype(np.int64)
        counts = np.stack([intersection, union, 1000 - union, 1000 - intersection], axis=1)
        scores = EpisodeScores(class_index, counts, tuple("abcdefgh"))
        given = require_number(ask(function, counts, class_index), "my_miou")
        pooled = intersection.sum() / union.sum()
        kinds, n = np.unique(class_index, return_counts=True)
        sums = np.stack([counts[class_index == kind].sum(axis=0) for kind in kinds])  # [classes, 4]
        iou, background = (sums[:, k] / sums[:, k + 1] for k in (0, 2))
        ious = [(intersection / union)[class_index == kind].mean() for kind in kinds]
        mistakes = {
            "this is the mean over the episodes of a class: add up its pixels, then divide": np.mean(ious),
            "this is the mean over episodes: add up the pixels of a class": scores.episode_miou,
            "this is FB-IoU: leave the background out": scores.fb_iou,
            "this adds up the pixels of all classes: one IoU per class, then the mean": pooled,
            "this is the background's: the foreground stands in columns 0 and 1": background.mean(),
            "this weighs a class by its number of episodes: all classes weigh the same": float(iou @ n / n.sum()),
            "this is the Dice score, 2 I / (I + U): divide the intersection by the union": (2 * iou / (1 + iou)).mean(),
            "this is in percent: return a number between 0 and 1": 100 * scores.miou,
            "this is the sum over the classes: divide by their number": iou.sum(),
        }
        otherwise = f"mIoU should be {scores.miou:.4f}, yours is {given:.4f}"
        compare(given, scores.miou, mistakes, otherwise, atol=1e-9, rtol=0)
    return right("7.1", "mIoU agrees with the package in 20 random cases")


def check_interval(function: Callable[[np.ndarray, np.random.Generator], tuple[float, float]]) -> str:
    """7.2: function(values [n], generator) -> ends of the middle 95 % of the means of 1,000 resamples."""
    generator = np.random.default_rng(1)
    misses, told = [], []  # of both ends, in standard errors of the mean; and in words
    for case in range(20):
        n = (40, 100)[case % 2]
        values = generator.beta(2, 3, n) * generator.uniform(0.2, 1)
        given = [ask(function, values, np.random.default_rng(seed)) for seed in (2 * case, 2 * case + 1)]
        (low, high), other = ([require_number(v, "my_interval") for v in require_pair(g, "(low, high)")] for g in given)
        means = generator.choice(values, (4_000, n)).mean(axis=1)
        wanted_low, wanted_high = np.quantile(means, [0.025, 0.975])
        spread = float(values.std() / np.sqrt(n))
        require(low <= high, "the ends are exchanged: the lower one comes first")
        require(high - low > 0.1 * spread, "all resamples are the same: draw with replacement, as many as there are")
        wide = (high - low) * (n / 10) ** -0.5 / (wanted_high - wanted_low)
        require(not 0.85 < wide < 1.15, f"too wide: draw as many as there are values, here {n}, not 10")
        require(high - low < 8 * spread, "far too wide: it is the spread of the values, not of their means")
        require(high > wanted_low, "both ends lie below the middle: a percentile of 2.5 is a quantile of 0.025")
        require([low, high] != other, "two generators give the same ends: draw the resamples with the generator")
        misses.append([(low - wanted_low) / spread, (high - wanted_high) / spread])
        told.append(f"about [{wanted_low:.3f}, {wanted_high:.3f}], yours is [{low:.3f}, {high:.3f}]")
    inwards = np.mean(misses, axis=0) * (1, -1)
    said = "this is the middle 90 %, with 5 % left at each end: the middle 95 % leaves 2.5 %, so 0.025 and 0.975"
    require(not bool((np.abs(inwards - 0.315) < 0.08).all()), said)
    far = np.abs(misses).max(axis=1)
    require(bool(far.max() < 0.45), f"the interval should be {told[far.argmax()]}")
    # One end of 1,000 resamples has a standard deviation of 0.085 standard errors, so the mean of 20 has 0.02.
    require(
        bool((np.abs(np.mean(misses, axis=0)) < 0.1).all()),
        "the ends are a little off in the same direction each time: take the quantiles 0.025 and 0.975 of the means",
    )
    return right("7.2", "20 intervals agree with resamples of the check's own")
