"""The checks of lesson 12 pass right answers, refuse typical wrong ones with the reason, and unwritten ones."""

from __future__ import annotations

import numpy as np
import pytest

from dpnet_lite.course.analysis.strata import PairedEpisodes, stratified
from dpnet_lite.course.exercises import Wrong
from dpnet_lite.course.exercises.lesson_12 import check_contributions, check_hidden_share


def hidden(masks, own):
    top = np.full(masks.shape[1:], -1)
    for number, mask in enumerate(masks):
        top[mask] = number
    whole = masks[own].any(axis=0)
    return (whole & ~np.isin(top, np.flatnonzero(own))).sum() / whole.sum()


def any_order(masks, own):
    whole = masks[own].any(axis=0)
    return (whole & masks[~own].any(axis=0)).sum() / whole.sum()


def own_hides_own(masks, own):
    seen = sum((masks[k] & ~masks[k + 1 :].any(axis=0)).sum() for k in np.flatnonzero(own))
    return 1 - seen / masks[own].sum()


def contributions(differences, numbers, n_strata):
    return np.bincount(numbers, weights=differences, minlength=n_strata) / len(differences)


def means(differences, numbers, n_strata):
    return np.array([differences[numbers == k].mean() if (numbers == k).any() else 0 for k in range(n_strata)])


def sums(differences, numbers, n_strata):
    return contributions(differences, numbers, n_strata) * len(differences)


def unwritten(*arguments):
    raise NotImplementedError


def test_right_answers_pass():
    assert check_hidden_share(hidden).startswith("Exercise 12.1 is right")
    assert check_contributions(contributions).startswith("Exercise 12.2 is right")
    assert check_contributions(lambda d, k, n: contributions(d, k, n).tolist()).startswith("Exercise 12.2 is right")


def test_the_checks_agree_with_the_package():
    generator = np.random.default_rng(0)
    differences, values = generator.normal(size=40), generator.random(40)
    paired = PairedEpisodes(
        np.zeros(40, int),
        np.arange(40),
        np.array(["a", "b"] * 20),
        differences[None],
        np.zeros((1, 40)),
        np.zeros((1, 40)),
        {0: ""},
    )
    table = stratified(paired, values, [0, 0.4, 0.7, 1], n_resamples=20)
    numbers = np.digitize(values, [0.4, 0.7])
    assert np.allclose([s.contribution for s in table.strata], contributions(differences, numbers, 3))


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        (check_hidden_share, lambda m, o: 1 - hidden(m, o), "share that is seen"),
        (check_hidden_share, any_order, "lies behind and hides nothing"),
        (check_hidden_share, lambda m, o: hidden(m[::-1], o[::-1]), "turned round"),
        (check_hidden_share, own_hides_own, "an own object before another own one hides nothing"),
        (check_hidden_share, lambda m, o: 0.123, "the share should be"),
        (check_hidden_share, lambda m, o: None, "returns nothing"),
        (check_contributions, means, "means of the strata"),
        (check_contributions, sums, "these are sums"),
        (check_contributions, lambda d, k, n: sums(d, k, n) / n, "by the number of strata"),
        (check_contributions, lambda d, k, n: contributions(d, k, n)[::-1], "the contributions should be"),
        (check_contributions, lambda d, k, n: contributions(d, k, n).mean(), "the shape is"),
        (check_contributions, lambda d, k, n: None, "returns nothing"),
    ],
)
def test_wrong_answers_are_refused_with_the_reason(check, answer, reason):
    with pytest.raises(Wrong, match=reason):
        check(answer)


def test_a_mean_of_an_empty_stratum_is_named():
    def empty(differences, numbers, n_strata):
        sizes = np.array([(numbers == k).sum() for k in range(n_strata)])
        return np.where(sizes > 0, contributions(differences, numbers, n_strata), np.nan)

    with pytest.raises(Wrong, match="a stratum without episodes adds 0"):
        check_contributions(empty)


@pytest.mark.parametrize("check", [check_hidden_share, check_contributions])
def test_an_unwritten_answer_is_named(check):
    with pytest.raises(Wrong, match="unwritten is not written yet"):
        check(unwritten)
