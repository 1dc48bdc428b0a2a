"""Prototypes: a class summarised as one vector, and the comparison of a feature map with it.

P = sum(M_s F_s) / (sum(M_s) + eps), the masked average of the support's foreground features [precedent: every
prototype network since PANet; the paper's "support prototype" is stated, its formula is not public].
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

_EPSILON = 1e-6


def masked_averages(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted means of pixel features, one for each of n maps of weights.

    Args:
        features: float [..., C, h, w].
        weights: float [..., n, h, w], at least 0; masks or soft weights.

    Returns:
        float [..., n, C]; zeros where all weights are 0.
    """
    shares = weights.flatten(-2).to(features.dtype)  # [..., n, h, w] -> [..., n, N]
    sums = shares @ features.flatten(-2).transpose(-1, -2)  # [..., C, h, w] -> [..., N, C]; [..., n, C]
    return sums / (weights.sum(dim=(-2, -1))[..., None] + _EPSILON)


def masked_average(features: Tensor, weights: Tensor) -> Tensor:
    """The weighted mean of features [..., C, h, w] under one map of weights [..., h, w]: [..., C]."""
    return masked_averages(features, weights.unsqueeze(-3)).squeeze(-2)


def support_prototypes(features: Tensor, masks: Tensor, background: Tensor) -> Tensor:
    """Prototypes of foreground and background, each the mean over the shots.

    Args:
        features: float [B, K, C, h, w].
        masks, background: float [B, K, h, w] in [0, 1], shares of foreground and of background.

    Returns:
        float [B, 2, C].
    """
    return masked_averages(features, torch.stack([masks, background], dim=2)).mean(dim=1)  # [B, K, 2, C] -> [B, 2, C]


def cosine_maps(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine of every pixel's feature with n prototypes.

    Args:
        features: float [B, C, h, w].
        prototypes: float [B, n, C].

    Returns:
        float [B, n, h, w] in [-1, 1]; 0 where a feature or a prototype is all zeros.
    """
    products = functional.normalize(prototypes, dim=2).to(features.dtype) @ features.flatten(2)  # [B, n, N]
    lengths = features.norm(dim=1, keepdim=True).clamp_min(1e-12)  # [B, 1, h, w]
    return products.unflatten(2, features.shape[-2:]) / lengths  # [B, n, N] -> [B, n, h, w]


def cosine_map(features: Tensor, prototype: Tensor) -> Tensor:
    """Cosine of every pixel's feature with one prototype: [B, C, h, w] and [B, C] -> [B, h, w] in [-1, 1]."""
    return cosine_maps(features, prototype[:, None])[:, 0]


def foreground_score(query_features: Tensor, prototypes: Tensor) -> Tensor:
    """cos(f_q, p) - cos(f_q, p_background): above 0 where the foreground prototype is nearer.

    Nearest-prototype segmentation as in PANet [precedent]; on frozen features, the baseline of every table.

    Args:
        query_features: float [B, C, h, w].
        prototypes: float [B, 2, C], of foreground and background, by `support_prototypes`.

    Returns:
        float [B, h, w] in [-2, 2].
    """
    cosines = cosine_maps(query_features, prototypes)
    return cosines[:, 0] - cosines[:, 1]


def masks_at(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Share of foreground in each cell of a coarser grid: [..., H, W] in [0, 1] -> [..., h, w] in [0, 1].

    A mask that is too thin to fill any cell keeps its share, so that its prototype exists (our choice).
    """
    flat = masks.reshape(-1, *masks.shape[-2:]).float()  # [..., H, W] -> [n, H, W]
    coarse = functional.adaptive_avg_pool2d(flat, size)
    return coarse.reshape(*masks.shape[:-2], *size)  # [n, h, w] -> [..., h, w]
