"""Differences by strata: against slow loops, and what goes wrong is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpnet_lite.ablation.table import pack, pack_scores
from dpnet_lite.course.analysis.payoff import Condition, extremes, facts_of
from dpnet_lite.course.analysis.strata import (
    PairedEpisodes,
    overall,
    paired_ious,
    quantile_edges,
    strata_of,
    stratified,
)
from dpnet_lite.evaluation import EpisodeScores


def made(seed=0, n=60, n_seeds=3):
    generator = np.random.default_rng(seed)
    folds = np.repeat([0, 1], n // 2)
    names = np.array([f"class {2 * k % 6 + fold}" for k, fold in enumerate(folds)])
    shape = (n_seeds, n)
    return PairedEpisodes(
        folds,
        np.tile(np.arange(n // 2), 2),
        names,
        generator.random(shape),
        generator.random(shape),
        generator.random(shape),
        {0: "a", 1: "b"},
    )


def row(variant, fold, seed, counts, names, precision=None, sha="s", condition="1-shot"):
    class_index = np.arange(len(counts)) % len(names)
    scores = EpisodeScores(class_index, np.array(counts), tuple(names), sha)
    made = {"variant": variant, "condition": condition, "fold": fold, "seed": seed, "scores": pack_scores(scores)}
    return made if precision is None else {**made, "precision": pack(np.array(precision, dtype=np.float16))}


def counts(*intersections, union=10, total=100):
    return [[i, union, total - union, total - i] for i in intersections]


@pytest.fixture
def rows():
    return [
        row("full", 0, 1, counts(5, 10), ["a", "b"], [0.5, 1.0]),
        row("plain", 0, 1, counts(1, 2), ["a", "b"]),
        row("full", 0, 2, counts(7, 8), ["a", "b"], [0.25, 0.75]),
        row("plain", 0, 2, counts(3, 9), ["a", "b"]),
        row("full", 1, 1, counts(4), ["c"], [0.0], "t"),
        row("plain", 1, 1, counts(6), ["c"], sha="t"),
        row("full", 1, 2, counts(0), ["c"], [1.0], "t"),
        row("plain", 1, 2, counts(1), ["c"], sha="t"),
    ]


def test_rows_become_paired_episodes(rows):
    paired = paired_ious(rows[::-1], "full", "plain", "1-shot")
    assert paired.variant.tolist() == [[0.5, 1.0, 0.4], [0.7, 0.8, 0.0]]
    assert paired.control.tolist() == [[0.1, 0.2, 0.6], [0.3, 0.9, 0.1]]
    assert paired.precision.tolist() == [[0.5, 1.0, 0.0], [0.25, 0.75, 1.0]]
    assert paired.class_names.tolist() == ["a", "b", "c"] and paired.folds.tolist() == [0, 0, 1]
    assert paired.numbers.tolist() == [0, 1, 0] and paired.episodes_sha256 == {0: "s", 1: "t"}
    assert np.isnan(paired_ious(rows, "plain", "full", "1-shot").precision).all()


def test_rows_that_do_not_pair_are_refused(rows):
    with pytest.raises(ValueError, match="'full' has 4 runs under '1-shot' and 'plain' 3"):
        paired_ious(rows[:-1], "full", "plain", "1-shot")
    with pytest.raises(ValueError, match="has 0 runs"):
        paired_ious(rows, "full", "plain", "5-shot")
    with pytest.raises(ValueError, match="'full' has 3 runs"):
        paired_ious(rows[:-2], "full", "plain", "1-shot")
    rows[1] = row("plain", 0, 1, counts(1, 2), ["a", "b"], sha="other")
    with pytest.raises(ValueError, match="fold 0 have different episodes"):
        paired_ious(rows, "full", "plain", "1-shot")


def test_strata_hold_their_lower_edge_and_the_last_its_upper_too():
    values = [-1, 0, 0.5, 1, 1.5, 2, 2.5, float("nan")]
    assert strata_of(values, [0, 1, 2]).tolist() == [-1, 0, 0, 1, 1, 1, -1, -1]
    for edges in ([0], [0, 0], [1, 0]):
        with pytest.raises(ValueError, match="at least two that rise"):
            strata_of(values, edges)


def test_quantile_edges_merge_where_values_are_equal():
    assert quantile_edges(np.arange(101), 4) == [0, 25, 50, 75, 100]
    assert quantile_edges([1, 1, 1, 1, 1, 1, 2, 3], 4) == [1, 1.25, 3]


@pytest.mark.parametrize("by_run", [False, True])
def test_strata_are_those_of_a_loop(by_run):
    paired = made()
    values = paired.precision if by_run else np.random.default_rng(9).random(60)
    edges = [0, 0.3, 0.6, 1]
    table = stratified(paired, values, edges, n_resamples=50)
    for stratum, low, high in zip(table.strata, edges, edges[1:], strict=False):
        ours, theirs = [], []
        for s in range(3):
            for e in range(60):
                value = values[s, e] if by_run else values[e]
                if low <= value < high:
                    ours.append(paired.variant[s, e])
                    theirs.append(paired.control[s, e])
        assert stratum.variant == pytest.approx(np.mean(ours)) and stratum.control == pytest.approx(np.mean(theirs))
        assert stratum.share == pytest.approx(len(ours) / 180)
        assert stratum.contribution == pytest.approx((sum(ours) - sum(theirs)) / 180)
        assert stratum.interval.low < stratum.difference < stratum.interval.high
    assert sum(s.contribution for s in table.strata) == pytest.approx(overall(paired).difference)
    assert table.contrast == pytest.approx(table.strata[2].difference - table.strata[0].difference)


def slow_interval(paired, inside, n_resamples=1500):
    """The same bootstrap in plain loops with draws of its own: episodes for all seeds alike, and seeds in each fold."""
    generator = np.random.default_rng(77)
    n_seeds = len(inside)
    mean = paired.differences[inside].mean()
    freedom = 2 * (n_seeds - 1)  # two folds
    means = []
    for _ in range(n_resamples):
        total = size = 0.0
        for name in np.unique(paired.class_names):
            members = np.flatnonzero(paired.class_names == name)
            for e in generator.choice(members, len(members)):
                total += (paired.differences[:, e] * inside[:, e]).sum()
                size += inside[:, e].sum()
        moved = 0.0
        stretch = np.sqrt(freedom / generator.chisquare(freedom))
        for fold in (0, 1):
            drawn = generator.integers(n_seeds, size=n_seeds - 1).tolist()
            for s in range(n_seeds):
                weight = stretch * (drawn.count(s) * n_seeds / (n_seeds - 1) - 1)
                own = inside[s] & (paired.folds == fold)
                moved += weight * (paired.differences[s][own] - mean).sum()
        means.append(total / size + moved / inside.sum())
    return np.quantile(means, [0.025, 0.975])


def test_the_interval_is_that_of_a_slow_bootstrap():
    """Seeds that scatter otherwise in one fold than in the other, and a fact that differs from run to run."""
    paired = made(4)
    offsets = np.where(paired.folds == 0, np.array([[-0.4], [0.0], [0.4]]), np.array([[0.3], [0.3], [0.9]]))
    paired = replace(paired, variant=paired.variant + offsets)
    values = np.random.default_rng(3).random((3, 60)) - 0.3 * (paired.folds == 0)
    stratum = stratified(paired, values, [-1, 0.3, 1], n_resamples=4000).strata[0]
    wanted = slow_interval(paired, values < 0.3)
    width = wanted[1] - wanted[0]
    assert np.allclose(stratum.interval, wanted, atol=0.08 * width)


def test_the_contrast_tells_a_difference_that_grows():
    paired = made(2, n=200)
    values = np.random.default_rng(5).random(200)
    shifted = PairedEpisodes(
        paired.folds,
        paired.numbers,
        paired.class_names,
        paired.control + np.where(values > 0.5, 0.4, 0.0),
        paired.control,
        paired.precision,
        paired.episodes_sha256,
    )
    table = stratified(shifted, values, [0, 0.5, 1])
    assert table.verdict == "grows" and table.contrast == pytest.approx(0.4)
    assert stratified(shifted, -values, [-1, -0.5, 0]).verdict == "shrinks"
    assert stratified(paired, values, [0, 0.5, 1]).verdict == "no measurable change"


def test_strata_that_are_empty_are_left_out():
    paired = made()
    table = stratified(paired, np.linspace(0, 1, 60), [-1, 0, 0.5, 1, 2], n_resamples=20)
    assert [stratum.low for stratum in table.strata] == [0, 0.5, 1]
    with pytest.raises(ValueError, match="1 strata hold episodes"):
        stratified(paired, np.zeros(60), [0, 1, 2])


def test_extremes_by_a_loop_over_the_episodes():
    paired = made(6)
    means = [sum(paired.variant[s, e] - paired.control[s, e] for s in range(3)) / 3 for e in range(60)]
    losses, wins = extremes(paired, 3)
    assert losses.tolist() == sorted(range(60), key=lambda e: means[e])[:3]
    assert wins.tolist() == sorted(range(60), key=lambda e: -means[e])[:3]


def test_facts_of_other_episodes_are_refused():
    with pytest.raises(ValueError, match="the episodes of fold 0 under '1-shot' are not those of the rows"):
        facts_of(made(), Condition("1-shot"))
