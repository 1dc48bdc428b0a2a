"""Prototypes: a class summarised as one vector, and the comparison of a feature map with it.

P = sum(M_s F_s) / (sum(M_s) + eps), the masked average of the support's foreground features [precedent: every
prototype network since PANet; the paper's "support prototype" is stated, its formula is not public].
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

_EPSILON = 1e-6


def masked_average(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of pixel features.

    Args:
        features: float [..., C, h, w].
        weights: float [..., h, w], at least 0; a mask or soft weights.

    Returns:
        float [..., C]; zeros where all weights are 0.
    """
    total = weights.sum(dim=(-2, -1))[..., None]  # [..., 1]
    weighted = (features * weights.unsqueeze(-3)).flatten(-2).sum(dim=-1)  # [..., C, h, w] -> [..., C]
    return weighted / (total + _EPSILON)


def cosine_maps(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every pixel's feature with n prototypes.

    Args:
        features: float [B, C, h, w].
        prototypes: float [B, n, C].

    Returns:
        float [B, n, h, w] in [-1, 1]; 0 where a feature or a prototype is all zeros.
    """
    directions = functional.normalize(prototypes, dim=2)
    products = torch.einsum("bchw,bnc->bnhw", features, directions)
    return products / features.norm(dim=1, keepdim=True).clamp_min(1e-12)


def cosine_map(features: Tensor, prototype: Tensor) -> Tensor:
    """Cosine of every pixel's feature with one prototype: [B, C, h, w] and [B, C] -> [B, h, w] in [-1, 1]."""
    return cosine_maps(features, prototype[:, None])[:, 0]


def foreground_score(
    support_features: Tensor,
    support_masks: Tensor,
    query_features: Tensor,
    support_background: Tensor | None = None,
) -> Tensor:
    """cos(f_q, p) - cos(f_q, p_background): above 0 where the foreground prototype is nearer.

    Nearest-prototype segmentation as in PANet [precedent], here on frozen features: the baseline of every table.

    Args:
        support_features: float [B, K, D, h, w].
        support_masks: float [B, K, h, w] in [0, 1], shares of foreground.
        query_features: float [B, D, h, w].
        support_background: float [B, K, h, w] in [0, 1], shares of background; default: all that is not foreground.

    Returns:
        float [B, h, w] in [-2, 2].
    """
    support_background = 1 - support_masks if support_background is None else support_background
    # [B, K, D], [B, K, D] -> [B, 2, D]: foreground, background
    pair = [masked_average(support_features, part).mean(dim=1) for part in (support_masks, support_background)]
    cosines = cosine_maps(query_features, torch.stack(pair, dim=1))
    return cosines[:, 0] - cosines[:, 1]


def masks_at(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of foreground in each cell of a coarser grid: [..., H, W] in [0, 1] -> [..., h, w] in [0, 1].

    A mask that is too thin to fill any cell keeps its share, so that its prototype exists (our choice).
    """
    flat = masks.reshape(-1, 1, *masks.shape[-2:]).float()  # [..., H, W] -> [n, 1, H, W]
    coarse = functional.adaptive_avg_pool2d(flat, size)
    return coarse.reshape(*masks.shape[:-2], *size)  # [n, 1, h, w] -> [..., h, w]
