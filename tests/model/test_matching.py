"""Matching and the cycle, against a slow NumPy double loop and exact integer arithmetic."""

from __future__ import annotations

from contextlib import nullcontext
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from dpnet_lite.model import matching
from dpnet_lite.model.cycle_comparison import query_first, support_first
from dpnet_lite.model.matching import best_cosine, cycle_matches, directions, nearest

KINDS = ("random", "duplicates", "integers", "zeros")


def random_case(seed):
    """Kind, support [B, K * n, C], query [B, m, C] (float32) and mask [B, K * n] of a case."""
    rng = np.random.default_rng([7, seed])
    kind = KINDS[seed % 4]
    n_batch, n_shot, channels = rng.integers(1, 3), rng.integers(1, 6), rng.integers(1, 7)
    n_support, n_query = n_shot * rng.integers(1, 41), rng.integers(1, 41)
    shapes = (n_batch, n_support, channels), (n_batch, n_query, channels)
    if kind == "integers":
        # Rows whose best cosine is exactly 0 are ties too: many channels and few query pixels give such rows.
        channels, n_query = rng.integers(1, 13), rng.choice([n_query, rng.integers(1, 5)])
        shapes = (n_batch, n_support, channels), (n_batch, n_query, channels)
        support, query = (rng.integers(-2, 3, shape) for shape in shapes)
    elif kind == "zeros":
        support, query = (rng.integers(0, 2, shape) * rng.integers(0, 2) for shape in shapes)
    else:
        support, query = (rng.normal(size=shape) for shape in shapes)
    if kind == "duplicates":  # few distinct pixels, some of them in both images
        query[:] = np.take(query, rng.integers(0, (n_query + 3) // 4, n_query), axis=1)
        support[:] = np.take(support, rng.integers(0, (n_support + 3) // 4, n_support), axis=1)
        shared = min(n_query, n_support) // 2
        support[:, :shared] = query[:, :shared]
    share = (0.0, 1.0, 0.1, 0.5, 0.5)[rng.integers(5)]  # of foreground: empty, full, little, half
    mask = rng.random((n_batch, n_support)) < share
    return kind, support.astype(np.float32), query.astype(np.float32), mask


def unit(*arrays):
    """Float32 tensors with rows of length 1 or 0."""
    return [functional.normalize(torch.as_tensor(array), dim=2) for array in arrays]


def cosine_table(support, query):
    """Cosines of one pair of images by a double loop, float64 [n, m] (0 with an all-zero vector), and a rank.

    The rank, an object array [n, m], orders as the cosine does. For whole numbers it is the signed square of
    the cosine as an exact fraction, because floats break the tie of (1, 1) and (2, 2) at random.
    """
    whole = bool((support == support.round()).all() and (query == query.round()).all())
    cosine, rank = np.zeros((len(support), len(query))), np.zeros((len(support), len(query)), dtype=object)
    for j, s in enumerate(support.tolist()):
        for i, q in enumerate(query.tolist()):
            dot = sum(a * b for a, b in zip(s, q, strict=True))
            squares = sum(a * a for a in s) * sum(b * b for b in q)
            if squares > 0:
                cosine[j, i] = dot / squares**0.5
                rank[j, i] = Fraction(int(dot * abs(dot)), int(squares)) if whole else cosine[j, i]
    return cosine, rank


def first_highest(values):
    """Index of the highest value, the lowest one on a tie, by a plain loop."""
    best = 0
    for index in range(1, len(values)):
        if values[index] > values[best]:
            best = index
    return best


def slow_cycle(support, query, mask):
    """Everything that the cycle gives for one pair of images, one pixel at a time."""
    cosine, rank = cosine_table(support, query)
    n, m = cosine.shape
    forward = [first_highest(rank[j]) for j in range(n)]
    backward = [first_highest(rank[:, i]) for i in range(m)]
    reliable = {forward[j] for j in range(n) if mask[j] and mask[backward[forward[j]]]}
    asked = set()
    for i in range(m):
        j = backward[i]
        if mask[j] and mask[backward[forward[j]]]:
            asked.add(i)
    inside = [max([cosine[j, i] for j in range(n) if mask[j]], default=-1.0) for i in range(m)]
    outside = [max([cosine[j, i] for j in range(n) if not mask[j]], default=-1.0) for i in range(m)]
    return forward, backward, reliable, asked, inside, outside


@pytest.mark.parametrize("kind", KINDS)
def test_matches_and_rules_equal_a_double_loop(kind):
    for seed in range(KINDS.index(kind), 200, 4):
        drawn_kind, support, query, mask = random_case(seed)
        assert drawn_kind == kind
        mask_tensor = torch.from_numpy(mask)
        rows, columns = unit(support, query)
        found = cycle_matches(rows, columns, mask_tensor)
        first, asked = support_first(found, mask_tensor), query_first(found, mask_tensor)
        best = best_cosine(columns, rows, torch.stack([mask_tensor, ~mask_tensor], dim=1))
        asked_for = cycle_matches(rows, columns, mask_tensor, everywhere=False)
        assert torch.equal(support_first(asked_for, mask_tensor), first)
        for b in range(len(support)):
            slow = slow_cycle(support[b], query[b], mask[b])
            where = f"seed {seed}, row {b}"
            assert found.forward_match[b].tolist() == slow[0], where
            assert found.backward_match[b].tolist() == slow[1], where
            assert set(first[b].nonzero()[:, 0].tolist()) == slow[2], where
            assert set(asked[b].nonzero()[:, 0].tolist()) == slow[3], where
            np.testing.assert_allclose(best[b, 0], slow[4], atol=1e-6)
            np.testing.assert_allclose(best[b, 1], slow[5], atol=1e-6)


def test_the_random_cases_hold_what_they_promise():
    cases = [random_case(seed) for seed in range(200)]
    assert any(not mask.any() for *_, mask in cases) and any(mask.all() for *_, mask in cases)
    assert any(not support.any() and not query.any() for _, support, query, _ in cases)
    sizes = {query.shape[1] for _, _, query, _ in cases}
    assert min(sizes) == 1 and max(sizes) >= 39
    ties = 0
    for kind, support, query, _ in cases:
        if kind in ("duplicates", "integers"):
            _, rank = cosine_table(support[0], query[0])
            ties += any(list(row).count(max(row)) > 1 for row in rank)
    assert ties > 50


def test_ties_go_to_the_lowest_index_worked_by_hand():
    east, north = [1.0, 0.0], [0.0, 1.0]
    support, query = torch.tensor([[north, east, east]]), torch.tensor([[east, north, east, north]])
    mask = torch.tensor([[False, False, True]])
    found = cycle_matches(support, query, mask)
    assert found.forward_match.tolist() == [[1, 0, 0]]
    assert found.backward_match.tolist() == [[1, 0, 1, 0]]
    assert not support_first(found, mask).any()  # the way back ends at pixel 1, which is outside the mask
    wider = torch.tensor([[False, True, True]])
    found = cycle_matches(support, query, wider)
    assert support_first(found, wider).tolist() == [[True, False, False, False]]
    assert query_first(found, wider).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("block_numbers", [1, 7, 64, 1000])
def test_blocks_change_nothing(block_numbers, monkeypatch):
    for seed in range(0, 200, 3):
        _, support, query, mask = random_case(seed)
        tensors = *unit(support, query), torch.from_numpy(mask)
        for everywhere in (True, False):
            plain = cycle_matches(*tensors, everywhere=everywhere)
            best = best_cosine(*tensors[1::-1], tensors[2][:, None])
            with monkeypatch.context() as patch:
                patch.setitem(matching._BLOCK_NUMBERS, "cpu", block_numbers)
                blocked = cycle_matches(*tensors, everywhere=everywhere)
                torch.testing.assert_close(best_cosine(*tensors[1::-1], tensors[2][:, None]), best)
            assert all(map(torch.equal, plain, blocked)), f"seed {seed}"


@pytest.mark.parametrize("channels", [64, 1024])
def test_indices_equal_float64_wherever_the_best_is_clearly_ahead(channels, monkeypatch):
    monkeypatch.setitem(matching._BLOCK_NUMBERS, "cpu", 50_000)
    generator = torch.Generator().manual_seed(channels)
    kinds = torch.randn(30, channels, generator=generator)
    rows, columns = (
        (kinds[torch.randint(30, (700,), generator=generator)] + 3e-2 * torch.randn(700, channels, generator=generator))
        for _ in range(2)
    )
    rows, columns = unit(rows[None], columns[None])
    columns[:, 400:410] = columns[:, 100:110]  # the same pixels twice
    exact = functional.normalize(rows.double(), dim=2) @ functional.normalize(columns.double(), dim=2).transpose(1, 2)
    two = exact.topk(2, dim=2)
    clear = two.values[..., 0] - two.values[..., 1] > 1e-5
    found = nearest(rows, columns)
    assert 0.2 < clear.float().mean() < 0.99  # both kinds of pixels are there
    assert torch.equal(found[clear], two.indices[..., 0][clear])
    assert (exact.amax(dim=2) - exact.gather(2, found[..., None])[..., 0]).max() < 1e-5
    twice = (found >= 400) & (found < 410)
    assert not twice.any() and ((found >= 100) & (found < 110)).any()  # the lowest index of equal ones


def test_what_no_cycle_asks_for_is_not_matched():
    support, query = unit(torch.randn(1, 9, 4), torch.randn(1, 7, 4))
    mask = torch.arange(9)[None] < 2
    all_of_them = cycle_matches(support, query, mask)
    asked_for = cycle_matches(support, query, mask, everywhere=False)
    reached = all_of_them.forward_match[0, :2]
    assert torch.equal(asked_for.forward_match[0, :2], reached) and not asked_for.forward_match[0, 2:].any()
    assert torch.equal(asked_for.backward_match[0, reached], all_of_them.backward_match[0, reached])
    others = [i for i in range(7) if i not in reached.tolist()]
    assert others and not asked_for.backward_match[0, others].any()


def test_blocks_of_a_large_pair_hold_few_rows_at_once(monkeypatch):
    rows, convolve = [], functional.conv2d
    monkeypatch.setattr(functional, "conv2d", lambda x, w: rows.append((x.shape[2], len(w))) or convolve(x, w))
    monkeypatch.setitem(matching._BLOCK_NUMBERS, "cpu", 1000)
    nearest(torch.randn(2, 100, 4), torch.randn(2, 30, 4))
    assert max(2 * n * m for n, m in rows) <= 1000
    assert sum(n for n, _ in rows) == 2 * 100
    for held, m, expected in ((3, 1, [3, 3, 1]), (1, 30, [1] * 7)):  # a block has one row at least
        rows.clear()
        monkeypatch.setitem(matching._BLOCK_NUMBERS, "cpu", held)
        nearest(torch.randn(1, 7, 4), torch.randn(1, m, 4))
        assert [n for n, _ in rows] == expected
    assert nearest(torch.randn(2, 0, 4), torch.randn(2, 3, 4)).shape == (2, 0)


def test_elsewhere_than_on_a_cpu_all_stays_on_the_device(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    support, query, mask = (torch.ones(shape, device="meta") for shape in ((2, 5, 3), (2, 4, 3), (2, 5)))  # no numbers
    found = cycle_matches(support, query, mask > 0, everywhere=False)
    assert [tuple(match.shape) for match in found] == [(2, 5), (2, 4)]
    assert {tensor.device.type for tensor in (*found, support_first(found, mask > 0))} == {"meta"}


def test_no_gradient_flows_through_the_matches():
    support, query, mask = torch.randn(1, 5, 3, requires_grad=True), torch.randn(1, 4, 3), torch.ones(1, 5) > 0
    assert not any(part.requires_grad for part in cycle_matches(support, query, mask))


def test_directions_have_length_one_or_zero():
    features = torch.randn(2, 3, 4, 5)
    features[0, :, 1, 2] = 0
    rows = directions(features)
    assert rows.shape == (2, 20, 3)
    lengths = rows.norm(dim=2)
    assert lengths[0, 1 * 5 + 2] == 0 and lengths.flatten().sort().values[1:].tolist() == pytest.approx([1] * 39)
    torch.testing.assert_close(rows[1, 7], features[1, :, 1, 2] / features[1, :, 1, 2].norm())


@pytest.mark.parametrize(("gap", "found"), [(9 / 2**24, 70), (8 / 2**24, 3)])
def test_near_ties_alone_go_to_the_lowest_index(gap, found):
    """Column 70 is a unit vector, column 3 one whose cosine with it is smaller by the gap; both in other strips."""
    columns = torch.zeros(1, 100, 3, dtype=torch.float64)
    columns[0, :, 2] = 1
    columns[0, 70] = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    columns[0, 3] = torch.tensor([1 - gap, (1 - (1 - gap) ** 2) ** 0.5, 0.0], dtype=torch.float64)
    assert nearest(torch.tensor([[[1.0, 0.0, 0.0]]]), columns.float()).item() == found
