"""Metrics against scikit-learn and hand-worked cases."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from score_samples import METRICS, random_masks, random_scores, scores_of, scores_of_iou
from sklearn.metrics import jaccard_score

from dpnet_lite.evaluation import EpisodeScores, class_tables, episode_counts, metric_of_sums

# Counts


@pytest.mark.parametrize("ignore", [0, 1])
def test_what_is_ignored_is_no_class(ignore):
    with pytest.raises(ValueError, match=f"ignore is {ignore}, which is a class here; give another number"):
        episode_counts(torch.ones(1, 2), torch.tensor([[1, 0]]), ignore=ignore)
    with pytest.raises(ValueError, match=r"^the value 2\.0 occurs in the prediction; allowed are 0 and 1: take"):
        episode_counts(2 * torch.ones(1, 2), torch.tensor([[1, 0]]))


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


@pytest.mark.parametrize(
    ("prediction", "labels", "message"),
    [
        (torch.zeros(4, 5), torch.zeros(8, 10), r".*\(4, 5\).*\(8, 10\).*prediction to the label's size first"),
        (torch.zeros(1, 4, 5), torch.zeros(1, 4, 5), r".*: both must be \[H, W\], .*"),
        (torch.tensor([[0.5, 2.0]]), torch.zeros(1, 2), r"the value 0\.5 .*; allowed are 0 and 1: .* threshold first"),
        (torch.zeros(2, 2).byte(), torch.full((2, 2), 3), r"the value 3 .* labels; .* are 0, 1 and 255: .*binary.*"),
    ],
)
def test_counts_refuse_other_sizes_probabilities_and_multi_class_labels(prediction, labels, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        episode_counts(prediction, labels)


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


# Metrics


def test_metrics_equal_scikit_learn():
    class_index = [0, 2, 1, 0, 2, 2, 1, 0]
    masks = [random_masks(seed, agreement=0.6 + 0.04 * seed) for seed in range(8)]
    scores = scores_of(class_index, masks)
    kept = [(p[t != 255].numpy(), t[t != 255].numpy()) for p, t in masks]

    def sklearn_iou(chosen, label=1):
        prediction, truth = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
        return jaccard_score(truth, prediction, pos_label=label)

    by_class = {c: sklearn_iou([k for k, d in zip(kept, class_index, strict=True) if d == c]) for c in range(3)}
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


def test_an_empty_union_is_left_out():
    scores = scores_of_iou([0, 1, 1], [5, 0, 0], [10, 0, 0], total=10)
    assert scores.class_iou()[0] == 0.5
    assert math.isnan(scores.class_iou()[1])
    assert scores.miou == 0.5
    assert scores.episode_miou == 0.5
    no_background = scores_of_iou([0], [10], [10], total=10)
    assert no_background.fb_iou == 1.0
    nothing = scores_of_iou([0], [0], [0], total=0)
    for metric in METRICS:
        assert math.isnan(getattr(nothing, metric))


def test_scores_survive_json_and_cannot_be_changed():
    scores = random_scores(0, sha="abc")
    values = scores.to_dict()
    again = EpisodeScores.from_dict(json.loads(json.dumps(values)))
    assert again.to_dict() == values
    assert again.class_names == scores.class_names
    assert again.episodes_sha256 == "abc"
    with pytest.raises(ValueError, match="read-only"):
        scores.counts[0, 0] = 1
    changes = [
        {"class_names": "ab"},
        {"class_names": [1, *values["class_names"][1:]]},
        {"episodes_sha256": 3},
        {"x": 1},
    ]
    changes += [{name: value} for name in ("class_index", "counts") for value in (None, 3, ["1"], [0.5], [[True]], {})]
    del values["counts"]
    for damaged in ([], None, values, *(scores.to_dict() | change for change in changes)):
        with pytest.raises(ValueError, match=r"save with to_dict|are no texts|give \[n\]"):
            EpisodeScores.from_dict(damaged)


@pytest.mark.parametrize(
    ("class_index", "counts", "message"),
    [
        ([0, 1], [[1, 2, 3, 4]], r"\(2,\).*\(1, 4\)"),
        ([], np.zeros((0, 4)), r"shape \(0, 4\): give \[n\] and \[n, 4\] with at least one episode$"),
        ([2], [[1, 2, 3, 4]], "2 class names"),
        ([-1], [[1, 2, 3, 4]], "-1"),
        ([0, 0], [[1, 2, 3, 4], [3, 2, 4, 3]], r"counts\[1\] is \[3, 2, 4, 3\]"),
        ([0], [[1, 2, 3, 9]], "no episode can give"),
        ([0], [[-1, 2, 3, 6]], "no episode can give"),
        ([0], [[1, 2, -1, 0]], "no episode can give: use episode_counts$"),
    ],
)
def test_impossible_scores_are_refused(class_index, counts, message):
    with pytest.raises(ValueError, match=message):
        EpisodeScores(np.array(class_index), np.array(counts), ("cat", "dog"))


def test_no_episodes_are_refused():
    with pytest.raises(ValueError, match=r"^counts is empty: score at least one episode$"):
        EpisodeScores.from_lists([], [], ("cat",))


def test_scores_know_their_images_and_their_parts():
    counts = [torch.tensor([n, 4, 3, 7 - n], dtype=torch.int32) for n in (1, 2, 3)]
    images = np.array([[7, 8], [8, 9], [9, 7]], np.int32)
    scores = EpisodeScores.from_lists(np.int32([0, 1, 0]), counts, ["cat", "dog"], images=images)
    assert {array.dtype for array in (scores.class_index, scores.counts, scores.images)} == {np.dtype("int64")}
    assert scores.images.tolist() == images.tolist() and scores.episodes_sha256 == ""
    part = scores.part([2, 1])
    assert np.column_stack([part.class_index, part.counts[:, 0], part.images]).tolist() == [[0, 3, 9, 7], [1, 2, 8, 9]]
    assert scores_of_iou([0, 1], [1, 1], [2, 2]).part(slice(1)).images is None
    for bad in (images[:2], images[:, :1], images[None], images[:, 0], np.zeros((3, 2, 1), int)):
        with pytest.raises(ValueError, match=r"^images have shape \(.*\): give \[3, 1 \+ K\], query and supports$"):
            EpisodeScores(scores.class_index, scores.counts, ("cat", "dog"), images=bad)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_of_many_resamples_at_once_are_those_of_each(metric):
    runs = [random_scores(0), random_scores(1), scores_of_iou([0, 1, 2, 3], [5, 2, 3, 0], [9, 4, 5, 0])]
    sums = np.stack([[table.sum(axis=0) for table in class_tables(scores)] for scores in runs])  # [runs, classes, 6]
    assert metric_of_sums(sums, metric) == pytest.approx([getattr(scores, metric) for scores in runs])


@pytest.mark.parametrize("odd", [[[0.5, 2, 3, 4]], [[True] * 4], [["a"] * 4], [[None] * 4]])
def test_scores_are_of_whole_numbers(odd):
    with pytest.raises(ValueError, match=r"^counts holds \S+, not whole numbers: save with to_dict, or count pixels$"):
        EpisodeScores(np.array([0]), odd, ("a",))
    with pytest.raises(ValueError, match=r"^class_index holds float64, not whole numbers"):
        EpisodeScores(np.array([0.7]), [[1, 2, 3, 4]], ("a",))
    with pytest.raises(ValueError, match=r"^images holds float64, not whole numbers"):
        EpisodeScores(np.array([0]), [[1, 2, 3, 4]], ("a",), images=[[0.5, 1]])
