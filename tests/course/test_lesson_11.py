"""The checks of lesson 11: the right answer passes, each typical mistake is told by name."""

from __future__ import annotations

import numpy as np
import pytest

from dpnet_lite.ablation.comparisons import holm
from dpnet_lite.course.exercises import Wrong
from dpnet_lite.course.exercises.lesson_11 import check_holm, check_paired


def answer(variant, control, *, scale=1.0, mean=np.mean, wins=np.greater, count=np.sum):
    difference = scale * (variant - control)
    return mean(difference), count(wins(variant, control))


def test_right_answers_pass():
    assert check_paired(answer).startswith("Exercise 11.1 is right")
    assert check_paired(lambda v, c: [float(x) for x in answer(v, c)])
    assert check_holm(holm).startswith("Exercise 11.2 is right")
    assert check_holm(lambda p: np.array(holm(p)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scale": -1.0}, "sign is turned round"),
        ({"scale": 100.0}, "in percent"),
        ({"mean": np.median}, "the median"),
        ({"wins": np.greater_equal}, "a draw is counted"),
        ({"count": np.mean}, "share of wins"),
        ({"wins": np.less}, "the variant is ahead in"),
        ({"scale": 2.0}, "the mean difference is"),
    ],
)
def test_wrong_paired_differences_are_told_why(changes, words):
    with pytest.raises(Wrong, match=words):
        check_paired(lambda v, c: answer(v, c, **changes))


def bonferroni(p):
    return [min(1.0, len(p) * x) for x in p]


def without_order(p):
    return sorted(holm(p))


def without_largest(p):
    order = np.argsort(p)
    result = np.empty(len(p))
    result[order] = np.minimum(1, (len(p) - np.arange(len(p))) * np.array(p)[order])
    return result


def without_limit(p):
    result, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(np.argsort(p)):
        largest = result[index] = max(largest, (len(p) - rank) * p[index])
    return result


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (bonferroni, "Bonferroni"),
        (without_order, "these are sorted"),
        (without_largest, "take the largest so far"),
        (without_limit, "is no probability"),
        (lambda p: p, "it is .*, not"),
        (lambda p: p[:-1], "give 4 numbers for 4 p-values"),
        (lambda p: None, "returns nothing"),
        (lambda p: ["a"] * len(p), "as a list of numbers"),
    ],
)
def test_wrong_corrections_are_told_why(function, words):
    with pytest.raises(Wrong, match=words):
        check_holm(function)


@pytest.mark.parametrize("check", [check_paired, check_holm])
def test_unwritten_exercises_are_told(check):
    def unwritten(*arguments):
        raise NotImplementedError

    with pytest.raises(Wrong, match="unwritten is not written yet"):
        check(unwritten)
