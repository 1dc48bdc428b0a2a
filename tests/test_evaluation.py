"""Metrics against scikit-learn and hand-worked cases; intervals against a slow loop and a simulated truth."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import jaccard_score

from dpnet_lite.evaluation import (
    EpisodeScores,
    bootstrap_interval,
    episode_counts,
    mean_interval,
    mean_paired_difference,
    paired_difference,
)

METRICS = ("miou", "fb_iou", "episode_miou")


def random_masks(seed, agreement=0.8, size=(9, 11), ignored=0.1):
    """A random prediction and labels that agree on about that share of pixels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < 0.35).astype(np.uint8)
    prediction = np.where(rng.random(size) < agreement, labels, 1 - labels)
    labels[rng.random(size) < ignored] = 255
    return torch.from_numpy(prediction), torch.from_numpy(labels)


def scores_of(class_index, masks, **settings_of_list):
    names = tuple(f"class {c}" for c in range(max(class_index) + 1))
    return EpisodeScores.from_lists(
        class_index, [episode_counts(*m) for m in masks], names, **settings_of_list
    )


def scores_of_iou(class_index, intersections, unions, total=1000, sha="", names=None):
    """Scores with given foreground counts, in episodes of `total` pixels."""
    i, u = np.asarray(intersections), np.asarray(unions)
    names = names or tuple(f"class {c}" for c in range(max(class_index) + 1))
    return EpisodeScores(np.asarray(class_index), np.stack([i, u, total - u, total - i], 1), names, sha)


def random_scores(seed, n=60, n_classes=4, sha="", quality=0.5):
    rng = np.random.default_rng(seed)
    class_index = np.random.default_rng(99).permutation(np.arange(n) % n_classes)
    unions = rng.integers(50, 500, n)
    shares = np.clip(rng.normal(quality, 0.2, n) + 0.05 * class_index, 0, 1)
    return scores_of_iou(class_index, (shares * unions).astype(int), unions, sha=sha)


# Counts


def test_counts_worked_by_hand():
    prediction = torch.tensor([[1, 1, 0], [0, 1, 0]])
    labels = torch.tensor([[1, 0, 0], [1, 255, 0]], dtype=torch.uint8)
    # Foreground: hit (0,0); false (0,1); missed (1,0). Background: hits (0,2), (1,2). (1,1) is ignored.
    counts = episode_counts(prediction, labels)
    assert counts.tolist() == [1, 3, 2, 4]
    assert counts.dtype == torch.int64


def test_ignored_pixels_count_nowhere():
    prediction, labels = random_masks(0, ignored=0.3)
    flipped = torch.where(labels == 255, 1 - prediction, prediction)
    assert not torch.equal(prediction, flipped)
    assert torch.equal(episode_counts(prediction, labels), episode_counts(flipped, labels))
    assert episode_counts(prediction, torch.full_like(labels, 255)).tolist() == [0, 0, 0, 0]
    assert episode_counts(torch.tensor([[1]]), torch.tensor([[7]]), ignore=7).tolist() == [0, 0, 0, 0]


def test_counts_refuse_another_size():
    with pytest.raises(ValueError, match=r"\(4, 5\).*\(8, 10\).*prediction to the label's size first"):
        episode_counts(torch.zeros(4, 5), torch.zeros(8, 10))
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        episode_counts(torch.zeros(1, 4, 5), torch.zeros(1, 4, 5))


def test_counts_refuse_probabilities_and_multi_class_labels():
    labels = torch.zeros(2, 2, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"0\.5 occurs in the prediction.*threshold"):
        episode_counts(torch.full((2, 2), 0.5), labels)
    with pytest.raises(ValueError, match=r"3 occurs in the labels.*binary"):
        episode_counts(labels, torch.full((2, 2), 3))


def test_counts_accept_bool():
    prediction, labels = random_masks(3)
    assert torch.equal(episode_counts(prediction.bool(), labels), episode_counts(prediction, labels))


@st.composite
def mask_pairs(draw):
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    flat = st.lists(st.sampled_from([0, 1]), min_size=height * width, max_size=height * width)
    ignored = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    prediction, truth = (torch.tensor(draw(flat)).reshape(height, width) for _ in range(2))
    return prediction, truth, torch.tensor(ignored).reshape(height, width)


@settings(max_examples=80, deadline=None)
@given(mask_pairs())
def test_symmetries(pair):
    prediction, truth, ignored = pair
    labels = truth.masked_fill(ignored, 255)
    counts = episode_counts(prediction, labels).tolist()
    assert counts == episode_counts(truth, prediction.masked_fill(ignored, 255)).tolist()  # roles swapped
    swapped = episode_counts(1 - prediction, (1 - truth).masked_fill(ignored, 255)).tolist()
    assert counts == swapped[2:] + swapped[:2]  # foreground and background swapped
    assert counts[1] + counts[2] == int((~ignored).sum())


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), mask_pairs()), min_size=1, max_size=5))
def test_metrics_are_fractions_and_ignore_the_order_of_episodes(episodes):
    classes = [c for c, _ in episodes]
    masks = [(p, t.masked_fill(i, 255)) for _, (p, t, i) in episodes]
    scores, reversed_ = scores_of(classes, masks), scores_of(classes[::-1], masks[::-1])
    for metric in METRICS:
        value = getattr(scores, metric)
        assert math.isnan(value) or 0 <= value <= 1
        assert value == pytest.approx(getattr(reversed_, metric), nan_ok=True)
        interval = bootstrap_interval(scores, metric, n_resamples=20)
        assert math.isnan(interval.low) or 0 <= interval.low <= interval.high <= 1


# Metrics


def test_metrics_equal_scikit_learn():
    class_index = [0, 2, 1, 0, 2, 2, 1, 0]
    masks = [random_masks(seed, agreement=0.6 + 0.04 * seed) for seed in range(8)]
    scores = scores_of(class_index, masks)
    kept = [(p[t != 255].numpy(), t[t != 255].numpy()) for p, t in masks]

    def sklearn_iou(chosen, label=1):
        prediction, truth = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
        return jaccard_score(truth, prediction, pos_label=label)

    by_class = {
        c: sklearn_iou([k for k, d in zip(kept, class_index, strict=True) if d == c]) for c in range(3)
    }
    assert scores.class_iou() == pytest.approx(by_class, abs=1e-12)
    assert scores.miou == pytest.approx(np.mean(list(by_class.values())), abs=1e-12)
    assert scores.fb_iou == pytest.approx((sklearn_iou(kept) + sklearn_iou(kept, 0)) / 2, abs=1e-12)
    assert scores.episode_miou == pytest.approx(np.mean([sklearn_iou([k]) for k in kept]), abs=1e-12)
    assert len({round(getattr(scores, metric), 6) for metric in METRICS}) == 3


def test_metrics_worked_by_hand():
    scores = scores_of_iou([0, 0, 1], [10, 30, 20], [20, 80, 25], total=100)
    assert scores.class_iou() == {0: 0.4, 1: 0.8}
    assert scores.miou == pytest.approx(0.6)
    assert scores.fb_iou == pytest.approx((60 / 125 + 175 / 240) / 2)
    assert scores.episode_miou == pytest.approx((10 / 20 + 30 / 80 + 20 / 25) / 3)


def test_a_perfect_prediction_scores_exactly_one():
    masks = [random_masks(seed, agreement=1.0, size=(7, 5 + seed)) for seed in range(7)]
    scores = scores_of([0, 1, 2, 0, 1, 2, 0], masks)
    for metric in METRICS:
        assert getattr(scores, metric) == 1.0
        assert bootstrap_interval(scores, metric, n_resamples=50) == (1.0, 1.0)


def test_an_empty_union_is_left_out():
    scores = scores_of_iou([0, 1, 1], [5, 0, 0], [10, 0, 0], total=10)
    assert scores.class_iou()[0] == 0.5
    assert math.isnan(scores.class_iou()[1])
    assert scores.miou == 0.5
    assert scores.episode_miou == 0.5
    assert bootstrap_interval(scores) == (0.5, 0.5)
    some_draws_empty = scores_of_iou([0, 0], [5, 0], [10, 0], total=10)
    assert bootstrap_interval(some_draws_empty) == (0.5, 0.5)
    no_background = scores_of_iou([0], [10], [10], total=10)
    assert no_background.fb_iou == 1.0
    nothing = scores_of_iou([0], [0], [0], total=0)
    for metric in METRICS:
        assert math.isnan(getattr(nothing, metric))
        assert all(math.isnan(end) for end in bootstrap_interval(nothing, metric))


def test_scores_survive_json_and_cannot_be_changed():
    scores = random_scores(0, sha="abc")
    values = scores.to_dict()
    again = EpisodeScores.from_dict(json.loads(json.dumps(values)))
    assert again.to_dict() == values
    assert again.class_names == scores.class_names
    assert again.episodes_sha256 == "abc"
    with pytest.raises(ValueError, match="read-only"):
        scores.counts[0, 0] = 1
    del values["counts"]
    with pytest.raises(ValueError, match="to_dict"):
        EpisodeScores.from_dict(values)


@pytest.mark.parametrize(
    ("class_index", "counts", "message"),
    [
        ([0, 1], [[1, 2, 3, 4]], r"\(2,\).*\(1, 4\)"),
        ([], np.zeros((0, 4)), "at least one episode"),
        ([2], [[1, 2, 3, 4]], "2 class names"),
        ([-1], [[1, 2, 3, 4]], "-1"),
        ([0, 0], [[1, 2, 3, 4], [3, 2, 4, 3]], r"counts\[1\] is \[3, 2, 4, 3\]"),
        ([0], [[1, 2, 3, 9]], "no episode can give"),
    ],
)
def test_impossible_scores_are_refused(class_index, counts, message):
    with pytest.raises(ValueError, match=message):
        EpisodeScores(np.array(class_index), np.array(counts), ("cat", "dog"))


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match="at least one episode"):
        EpisodeScores.from_lists([], [], ("cat",))


# Intervals


def slow_values(scores, metric, seed, n_resamples, list_number=0):
    """The metric on resampled episodes: the same draws, one resample at a time, episodes gathered."""
    rng = np.random.default_rng([seed, 1 + list_number])
    members = [np.flatnonzero(scores.class_index == c) for c in np.unique(scores.class_index)]
    drawn = [rows[rng.integers(len(rows), size=(n_resamples, len(rows)))] for rows in members]
    values = []
    for resample in range(n_resamples):
        rows = np.concatenate([d[resample] for d in drawn])
        values.append(
            getattr(EpisodeScores(scores.class_index[rows], scores.counts[rows], scores.class_names), metric)
        )
    return np.array(values)


@pytest.mark.parametrize("metric", METRICS)
def test_bootstrap_equals_a_slow_loop(metric):
    a, b = random_scores(1), random_scores(2, quality=0.4)
    slow = slow_values(a, metric, seed=5, n_resamples=80)
    expected = np.quantile(slow, [0.05, 0.95])
    assert bootstrap_interval(a, metric, n_resamples=80, seed=5, level=0.9) == pytest.approx(
        expected, abs=1e-12
    )

    difference, interval = paired_difference(a, b, metric, n_resamples=80, seed=5)
    expected = np.quantile(slow - slow_values(b, metric, seed=5, n_resamples=80), [0.025, 0.975])
    assert interval == pytest.approx(expected, abs=1e-12)
    assert difference == pytest.approx(getattr(a, metric) - getattr(b, metric), abs=1e-12)


def test_hierarchical_bootstrap_equals_a_slow_loop():
    lists = ["one", "two"]
    runs_a = [random_scores(seed, sha=lists[seed % 2]) for seed in range(6)]
    runs_b = [random_scores(seed, sha=lists[seed % 2], quality=0.3) for seed in range(10, 16)]
    n_resamples, seed = 60, 4
    values = np.array(
        [
            slow_values(a, "miou", seed, n_resamples, i % 2)
            - slow_values(b, "miou", seed, n_resamples, i % 2)
            for i, (a, b) in enumerate(zip(runs_a, runs_b, strict=True))
        ]
    )  # [runs, resamples]
    drawn = np.random.default_rng([seed, 0]).integers(6, size=(n_resamples, 6))
    slow = [np.mean([values[run, resample] for run in drawn[resample]]) for resample in range(n_resamples)]
    difference, interval = mean_paired_difference(runs_a, runs_b, n_resamples=n_resamples, seed=seed)
    assert interval == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=1e-12)
    point = np.mean([a.miou for a in runs_a]) - np.mean([b.miou for b in runs_b])
    assert difference == pytest.approx(point, abs=1e-12)

    _, narrow = mean_paired_difference(
        runs_a, runs_b, n_resamples=n_resamples, seed=seed, resample_runs=False
    )
    assert narrow == pytest.approx(np.quantile(values.mean(0), [0.025, 0.975]), abs=1e-12)


def test_intervals_depend_on_the_seed_alone():
    a, b = random_scores(0), random_scores(1)
    assert bootstrap_interval(a, seed=3) == bootstrap_interval(a, seed=3)
    assert bootstrap_interval(a, seed=3) != bootstrap_interval(a, seed=4)
    assert mean_paired_difference([a, b], [b, a], seed=3) == mean_paired_difference([a, b], [b, a], seed=3)


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
    _, interval = mean_paired_difference(seeds_differ, base)
    assert interval == pytest.approx((0.0, 0.2), abs=1e-12)
    _, interval = mean_paired_difference(seeds_differ, base, resample_runs=False)
    assert interval == pytest.approx((0.1, 0.1), abs=1e-12)
    assert mean_interval(seeds_differ) == pytest.approx((0.6, 0.6), abs=1e-12)
    assert mean_interval(seeds_differ, resample_runs=True) == pytest.approx((0.5, 0.7), abs=1e-12)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (random_scores(0, n=59), "60 episodes against 59"),
        (random_scores(0, sha="other"), "list without hash against other"),
        (scores_of_iou(np.arange(60) % 4, np.full(60, 1), np.full(60, 2)), "is of another class"),
        (
            scores_of_iou(random_scores(0).class_index, np.full(60, 1), np.full(60, 2), total=999),
            "episode 0 has another number of scored pixels",
        ),
        (
            scores_of_iou(random_scores(0).class_index, np.full(60, 1), np.full(60, 2), names=tuple("wxyz")),
            "class names",
        ),
    ],
)
def test_different_episodes_cannot_be_paired(other, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(random_scores(0), other)


def test_settings_are_checked():
    scores = random_scores(0)
    with pytest.raises(ValueError, match=r"unknown metric 'iou'.*miou, fb_iou, episode_miou"):
        bootstrap_interval(scores, "iou")
    with pytest.raises(ValueError, match="n_resamples is 0"):
        bootstrap_interval(scores, n_resamples=0)
    with pytest.raises(ValueError, match=r"level is 95"):
        bootstrap_interval(scores, level=95)
    with pytest.raises(ValueError, match="0 runs"):
        mean_interval([])
    with pytest.raises(ValueError, match="2 runs cannot be paired with 1"):
        mean_paired_difference([scores, scores], [scores])


def test_a_thousand_resamples_of_a_thousand_episodes_take_less_than_a_second():
    scores = random_scores(0, n=1000, n_classes=5)
    start = time.process_time()
    bootstrap_interval(scores, n_resamples=1000)
    assert time.process_time() - start < 1
