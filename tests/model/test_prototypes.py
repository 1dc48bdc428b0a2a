"""Prototypes and their comparison, against NumPy loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from dpnet_lite.model.prototypes import (
    cosine_map,
    cosine_maps,
    foreground_score,
    masked_average,
    masked_averages,
    masks_at,
    support_prototypes,
)


def slow_average(features, weights):
    """Weighted mean of [C, h, w] by loops over pixels; zeros without any weight."""
    total, result = 0.0, np.zeros(features.shape[0])
    for y in range(weights.shape[0]):
        for x in range(weights.shape[1]):
            result += weights[y, x] * features[:, y, x]
            total += weights[y, x]
    return result / total if total > 0 else result


def test_masked_average_equals_a_loop():
    rng = np.random.default_rng(0)
    features, weights = rng.normal(size=(2, 3, 5, 4, 6)), rng.random((2, 3, 4, 6))
    weights[0] = weights[0] < 0.3  # hard masks in the first row, soft weights in the second
    weights[1, 2] = 0
    found = masked_average(torch.tensor(features), torch.tensor(weights))
    assert found.shape == (2, 3, 5)
    for b in range(2):
        for k in range(3):
            slow = slow_average(features[b, k], weights[b, k])
            np.testing.assert_allclose(found[b, k].numpy(), slow, atol=1e-5)
    assert found[1, 2].abs().sum() == 0


def test_masked_average_worked_by_hand():
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [8.0, 8.0]]])
    mask = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert masked_average(features, mask).tolist() == pytest.approx([2.5, 4.0], abs=1e-5)
    assert masked_average(features, 3 * mask).tolist() == pytest.approx([2.5, 4.0], abs=1e-5)


def test_the_gradient_of_an_average_is_each_pixels_share():
    features = torch.randn(1, 2, 3, 3, requires_grad=True)
    weights = torch.rand(1, 3, 3)
    masked_average(features, weights).sum().backward()
    share = (weights / weights.sum()).expand(1, 2, 3, 3)
    torch.testing.assert_close(features.grad, share, atol=1e-5, rtol=0)


def test_cosine_maps_equal_scikit_learn():
    rng = np.random.default_rng(1)
    features, prototypes = rng.normal(size=(2, 7, 3, 5)), rng.normal(size=(2, 4, 7))
    features[0, :, 1, 2] = 0  # scikit-learn, too, calls the cosine with an all-zero vector 0
    prototypes[1, 3] = 0
    found = cosine_maps(torch.tensor(features), torch.tensor(prototypes))
    assert found.shape == (2, 4, 3, 5)
    for b in range(2):
        slow = cosine_similarity(prototypes[b], features[b].reshape(7, 15).T)  # [4, 15]
        np.testing.assert_allclose(found[b].reshape(4, 15).numpy(), slow, atol=1e-12)
    single = cosine_map(torch.tensor(features), torch.tensor(prototypes[:, 2]))
    assert torch.equal(single, cosine_maps(torch.tensor(features), torch.tensor(prototypes[:, 2:3]))[:, 0])


def test_floors_keep_zeros_finite_and_change_nothing_else():
    """By hand: a millionth of weight halves a mean, a cosine asks for no length; also at mixed precision."""
    weights = torch.tensor([[[1e-6, 0.0]], [[0.0, 0.0]]], dtype=torch.float64)
    assert masked_averages(torch.ones(1, 1, 2, dtype=torch.float64), weights).tolist() == [[pytest.approx(0.5)], [0]]
    east = torch.tensor([[[[3e-11]], [[4e-11]]]], dtype=torch.float64)
    for length in (1.0, 1e-11):
        assert cosine_map(east, length * torch.tensor([[1.0, 0.0]], dtype=torch.float64)).item() == pytest.approx(0.6)
    features, weights = torch.ones(1, 2, 1, 2).bfloat16(), torch.rand(1, 1, 1, 2)
    found = masked_averages(features, weights), cosine_maps(features, torch.tensor([[[2.0, 0.0]]]))
    for part, expected in zip(found, (1, 0.5**0.5), strict=True):
        np.testing.assert_allclose(part.float(), expected, atol=0.01)


def test_cosines_are_finite_for_zeros_in_both_directions():
    features, prototypes = torch.zeros(1, 3, 2, 2, requires_grad=True), torch.zeros(1, 1, 3, requires_grad=True)
    maps = cosine_maps(features, prototypes)
    maps.sum().backward()
    assert maps.abs().sum() == 0
    assert bool(features.grad.isfinite().all()) and bool(prototypes.grad.isfinite().all())


@pytest.mark.parametrize(("height", "width", "size"), [(12, 8, (3, 4)), (7, 9, (3, 2)), (5, 5, (5, 5))])
def test_masks_at_equals_a_loop(height, width, size):
    masks = (np.random.default_rng(2).random((2, 3, height, width)) < 0.4).astype(np.float32)
    found = masks_at(torch.from_numpy(masks), size)
    assert found.shape == (2, 3, *size)
    for y in range(size[0]):
        for x in range(size[1]):
            rows = slice(y * height // size[0], -(-(y + 1) * height // size[0]))
            columns = slice(x * width // size[1], -(-(x + 1) * width // size[1]))
            slow = masks[..., rows, columns].mean(axis=(-2, -1))
            np.testing.assert_allclose(found[..., y, x].numpy(), slow, atol=1e-6)


def test_masks_may_be_bool_or_thin_or_empty():
    thin = torch.zeros(1, 16, 16, dtype=torch.bool)
    thin[0, 5, 5] = True
    coarse = masks_at(thin, (4, 4))
    assert coarse.dtype == torch.float32
    assert coarse[0, 1, 1] == pytest.approx(1 / 16)
    assert coarse.sum() == pytest.approx(1 / 16)
    assert masks_at(torch.zeros(1, 2, 8, 8), (2, 2)).abs().sum() == 0


def test_the_score_is_the_cosine_with_the_foreground_less_that_with_the_background():
    rng = np.random.default_rng(4)
    support, query, masks = rng.normal(size=(2, 3, 5, 4, 6)), rng.normal(size=(2, 5, 4, 6)), rng.random((2, 3, 4, 6))
    known = masks + (1 - masks) * (rng.random(masks.shape) < 0.7)  # of the rest, some is ignored
    for background in (1 - masks, known - masks):
        parts = masks, background
        prototypes = support_prototypes(*map(torch.tensor, (support, *parts)))
        found = foreground_score(torch.tensor(query), prototypes)
        for b in range(2):
            pair = [np.mean([slow_average(support[b, k], part[b, k]) for k in range(3)], axis=0) for part in parts]
            np.testing.assert_allclose(prototypes[b], pair, atol=1e-5)
            cosines = cosine_similarity(pair, query[b].reshape(5, 24).T)  # [2, 24]
            np.testing.assert_allclose(found[b].flatten(), cosines[0] - cosines[1], atol=1e-5)


@pytest.mark.parametrize(("side", "n_cells", "least", "most"), [(473, 60, 0.876, 1.861), (320, 40, 1.0, 1.0)])
def test_how_often_a_pixel_counts(side, n_cells, least, most):
    """As docs/method.md says: once where cells divide the input, up to 1.86 times where their windows overlap."""
    pixels = torch.eye(side)[:, None].expand(side, n_cells, side)  # a row of pixels each, the same in every row
    counted = masks_at(pixels, (1, n_cells)).sum(dim=(-2, -1)) * side / n_cells
    assert (float(counted.min()), float(counted.max())) == pytest.approx((least, most), abs=1e-3)
