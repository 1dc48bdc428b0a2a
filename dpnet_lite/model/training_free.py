"""Segmentation without training: what prototypes and matches on frozen features give by themselves.

The first is the baseline that every table shows; the second a prior after PFENet's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpnet_lite.model.cycle_comparison import membership
from dpnet_lite.model.matching import cycle_matches
from dpnet_lite.model.prototypes import cosine_maps, masked_average


def foreground_score(
    support_features: Tensor,
    support_masks: Tensor,
    query_features: Tensor,
    support_background: Tensor | None = None,
) -> Tensor:
    """cos(f_q, p) - cos(f_q, p_background): above 0 where the foreground prototype is nearer.

    Args:
        support_features: float [B, K, D, h, w].
        support_masks: float [B, K, h, w] in [0, 1].
        query_features: float [B, D, h, w].
        support_background: float [B, K, h, w] in [0, 1]; default: all that is not foreground.

    Returns:
        float [B, h, w] in [-2, 2]. Nearest-prototype segmentation as in PANet [precedent], on frozen features.
    """
    foreground = masked_average(support_features, support_masks).mean(dim=1)  # [B, K, D] -> [B, D]
    rest = 1 - support_masks if support_background is None else support_background
    background = masked_average(support_features, rest).mean(dim=1)
    cosines = cosine_maps(query_features, torch.stack([foreground, background], dim=1))
    return cosines[:, 0] - cosines[:, 1]


@torch.no_grad()
def nearest_foreground(support_features: Tensor, support_masks: Tensor, query_features: Tensor) -> Tensor:
    """A prior [ours, after PFENet's]: every query pixel's best cosine with a support foreground pixel.

    Same shapes as `foreground_score`; the result is scaled to [0, 1] per query, [B, h, w].
    """
    pixels = support_features.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [B, K, D, h, w] -> [B, K * h * w, D]
    mask = membership(support_masks.flatten(1))
    best = cycle_matches(pixels, query_features.flatten(2).transpose(1, 2), mask).foreground_similarity
    assert best is not None
    low, high = best.amin(dim=1, keepdim=True), best.amax(dim=1, keepdim=True)
    return ((best - low) / (high - low + 1e-7)).unflatten(1, query_features.shape[-2:])
