"""Cycle comparison: every selection rule, the fallback and the consensus, by hand and against NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.cycle_comparison import (
    FALLBACK_PIXELS,
    consensus,
    membership,
    nearest_foreground,
    pixel_weights,
    select_reliable,
    top_pixels,
    with_fallback,
)
from dpnet_lite.model.matching import CycleMatches, cycle_matches, directions

RULES = get_args(get_type_hints(ModelConfig)["selection"])
PLAIN = ModelConfig(weighted_pooling=False, consensus_rounds=0)

# Four support pixels (the first two in the mask) and five query pixels, matched as drawn:
# support 0 -> query 1 -> support 1: closed.  support 1 -> query 3 -> support 2: leaves the mask.
# support 2 -> query 4, support 3 -> query 0: not in the mask.
MATCHES = CycleMatches(
    forward_match=torch.tensor([[1, 3, 4, 0]]),
    backward_match=torch.tensor([[0, 1, 0, 2, 3]]),
)
MASK = torch.tensor([[True, True, False, False]])
SIMILARITY = torch.tensor([[0.95, 0.6, 0.75, 0.7, -0.3]])
TRUTH = torch.tensor([[0.0, 0.25, 1.0, 0.0, 0.5]])


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ("support_first", [0, 1, 0, 0, 0]),
        ("query_first", [1, 0, 1, 0, 0]),  # nearest support 0, 1, 0, 2, 3; only support 0 closes its cycle
        ("threshold", [1, 0, 1, 1, 0]),
        ("top_k", [1, 0, 1, 0, 0]),
        ("oracle", [0, 0.25, 1, 0, 0.5]),
    ],
)
def test_rules_worked_by_hand(selection, expected):
    config = replace(PLAIN, selection=selection, selection_threshold=0.7, selection_count=2, selection_temperature=0.1)
    weights = pixel_weights(config, MATCHES, MASK, SIMILARITY, TRUTH)
    assert weights[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_weighted_pooling_favours_what_is_like_the_prototype():
    config = replace(
        PLAIN, selection="threshold", selection_threshold=0.7, selection_temperature=0.1, weighted_pooling=True
    )
    less_alike = torch.cat([SIMILARITY, SIMILARITY - 0.2])  # each episode is weighed by its own best pixel
    weights = pixel_weights(config, MATCHES, MASK, less_alike, None)
    np.testing.assert_allclose(weights, [[1, 0, np.exp(-2.0), np.exp(-2.5), 0], [1, 0, 0, 0, 0]], atol=1e-6)


def test_weighted_pooling_cannot_lose_a_selection_that_is_unlike_the_prototype():
    config = replace(PLAIN, selection="support_first", selection_temperature=1e-3, weighted_pooling=True)
    weights = pixel_weights(config, MATCHES, MASK, SIMILARITY, None)
    assert not with_fallback(weights, SIMILARITY).fallback.item()
    assert (weights > 0).tolist() == [[False, True, False, False, False]]


def test_top_pixels_of_fewer_pixels_are_all():
    values = torch.tensor([[0.1, 0.3, 0.2], [3.0, 2.0, 1.0]])
    assert top_pixels(values, 2).tolist() == [[False, True, True], [True, True, False]]
    assert top_pixels(values, 50).dtype == torch.bool and bool(top_pixels(values, 50).all())


def test_of_equal_pixels_the_first_are_taken():
    values = torch.tensor([[0.0, 1.0] + 98 * [0.5]])
    assert top_pixels(values, 4)[0].nonzero()[:, 0].tolist() == [1, 2, 3, 4]


def test_an_empty_selection_falls_back_and_says_so():
    similarity = torch.rand(2, 30)
    weights = torch.zeros(2, 30)
    weights[1, 4] = 0.3
    selection = with_fallback(weights, similarity)
    assert selection.fallback.tolist() == [True, False]
    assert torch.equal(selection.weights[1], weights[1])
    highest = sorted(range(30), key=lambda i: -similarity[0, i])[:FALLBACK_PIXELS]
    assert set(selection.weights[0].nonzero()[:, 0].tolist()) == set(highest)
    assert selection.weights[0].sum() == FALLBACK_PIXELS == 12
    assert with_fallback(torch.zeros(1, 5), torch.rand(1, 5)).weights.sum() == 5


def test_membership_worked_by_hand():
    shares = torch.tensor([[0.5, 0.49, 1.0, 0.0], [0.1, 0.2, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0]])
    expected = [
        [True, False, True, False],
        [False, True, True, False],  # nothing reaches one half: the fullest stand in
        [False, False, False, False],
    ]
    assert membership(shares).tolist() == expected and membership(shares[None]).tolist() == [expected]


def slow_consensus(query, weights, n_rounds, temperature):
    """Mean shift of one image, [C, N] and [N], with loops."""
    for _ in range(n_rounds):
        mean = sum(w * query[:, i] for i, w in enumerate(weights)) / sum(weights)
        cosine = [query[:, i] @ mean / np.linalg.norm(query[:, i]) / np.linalg.norm(mean) for i in range(len(weights))]
        weights = [np.exp((c - max(cosine)) / temperature) for c in cosine]
    return np.array(weights)


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_consensus_equals_a_loop(n_rounds):
    rng = np.random.default_rng(3)
    query, weights = rng.normal(size=(2, 4, 3, 5)), rng.random((2, 15)) * (rng.random((2, 15)) < 0.5)
    found = consensus(torch.tensor(query), torch.tensor(weights)[:, None], n_rounds, 0.2)[:, 0]
    for b in range(2):
        slow = slow_consensus(query[b].reshape(4, 15), weights[b], n_rounds, 0.2)
        np.testing.assert_allclose(found[b], slow, atol=1e-4)
        assert found[b].max() == 1


def test_consensus_leaves_the_smaller_of_two_objects():
    query = torch.zeros(1, 2, 1, 10)
    query[0, 0, 0, :7], query[0, 1, 0, 7:] = 1.0, 1.0  # two objects with orthogonal features
    selected = torch.tensor([[1, 1, 1, 0, 0, 0, 0, 1, 1, 0]]).float()
    agreed = consensus(query, selected[:, None], 3, 0.05)[:, 0]
    assert bool((agreed[0, :7] == 1).all())
    assert bool((agreed[0, 7:] < 1e-3).all())


def scene(n_shot, seed=0, n_batch=2):
    """Random support [B, K, C, h, w], masks, query [B, C, h, w] and P [B, C]."""
    generator = torch.Generator().manual_seed(seed)
    support = torch.randn(n_batch, n_shot, 6, 4, 5, generator=generator)
    masks = (torch.rand(n_batch, n_shot, 4, 5, generator=generator) < 0.4).float()
    query = torch.randn(n_batch, 6, 4, 5, generator=generator)
    return support, masks, query, torch.randn(n_batch, 6, generator=generator)


def slow_reliable(support, mask, query):
    """R of one support image, [C, h, w], [h, w] and [C, h, w], as a set of query pixels."""
    places = list(np.ndindex(4, 5))
    pixels, queries = ([image[:, y, x] for y, x in places] for image in (support, query))
    inside = [bool(mask[y, x] >= 0.5) for y, x in places]

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    reliable = set()
    for j, pixel in enumerate(pixels):
        i = int(np.argmax([cosine(pixel, q) for q in queries]))
        back = int(np.argmax([cosine(other, queries[i]) for other in pixels]))
        if inside[j] and inside[back]:
            reliable.add(i)
    return reliable


def select(config, truth=None, *, empty=False):
    support, masks, query, prototype = scene(1)
    masks[0] *= not empty
    return select_reliable(config, support[:, :1], masks[:, :1], query, prototype, truth)[0][0]


def test_the_whole_module_equals_a_loop():
    support, masks, query, _ = scene(1)
    found = select(PLAIN)
    for b in range(2):
        slow = slow_reliable(*(part.numpy().astype(float) for part in (support[b, 0], masks[b, 0], query[b])))
        assert slow
        assert set(found.weights[b].nonzero()[:, 0].tolist()) == slow


@pytest.mark.parametrize("rule", ["support_first", "query_first"])
def test_every_pixel_is_matched_where_that_is_asked_for_or_needed(rule):
    support, masks, query, prototype = scene(1)
    arguments = replace(PLAIN, selection=rule), support, masks, query, prototype
    (whole,), (matches,) = select_reliable(*arguments)
    (again,), (few,) = select_reliable(*arguments, all_matches=False)
    everywhere = cycle_matches(directions(support[:, 0]), directions(query), masks[:, 0].flatten(1) > 0)
    assert torch.equal(again.weights, whole.weights) and all(map(torch.equal, matches, everywhere))
    assert all(map(torch.equal, few, everywhere)) == (rule == "query_first")


@pytest.mark.parametrize("rule", ["support_first", "query_first"])
def test_an_empty_support_mask_falls_back(rule):
    selection = select(replace(PLAIN, selection=rule), empty=True)
    assert selection.fallback.tolist() == [True, False]
    assert selection.weights[0].sum() == 12


@pytest.mark.parametrize("rule", RULES)
def test_consensus_follows_the_selection_but_never_the_oracle(rule):
    truth = (torch.rand(2, 4, 5) < 0.5).float()
    config = replace(PLAIN, selection=rule)
    plain = select(config, truth)
    agreed = select(replace(config, consensus_rounds=1, consensus_temperature=0.1), truth)
    expected = plain.weights if rule == "oracle" else consensus(scene(1)[2], plain.weights[:, None], 1, 0.1)[:, 0]
    torch.testing.assert_close(agreed.weights, expected)
    assert torch.equal(agreed.fallback, plain.fallback)


def test_the_oracle_needs_the_truth():
    with pytest.raises(ValueError, match=r"'oracle', but no query_masks were given; pass the query's true masks$"):
        select(replace(PLAIN, selection="oracle"))


@pytest.mark.parametrize("n_shot", [1, 3])
def test_the_prior_equals_a_loop(n_shot):
    support, masks, query, _ = scene(n_shot)
    found = nearest_foreground(support, masks, query)
    for b in range(2):
        pixels = [support[b, k, :, y, x] for k, y, x in np.ndindex(n_shot, 4, 5) if masks[b, k, y, x]]
        best = np.zeros((4, 5))
        for y, x in np.ndindex(4, 5):
            q = query[b, :, y, x]
            best[y, x] = max(float(p @ q / p.norm() / q.norm()) for p in pixels)
        np.testing.assert_allclose(found[b], (best - best.min()) / (best.max() - best.min()), atol=1e-5)


@pytest.mark.parametrize("rule", ["support_first", "query_first", "threshold"])
def test_mixed_precision_changes_no_selection(rule):
    config = replace(PLAIN, selection=rule, weighted_pooling=True, consensus_rounds=2)
    plain = select(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(select(config).weights, plain.weights)
