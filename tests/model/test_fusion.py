"""Multi-scale fusion: the cheap form equals the plain one, its scales, and odd sizes in every mode."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.multi_scale_fusion import Level, MultiScaleFusion

CHANNELS, N_MAPS = 6, 3


def inputs(size, n_maps=N_MAPS, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    return random(2, CHANNELS, *size), random(2, CHANNELS), random(2, CHANNELS), random(2, n_maps, *size)


def plain_level(level, query, prototypes, maps, coarser):
    """The level with one Conv1x1 over [F_q'; P'; P_q'; maps], prototypes repeated at every pixel."""
    size = query.shape[-2:]
    everything = torch.cat([query, prototypes[..., None, None].expand(-1, -1, *size), maps], dim=1)
    weight = torch.cat(
        [level.pixel.weight, level.prototypes.weight[..., None, None], level.maps.weight], dim=1
    )  # [C, C + 2C + n_maps, 1, 1]
    x = functional.conv2d(everything, weight, level.pixel.bias + level.prototypes.bias + level.maps.bias)
    if coarser is not None:
        x = x + functional.interpolate(coarser, size=size, mode="bilinear", align_corners=False)
    first, second = level.residual.first, level.residual.second
    inner = functional.conv2d(torch.relu(x), first.weight, first.bias, padding=1)
    return x + functional.conv2d(torch.relu(inner), second.weight, second.bias, padding=1)


@pytest.mark.parametrize("with_coarser", [False, True])
def test_a_level_equals_one_convolution_over_everything(with_coarser):
    torch.manual_seed(0)
    level = Level(CHANNELS, N_MAPS, vectors=True)
    query, p, p_q, maps = inputs((7, 9))
    coarser = torch.randn(2, CHANNELS, 4, 5) if with_coarser else None
    prototypes = torch.cat([p, p_q], dim=1)
    found = level(query, prototypes, maps, coarser)
    torch.testing.assert_close(found, plain_level(level, query, prototypes, maps, coarser), atol=1e-5, rtol=1e-4)


def test_the_pyramid_equals_its_plain_form():
    torch.manual_seed(1)
    config = ModelConfig(channels=CHANNELS, fusion="pyramid", comparison="both", scales=(1.0, 0.5, 0.2))
    module = MultiScaleFusion(config, N_MAPS)
    query, p, p_q, maps = inputs((10, 12))
    final, levels = module(query, p, p_q, maps)

    prototypes, coarser, plain = torch.cat([p, p_q], dim=1), None, []
    for size, level in zip([(2, 2), (5, 6), (10, 12)], reversed(module.levels), strict=True):
        pooled, pooled_maps = (functional.adaptive_avg_pool2d(x, size) for x in (query, maps))
        coarser = plain_level(level, pooled, prototypes, pooled_maps, coarser)
        plain.insert(0, coarser)
    for found, expected in zip(levels, plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    up = [functional.interpolate(x, size=(10, 12), mode="bilinear", align_corners=False) for x in plain]
    merged = functional.conv2d(torch.cat(up, dim=1), module.merge.weight, module.merge.bias)
    torch.testing.assert_close(final, merged, atol=1e-4, rtol=1e-4)


def slow_dilated(x, convolution, dilation):
    """A 3x3 convolution with holes, pixel by pixel, zeros outside: x [C, h, w]."""
    weight, bias = convolution.weight, convolution.bias
    result = torch.zeros_like(x)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            result[:, row, column] = bias
            for i in (-1, 0, 1):
                for j in (-1, 0, 1):
                    r, c = row + i * dilation, column + j * dilation
                    if 0 <= r < x.shape[1] and 0 <= c < x.shape[2]:
                        result[:, row, column] += weight[:, :, i + 1, j + 1] @ x[:, r, c]
    return result


@torch.no_grad()
def test_aspp_equals_its_formulas():
    torch.manual_seed(3)
    module = MultiScaleFusion(ModelConfig(channels=CHANNELS, fusion="aspp"), N_MAPS)
    query, p, p_q, maps = inputs((7, 9))
    final, levels = module(query, p, p_q, maps)
    assert list(module.seen_by()) == ["dilation 1", "dilation 3", "dilation 6", "global mean"]
    mixed = plain_level(module.levels[0], query, torch.cat([p, p_q], dim=1), maps, None)
    for b in range(2):
        x = mixed[b]
        seen = [slow_dilated(x, *pair) for pair in zip(module.atrous.branches, (1, 3, 6), strict=True)]
        whole = module.atrous.globally
        seen.append((whole.weight[:, :, 0, 0] @ x.mean(dim=(1, 2)) + whole.bias)[:, None, None])
        for found, expected in zip(levels, seen, strict=True):
            torch.testing.assert_close(found[b], expected, atol=1e-4, rtol=1e-4)
        wide = torch.relu(torch.cat([*seen[:-1], seen[-1].expand_as(x)]))
        inner = x + torch.einsum("oc,chw->ohw", module.atrous.merge.weight[:, :, 0, 0], wide)
        inner = inner + module.atrous.merge.bias[:, None, None]
        expected = (
            torch.einsum("oc,chw->ohw", module.merge.weight[:, :, 0, 0], inner) + module.merge.bias[:, None, None]
        )
        torch.testing.assert_close(final[b], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((24, 24), [(24, 24), (12, 12), (6, 6), (3, 3)]),
        ((60, 60), [(60, 60), (30, 30), (15, 15), (8, 8)]),  # PFENet's
        ((7, 9), [(7, 9), (4, 4), (2, 2), (1, 1)]),
        ((1, 1), [(1, 1)] * 4),
    ],
)
def test_the_scales_of_the_pyramid(size, sizes):
    config = ModelConfig(channels=CHANNELS, fusion="pyramid", scales=(1.0, 0.5, 0.25, 0.125))
    _, levels = MultiScaleFusion(config, N_MAPS)(*inputs(size))
    assert [tuple(level.shape[-2:]) for level in levels] == sizes


@pytest.mark.parametrize("size", [(7, 9), (1, 1), (2, 13)])
@pytest.mark.parametrize("comparison", ["features", "both", "similarity"])
@pytest.mark.parametrize("fusion", ["aspp", "pyramid", "single"])
def test_every_mode_runs_both_ways_at_odd_sizes(fusion, comparison, size):
    torch.manual_seed(2)
    n_maps = 0 if comparison == "features" else N_MAPS
    module = MultiScaleFusion(ModelConfig(channels=CHANNELS, fusion=fusion, comparison=comparison), n_maps)
    query, p, p_q, maps = (x.requires_grad_() for x in inputs(size, n_maps))
    final, levels = module(query, p, p_q, maps)
    assert final.shape == query.shape
    assert len(levels) == len(module.seen_by()) == {"pyramid": 4, "single": 1, "aspp": 4}[fusion]
    final.square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
    used = [maps] if comparison == "similarity" else [query, p, p_q] + ([maps] if n_maps else [])
    for x in used:
        assert x.grad.abs().sum() > 0


def test_similarity_alone_looks_at_no_feature_vector():
    config = ModelConfig(channels=CHANNELS, comparison="similarity")
    module = MultiScaleFusion(config, N_MAPS)
    query, p, p_q, maps = inputs((5, 6))
    final, _ = module(query, p, p_q, maps)
    other, _ = module(torch.randn_like(query), torch.randn_like(p), torch.randn_like(p_q), maps)
    assert torch.equal(final, other)
    changed, _ = module(query, p, p_q, maps + torch.randn_like(maps))
    assert not torch.allclose(final, changed)
