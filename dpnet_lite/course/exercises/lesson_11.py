"""Checks of the exercises of notebook 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dpnet_lite.ablation.comparisons import holm
from dpnet_lite.course.exercises import ask, require, require_number, require_pair, right


def check_paired(paired: Callable[[Any, Any], Any]) -> str:
    """`paired(variant, control)`, two float [n] -> (mean of variant less control, pairs in which it is ahead)."""
    generator = np.random.default_rng(11)
    control = generator.uniform(0.3, 0.6, 9)
    variant = control + generator.normal(0.02, 0.03, 9)
    variant[3] = control[3]  # a draw
    mean, wins = require_pair(ask(paired, variant.copy(), control.copy()), "(mean difference, wins)")
    mean, wins = require_number(mean, "the mean difference"), require_number(wins, "the number of wins")
    wanted, ahead = float(np.mean(variant - control)), int((variant > control).sum())
    require(abs(mean + wanted) > 1e-9, "the sign is turned round: it is variant less control")
    require(abs(mean - 100 * wanted) > 1e-6, "that is in percent; the scores are shares, leave the difference one too")
    middle = float(np.median(variant - control))
    require(abs(mean - middle) > 1e-9, "that is the median of the differences; take their mean")
    require(abs(mean - wanted) < 1e-9, f"the mean difference is {wanted:.4f}, not {mean:.4f}")
    require(wins != ahead + 1, "a draw is counted as a win; a variant wins where it is strictly above")
    require(wins != ahead / 9, "that is the share of wins; count them")
    require(wins == ahead, f"the variant is ahead in {ahead} pairs, not in {wins:g}")
    return right("11.1", "a difference pair by pair, and how often it has that sign")


def check_holm(corrected: Callable[[Sequence[float]], Any]) -> str:
    """`corrected(p_values)`, m p-values in any order -> m corrected ones in the same order."""
    for p_values in ([0.04, 0.01, 0.03, 0.9], [0.6, 0.02, 0.7, 0.01], [0.5, 0.4, 0.02], [0.011, 0.012, 0.2]):
        given = ask(corrected, list(p_values))
        require(given is not None, "your function returns nothing; end it with a return")
        try:
            answer = np.array(given, dtype=float)
        except (TypeError, ValueError):
            require(False, f"return the corrected p-values as a list of numbers, not {given!r}")
        wanted, m = np.array(holm(p_values)), len(p_values)
        require(answer.shape == wanted.shape, f"give {m} numbers for {m} p-values, not the shape {list(answer.shape)}")
        require(bool((answer <= 1).all()), f"{answer.max():.2f} is no probability; cut off at 1")
        bonferroni = np.minimum(1, m * np.array(p_values))
        require(
            not np.allclose(answer, bonferroni), "that is Bonferroni's correction, m times each; Holm's factors fall"
        )
        in_order = np.sort(wanted)
        turned = np.allclose(answer, in_order) and not np.allclose(wanted, in_order)
        require(not turned, "these are sorted; give each back in the place of its p-value")
        order = np.argsort(p_values)
        loose = np.empty(m)
        loose[order] = np.minimum(1, (m - np.arange(m)) * np.array(p_values)[order])
        rises = not np.allclose(loose, wanted)
        require(
            not (rises and np.allclose(answer, loose)),
            "a larger p-value got a smaller corrected one: take the largest so far",
        )
        require(
            np.allclose(answer, wanted),
            f"for {p_values} it is {np.round(wanted, 3).tolist()}, not {np.round(answer, 3).tolist()}",
        )
    return right("11.2", "p-values that hold for all questions together")
