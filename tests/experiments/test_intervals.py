"""The bootstrap against a slow loop, hand-worked cases, a simulated truth; weights against NumPy on copied rows."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_samples import METRICS, random_scores, scores_of_iou
from sklearn.metrics import roc_auc_score

from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import (
    Interval,
    bootstrap_interval,
    bootstrap_weights,
    influence,
    mean_interval,
    mean_paired_difference,
    paired_difference,
    percent,
    percentile_interval,
    run_weights,
    weighted_auc,
    weighted_correlation,
)
from dpnet_lite.experiments.shared_images import LEAST_FREEDOM, spread

SCORES, SEVENTH = random_scores(0), np.arange(60) == 7


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=5))
def test_intervals_are_ordered_fractions(episodes):
    classes, low, high = zip(*((c, min(i, u), max(i, u)) for c, i, u in episodes), strict=True)
    scores = scores_of_iou(classes, low, high, total=9)
    for metric in METRICS:
        interval = bootstrap_interval(scores, metric, n_resamples=20)
        assert math.isnan(interval.low) or 0 <= interval.low <= interval.high <= 1


def test_perfect_scores_leave_no_doubt():
    perfect = scores_of_iou([0, 1, 1], [3, 5, 7], [3, 5, 7])
    for metric in METRICS:
        assert bootstrap_interval(perfect, metric, n_resamples=50) == (1.0, 1.0)


def test_an_empty_union_is_left_out():
    assert bootstrap_interval(scores_of_iou([0, 1, 1], [5, 0, 0], [10, 0, 0], total=10)) == (0.5, 0.5)
    some_draws_empty = scores_of_iou([0, 0], [5, 0], [10, 0], total=10)
    assert bootstrap_interval(some_draws_empty) == (0.5, 0.5)
    nothing = scores_of_iou([0], [0], [0], total=0)
    for metric in METRICS:
        assert all(math.isnan(end) for end in bootstrap_interval(nothing, metric))


def slow_values(scores, metric, seed, n_resamples, list_number=0):
    """The metric on resampled episodes: the same draws, one resample at a time, episodes gathered."""
    rng = np.random.default_rng([seed, 1 + list_number])
    members = [np.flatnonzero(scores.class_index == c) for c in np.unique(scores.class_index)]
    drawn = [rows[rng.integers(len(rows), size=(n_resamples, len(rows)))] for rows in members]
    values = []
    for resample in range(n_resamples):
        rows = np.concatenate([d[resample] for d in drawn])
        values.append(getattr(EpisodeScores(scores.class_index[rows], scores.counts[rows], scores.class_names), metric))
    return np.array(values)


def widened(values, observed, seed, falls, *, m):
    """Resampled values with the observed one as their mean, for four classes of m episodes without images.

    Their variance becomes m / (m - 1) of the squares of `falls`, and Student's t has 4 (m - 1) degrees of freedom.
    """
    freedom, departures = 4 * (m - 1), values - values.mean()
    drawn = np.random.default_rng([seed, 0, 1]).chisquare(freedom, size=len(values))
    variance = m / (m - 1) * np.sum(np.square(falls))
    return observed + np.sqrt(variance / np.mean(departures**2) * freedom / drawn) * departures


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_equals_a_slow_loop(metric):
    a, b = random_scores(1), random_scores(2, quality=0.4)
    resampled = [slow_values(run, metric, seed=5, n_resamples=80) for run in (a, b)]
    falls = [influence(run, metric) for run in (a, b)]
    slow = widened(resampled[0], getattr(a, metric), 5, falls[0], m=15)
    expected = np.quantile(slow, [0.05, 0.95])
    assert bootstrap_interval(a, metric, n_resamples=80, seed=5, level=0.9) == pytest.approx(expected, abs=1e-12)

    difference, interval = paired_difference(a, b, metric, n_resamples=80, seed=5)
    slow = widened(resampled[0] - resampled[1], difference, 5, falls[0] - falls[1], m=15)
    assert interval == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=1e-12)
    assert difference == pytest.approx(getattr(a, metric) - getattr(b, metric), abs=1e-12)


def test_hierarchical_bootstrap_equals_a_slow_loop():
    lists = ["one", "two"]
    runs_a = [random_scores(seed, sha=lists[seed % 2]) for seed in range(6)]
    runs_b = [random_scores(seed, sha=lists[seed % 2], quality=0.3) for seed in range(10, 16)]
    n_resamples, seed = 60, 4
    values = np.array(
        [
            slow_values(a, "miou", seed, n_resamples, i % 2) - slow_values(b, "miou", seed, n_resamples, i % 2)
            for i, (a, b) in enumerate(zip(runs_a, runs_b, strict=True))
        ]
    )  # [runs, resamples]
    observed = np.array([a.miou - b.miou for a, b in zip(runs_a, runs_b, strict=True)])
    generator = np.random.default_rng([seed, 0])
    stretch = np.sqrt(5 / generator.chisquare(5, n_resamples))  # six runs, one fold
    drawn = generator.integers(6, size=(n_resamples, 5))  # one fewer than there are runs
    slow = []
    falls = [influence(a, "miou") - influence(b, "miou") for a, b in zip(runs_a, runs_b, strict=True)]
    of_lists = np.concatenate([np.sum(falls[0::2], axis=0), np.sum(falls[1::2], axis=0)]) / 6
    of_episodes = widened(values.mean(0), observed.mean(), seed, of_lists, m=30)  # a class has 15 in each of two lists
    for resample in range(n_resamples):
        episodes = of_episodes[resample]
        of_runs = np.mean([observed[run] for run in drawn[resample]]) - np.mean(observed)
        slow.append(episodes + stretch[resample] * of_runs)
    difference, interval = mean_paired_difference(runs_a, runs_b, n_resamples=n_resamples, seed=seed)
    assert interval == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=1e-12)
    point = np.mean([a.miou for a in runs_a]) - np.mean([b.miou for b in runs_b])
    assert difference == pytest.approx(point, abs=1e-12)

    _, narrow = mean_paired_difference(runs_a, runs_b, n_resamples=n_resamples, seed=seed, resample_runs=False)
    assert narrow == pytest.approx(np.quantile(of_episodes, [0.025, 0.975]), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_images_widen_an_interval_by_what_spread_finds(metric):
    """Three pairs of runs on two lists: what the episodes of a list add, added up; classes with those of both lists."""
    lists, images = ["one", "two", "one"], np.random.default_rng(3).integers(0, 9, (2, 60, 2))
    images[:, :, 0] = np.argsort(np.argsort(SCORES.counts[:, 0] / SCORES.counts[:, 1])) // 5  # hard images, easy ones
    runs, others = (
        [replace(random_scores(first + i, sha=lists[i], quality=q), images=images[i % 2]) for i in range(3)]
        for first, q in ((0, 0.5), (10, 0.3))
    )
    falls = [(influence(a, metric) - influence(b, metric)) / 3 for a, b in zip(runs, others, strict=True)]
    members = [np.flatnonzero(runs[0].class_index == c) for c in range(4)]
    parts = [np.concatenate([(falls[0] + falls[2])[rows], falls[1][rows]]) for rows in members]
    found = spread(parts, [np.concatenate(images[:, rows]) for rows in members])
    assert found.variance > 1.1 * sum(x @ x for x in parts) and found.freedom > LEAST_FREEDOM  # not what is always so
    drawn = np.random.default_rng([7, 0, 1]).chisquare(found.freedom, size=50)
    first, second = (np.mean([slow_values(r[i], metric, 7, 50, i % 2) for i in range(3)], 0) for r in (runs, others))
    settings = {"n_resamples": 50, "seed": 7, "resample_runs": False}
    difference, interval = mean_paired_difference(runs, others, metric, **settings)
    departures = first - second - np.mean(first - second)
    stretch = np.sqrt(found.variance / np.mean(departures**2) * found.freedom / drawn)
    expected = np.quantile(difference + stretch * departures, [0.025, 0.975])
    assert interval == pytest.approx(expected, abs=1e-9)
    blind = [replace(a, counts=a.counts - a.counts[:, :1] * [1, 0, 0, -1]) for a in runs]  # IoU 0
    above_0 = mean_paired_difference(runs, blind, "miou", **settings)[1]
    assert mean_interval(runs, "miou", **settings) == pytest.approx(above_0, abs=1e-9)


def test_intervals_depend_on_the_seed_alone_and_have_the_defaults_of_the_documents():
    a, b, plain = random_scores(0), random_scores(1), {"n_resamples": 1000, "seed": 0, "level": 0.95}
    assert bootstrap_interval(a, seed=3) == bootstrap_interval(a, seed=3) != bootstrap_interval(a, seed=4)
    assert mean_paired_difference([a, b], [b, a], seed=3) == mean_paired_difference([a, b], [b, a], seed=3)
    assert bootstrap_interval(a) == bootstrap_interval(a, "miou", **plain) == mean_interval([a])
    assert paired_difference(a, b) == paired_difference(a, b, "miou", **plain) != paired_difference(a, b, level=0.5)
    runs = [a, b], [b, a]
    assert mean_paired_difference(*runs) == mean_paired_difference(*runs, "miou", **plain, resample_runs=True)
    assert (bootstrap_weights([0, 0, 1]) == bootstrap_weights([0, 0, 1], 1000, seed=0)).all()


def test_the_luck_of_a_run_with_its_episodes_counts_twice_at_most():
    """Networks that are equally good, each luckier with other episodes: intervals may be sqrt(2) too wide, not more."""
    generator = np.random.default_rng(0)
    widths = []
    for _ in range(12):
        runs = [
            scores_of_iou(
                2 * fold + np.arange(100) % 2,
                generator.integers(300, 701, 100),
                np.full(100, 1000),
                names=("a", "b", "c", "d", "e", "f"),
                sha=str(fold),
            )
            for fold in (0, 1, 2)
            for _ in range(8)
        ]
        low, high = mean_interval(runs, n_resamples=400, resample_runs=True)
        widths.append(high - low)
    standard_error = 0.4 / 12**0.5 / (24 * 100) ** 0.5  # an episode's IoU is uniform from 0.3 to 0.7
    assert 1 < np.mean(widths) / (2 * 1.96 * standard_error) < 1.6


def simulated_runs(n_runs, n=80):
    """Two classes with known accumulated IoU: random unions, the share that is hit depends on their size."""
    rng = np.random.default_rng(7)
    for _ in range(n_runs):
        class_index = np.arange(n) % 2
        unions = rng.integers(100, 900, n)
        shares = 0.2 + 0.3 * class_index + 0.0003 * unions + rng.uniform(-0.2, 0.2, n)
        yield scores_of_iou(class_index, np.rint(shares * unions).astype(int), unions)


def test_the_interval_covers_a_known_truth_as_often_as_it_says():
    u = np.arange(100, 900)
    truth = 0.35 + 0.0003 * np.mean(u**2) / np.mean(u)  # E[intersection] / E[union], mean of the two classes
    intervals = [bootstrap_interval(s, n_resamples=300, seed=i) for i, s in enumerate(simulated_runs(400))]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert 0.91 <= covered <= 0.975  # binomial noise of 400 trials: 0.011
    naive = np.mean([s.episode_miou for s in simulated_runs(50)])
    assert abs(naive - truth) > 0.02  # so an interval of the wrong metric could not pass


def test_classes_are_strata():
    scores = scores_of_iou([0, 1] * 10, [10, 90] * 10, [100, 100] * 10)
    for metric in ("miou", "episode_miou"):
        assert bootstrap_interval(scores, metric) == pytest.approx((0.5, 0.5), abs=1e-12)


def test_one_episode_gives_an_interval_without_width():
    scores = scores_of_iou([0], [30], [40])
    assert bootstrap_interval(scores) == (0.75, 0.75)
    assert paired_difference(scores, scores) == (0.0, (0.0, 0.0))


def test_pairing_removes_the_common_noise():
    a = random_scores(0)
    better = scores_of_iou(a.class_index, np.minimum(a.counts[:, 0] + 5, a.counts[:, 1]), a.counts[:, 1])
    difference, (low, high) = paired_difference(better, a)
    assert 0 < low < difference < high
    low_a, high_a = bootstrap_interval(a)
    assert high - low < 0.3 * (high_a - low_a)
    negative, interval = paired_difference(a, better)
    assert (negative, *interval) == pytest.approx((-difference, -high, -low), abs=1e-12)


def test_mean_over_runs_shares_the_luck_of_a_list_and_averages_that_of_several():
    single = bootstrap_interval(random_scores(0, sha="one"))
    assert mean_interval([random_scores(0, sha="one")] * 4) == pytest.approx(single, abs=1e-12)
    classes_apart = [scores_of_iou([c] * 60, [30, 60] * 30, [90] * 60) for c in (0, 1)]
    two, one = mean_interval(classes_apart), bootstrap_interval(classes_apart[0])
    assert two.high - two.low == pytest.approx((one.high - one.low) / 2**0.5, rel=0.15)
    several = mean_interval([random_scores(0, sha=str(i)) for i in range(4)])
    assert several.high - several.low == pytest.approx((single.high - single.low) / 2, rel=0.15)


def constant_run(fold, iou, names=("a", "b", "c", "d")):
    """Every episode has this IoU, so only the draw of runs gives width. Fold f: classes 2f and 2f + 1."""
    intersections = np.full(10, round(100 * iou))
    return scores_of_iou(2 * fold + np.arange(10) % 2, intersections, np.full(10, 100), names=names)


def test_runs_are_drawn_within_their_fold():
    base = [constant_run(fold, 0.5) for fold in (0, 0, 1, 1)]
    folds_differ = [constant_run(fold, iou) for fold, iou in ((0, 0.6), (0, 0.6), (1, 0.9), (1, 0.9))]
    difference, interval = mean_paired_difference(folds_differ, base)
    assert (difference, *interval) == pytest.approx((0.25, 0.25, 0.25), abs=1e-12)

    seeds_differ = [constant_run(fold, iou) for fold, iou in ((0, 0.5), (0, 0.7), (1, 0.5), (1, 0.7))]
    # Both folds' draws are off by 0.1 to the same side in one resample of four; a stretch above s = 3.081 then has
    # probability 1 - exp(-1 / s^2) = 0.1 (chi^2 with two degrees), which leaves 2.5 % beyond each end.
    _, interval = mean_paired_difference(seeds_differ, base, n_resamples=40_000)
    assert interval == pytest.approx((0.1 - 0.3081, 0.1 + 0.3081), abs=0.01)
    _, interval = mean_paired_difference(seeds_differ, base, resample_runs=False)
    assert interval == pytest.approx((0.1, 0.1), abs=1e-12)
    assert mean_interval(seeds_differ) == pytest.approx((0.6, 0.6), abs=1e-12)
    interval = mean_interval(seeds_differ, n_resamples=40_000, resample_runs=True)
    assert interval == pytest.approx((0.6 - 0.3081, 0.6 + 0.3081), abs=0.01)
    ends = [constant_run(fold, iou) for fold, iou in ((0, 0.0), (0, 1.0), (0, 1.0))]
    assert mean_interval(ends, resample_runs=True) == (0, 1)
    assert mean_paired_difference(ends, ends[::-1])[1] == (-1, 1)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (random_scores(0, n=59), "60 episodes against 59"),
        (random_scores(0, sha="0123456789abcdef"), r"list without hash against 0123456789ab\)"),
        (replace(SCORES, class_index=(SCORES.class_index + SEVENTH) % 4), "episode 7 is of another class"),
        (replace(SCORES, counts=SCORES.counts + SEVENTH[:, None] * [0, 0, 1, 1]), "episode 7 has another number of"),
        (replace(SCORES, class_names=tuple("wxyz")), r"^the two .* \(their class names are not the same\): score"),
    ],
)
def test_different_episodes_cannot_be_paired(other, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(random_scores(0), other)


def test_parts_of_one_list_and_runs_of_several_shots_are_told_apart():
    images = np.arange(120).reshape(60, 2)
    found = np.arange(60)  # as many pixels are scored in all episodes
    counts = np.stack([found, np.full(60, 100), np.full(60, 50), 150 - found], axis=1)
    whole = replace(random_scores(0), images=images, class_index=np.zeros(60, int), counts=counts)
    halves = whole.part(slice(0, 30)), whole.part(slice(30, 60))
    with pytest.raises(ValueError, match=r"^the two runs have different episodes \(they are of other images\)"):
        paired_difference(*halves)
    shuffled = replace(whole, images=np.hstack([images, images[:, :1] + 200]))
    turned = replace(shuffled, images=shuffled.images[:, [0, 2, 1]])
    assert paired_difference(shuffled, turned)[0] == 0
    unknown = replace(halves[0], images=None)  # an older row of the same list
    assert mean_interval([halves[0], unknown]) != mean_interval([halves[0], replace(unknown, episodes_sha256="f" * 64)])
    with pytest.raises(ValueError, match=r"^the runs are of 1 and 2 shots: give those of one number$"):
        mean_interval([whole, shuffled])


def test_settings_are_checked():
    scores = random_scores(0)
    with pytest.raises(ValueError, match=r"^the resampled values are \[5, 2\]; give one column at a time$"):
        percentile_interval(np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"unknown metric 'iou'.*miou, fb_iou, episode_miou"):
        bootstrap_interval(scores, "iou")
    with pytest.raises(ValueError, match="n_resamples is 0"):
        bootstrap_interval(scores, n_resamples=0)
    with pytest.raises(ValueError, match=r"level is 95"):
        bootstrap_interval(scores, level=95)
    with pytest.raises(ValueError, match=r"^seed is -1: give 0 or more$"):
        bootstrap_interval(scores, seed=-1)
    for infinite in ([1.0, np.inf], [-np.inf]):
        with pytest.raises(ValueError, match=r"hold infinity; give finite ones, or NaN for what is not"):
            percentile_interval(infinite)
    pair = random_scores(1), random_scores(2)
    assert mean_interval(run for run in pair) == mean_interval(pair)
    assert mean_paired_difference(iter(pair), reversed(pair)) == mean_paired_difference(pair, pair[::-1])
    assert bootstrap_interval(scores, n_resamples=1)[0] > 0
    with pytest.raises(ValueError, match=r"^there are 0 runs: give the scores of at least one$"):
        mean_interval([])
    with pytest.raises(ValueError, match="2 runs cannot be paired with 1"):
        mean_paired_difference([scores, scores], [scores])


def test_a_thousand_resamples_of_a_thousand_episodes_take_less_than_a_second():
    scores = random_scores(0, n=1000, n_classes=5)
    start = time.process_time()
    bootstrap_interval(scores, n_resamples=1000)
    assert time.process_time() - start < 1


# Weights, and what is computed under them


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two measures with ties, yes or no, and weights of 8 resamples."""
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 6, 40), generator.random(40)
    return x, x + 5 * y, generator.random(40) < 0.6, bootstrap_weights(np.arange(40) % 4, 8)


@pytest.mark.parametrize("n", [6, 20])
def test_run_weights_show_the_whole_variance_of_a_mean(n):
    """And that of Student's t in place of the normal distribution: v / (v - 2) of it."""
    generator = np.random.default_rng(n)
    values = generator.normal(size=n)
    weights = run_weights(np.zeros(n), 100_000, generator)
    np.testing.assert_allclose(weights.sum(axis=1), n)
    expected = values.var(ddof=1) / n * (n - 1) / (n - 3)
    assert np.var(weights @ values / n) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("n_seeds", "n_folds"), [(2, 1), (2, 2), (3, 2), (5, 2)])
def test_intervals_of_few_runs_hold_the_truth_as_often_as_they_say(n_seeds, n_folds):
    """Runs that scatter about 0, many times: without the stretch 52, 66, 88 and 91 % of the intervals hold 0."""
    generator = np.random.default_rng(n_seeds)
    folds = np.repeat(np.arange(n_folds), n_seeds)
    weights = run_weights(folds, 2_000, generator)
    means = weights @ generator.normal(size=(len(folds), 4_000)) / len(folds)  # [resamples, studies]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    assert 0.93 < np.mean((low <= 0) & (high >= 0)) < 0.97


def test_a_fold_with_one_run_weighs_it_one():
    assert (run_weights([0, 1], 3, np.random.default_rng(0)) == 1).all()
    weights = run_weights([0, 1, 1], 3, np.random.default_rng(0))
    assert (weights[:, 0] == 1).all() and weights[:, 1:].sum(axis=1) == pytest.approx(2)


def test_bootstrap_draws_within_classes_with_replacement():
    labels = np.array([0, 1, 1, 0, 1, 2])
    weights = bootstrap_weights(labels, 4000, seed=1)
    assert weights.shape == (4000, 6)
    for label, size in ((0, 2), (1, 3), (2, 1)):
        assert (weights[:, labels == label].sum(axis=1) == size).all()
    assert np.allclose(weights.mean(axis=0), 1, atol=0.05)
    assert np.allclose(weights[:, 1].var(), 3 * (1 / 3) * (2 / 3), atol=0.05)  # binomial
    assert (bootstrap_weights(labels, 5, seed=1) == bootstrap_weights(labels, 5, seed=1)).all()
    assert (bootstrap_weights(labels, 5, seed=1) != bootstrap_weights(labels, 5, seed=2)).any()


def copies(weights: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(weights)), weights.astype(int))


def test_measures_under_weights_are_those_of_copied_rows(drawn):
    x, y, positive, weights = drawn
    rows = [copies(row) for row in weights]
    assert np.allclose(weighted_correlation(x, y, weights), [np.corrcoef(x[r], y[r])[0, 1] for r in rows])
    assert np.allclose(weighted_auc(x, positive, weights), [roc_auc_score(positive[r], x[r]) for r in rows])
    assert weighted_auc(x, positive, np.ones(40)) == pytest.approx(roc_auc_score(positive, x))
    x, y = np.uint8([200, 100, 3, 40]), np.uint8([9, 250, 77, 30])  # whose squares and differences would overflow
    assert weighted_correlation(x, y, np.ones(4)) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert weighted_auc(x, [0, 1, 1, 0], np.ones(4)) == 1 / 4  # of four pairs, 100 > 40 alone is right


def test_an_auc_of_one_kind_alone_is_undefined():
    assert np.isnan(weighted_auc([1, 2, 3], [True, True, True], np.ones(3)))
    assert weighted_auc([1, 2, 2], [False, True, False], np.ones(3)) == 0.75  # one pair right, one tied


def test_interval_by_hand():
    assert percentile_interval(np.arange(101.0), level=0.9) == pytest.approx((5, 95))
    assert percentile_interval([*range(101), float("nan")], level=0.9) == pytest.approx((5, 95))
    assert np.isnan(percentile_interval([float("nan")])).all()
    assert percent(0.4171) == "41.7" and percent(0.4171, Interval(0.4009, 0.4321)) == "41.7 [40.1, 43.2]"
    assert percent(0.02, Interval(-0.0104, 0.05), signed=True) == "+2.0 [-1.0, +5.0]"
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=f"level is {level}: give a share between 0 and 1, such as"):
            percentile_interval([1.0], level=level)
