"""Checks of the exercises of notebook 11."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dpnet_lite.ablation.comparisons import holm
from dpnet_lite.course.exercises import ask, compare, require, require_number, require_pair, right


def check_paired(paired: Callable[[Any, Any], Any]) -> str:
    """11.1: paired(variant, control), two float [n] -> (mean of variant minus control, pairs in which it is ahead)."""
    generator = np.random.default_rng(11)
    control = generator.uniform(0.3, 0.6, 9)
    variant = control + generator.normal(0.02, 0.03, 9)
    variant[3] = control[3]  # a draw
    pair = require_pair(ask(paired, variant, control), "(mean difference, wins)")
    mean, wins = require_number(pair[0], "the mean difference"), require_number(pair[1], "the number of wins")
    wanted, ahead = float(np.mean(variant - control)), int((variant > control).sum())
    percent = "that is in percent; the scores are shares, leave the difference one too"
    require(abs(mean - 100 * wanted) > 1e-6, percent)
    mistakes = {
        "the sign is turned round: it is variant minus control": -wanted,
        "that is the median of the differences; take their mean": np.median(variant - control),
    }
    compare(mean, wanted, mistakes, f"the mean difference is {wanted:.4f}, not {mean:.4f}", atol=1e-9, rtol=0)
    mistakes = {
        "a draw is counted as a win; a variant wins where it is strictly above": ahead + 1,
        "that is the share of wins; count them": ahead / 9,
    }
    compare(wins, ahead, mistakes, f"the variant is ahead in {ahead} pairs, not in {wins:g}", atol=0, rtol=0)
    return right("11.1", "a difference pair by pair, and how often it has that sign")


def check_holm(corrected: Callable[[Sequence[float]], Any]) -> str:
    """11.3: corrected(p_values), m p-values in any order -> m corrected ones in the same order."""
    for p_values in ([0.04, 0.01, 0.03, 0.9], [0.6, 0.02, 0.7, 0.01], [0.5, 0.4, 0.02], [0.011, 0.012, 0.2]):
        given = ask(corrected, p_values)
        require(given is not None, "your function returns nothing; end it with a return")
        try:
            answer = np.array(given, dtype=float)
        except (TypeError, ValueError):
            require(False, f"return the corrected p-values as a list of numbers, not {given!r}")
        wanted, m = np.array(holm(p_values)), len(p_values)
        require(answer.shape == wanted.shape, f"give {m} numbers for {m} p-values, not the shape {list(answer.shape)}")
        require(bool((answer <= 1).all()), f"{answer.max():.2f} is no probability; cut off at 1")
        order, steps = np.argsort(p_values), np.arange(m)
        ranked, back = np.array(p_values)[order], np.argsort(order)
        loose, early = (m - steps) * ranked, np.maximum.accumulate((m - 1 - steps) * ranked)
        share = np.minimum.accumulate((m / (1 + steps) * ranked)[::-1])[::-1]
        mistakes = {
            "that is Bonferroni's correction, m times each; Holm's factors fall": np.minimum(1, m * np.array(p_values)),
            "that is Benjamini and Hochberg's, m over the rank: it bounds the share of false finds among the finds; "
            "Holm's factors are m, m - 1, ...": share[back],
            "the smallest is multiplied by m, not by m - 1: the rank counts from 0": np.minimum(1, early)[back],
            "these are sorted; give each back in the place of its p-value": np.sort(wanted),
            "a larger p-value got a smaller corrected one: take the largest so far": np.minimum(1, loose)[back],
        }
        otherwise = f"for {p_values} it is {np.round(wanted, 3).tolist()}, not {np.round(answer, 3).tolist()}"
        compare(answer, wanted, mistakes, otherwise, atol=1e-8, rtol=1e-5)
    return right("11.3", "p-values that hold for all questions together")
