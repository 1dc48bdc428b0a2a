"""Multi-scale fusion module (MSF): compare both prototypes with the query densely, at several scales.

Stated: both prototypes are fused with the query feature at several scales to capture context during dense
comparison; the result is F_q^final. The pyramid is ours, after PFENet's FEM, whose
path runs from fine to coarse and ours from coarse to fine. Per scale b:

    X_b = Conv1x1[ pool_b(F_q'); P'; P_q'; similarity maps ] + top-down, then residual 2 x Conv3x3
    F_q^final = Conv1x1[ up(X_1); ...; up(X_n) ]

The similarity maps are cosines of every query pixel with P', P_q' and the background prototype. The convolution
over [F; P] needs to learn a comparison; a map is one, and holds for classes never seen in training (our choice).
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..config import ModelConfig
from .decoder import ResidualConvolutions


class Level(nn.Module):
    """One scale: mix query feature, both prototypes and similarity maps, then a residual pair of convolutions."""

    def __init__(self, channels: int, n_maps: int, *, vectors: bool) -> None:
        super().__init__()
        self.pixel = nn.Conv2d(channels, channels, 1) if vectors else None
        # A 1x1 convolution over expanded prototypes equals a linear layer that is broadcast over the pixels.
        self.prototypes = nn.Linear(2 * channels, channels) if vectors else None
        self.maps = nn.Conv2d(n_maps, channels, 1) if n_maps else None
        self.residual = ResidualConvolutions(channels)

    def forward(self, query: Tensor, prototypes: Tensor, maps: Tensor, coarser: Tensor | None) -> Tensor:
        """query [B, C, h, w], prototypes [B, 2C], maps [B, n_maps, h, w], coarser [B, C, h', w'] -> [B, C, h, w]."""
        parts: list[Tensor] = []
        if self.pixel is not None and self.prototypes is not None:
            parts.append(self.pixel(query) + self.prototypes(prototypes)[..., None, None])
        if self.maps is not None:
            parts.append(self.maps(maps))
        if coarser is not None:
            parts.append(resized(coarser, query.shape[-2:]))
        return self.residual(torch.stack(parts).sum(dim=0) if len(parts) > 1 else parts[0])


def resized(features: Tensor, size: torch.Size | tuple[int, ...]) -> Tensor:
    """Bilinear resize of [B, C, h, w] to `size`; the same tensor where it fits already."""
    if features.shape[-2:] == tuple(size):
        return features
    return functional.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


class AtrousPyramid(nn.Module):
    """ASPP: parallel dilated convolutions and a global average, [B, C, h, w] -> the same."""

    def __init__(self, channels: int, dilations: tuple[int, ...] = (1, 3, 6)) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in dilations)
        self.globally = nn.Conv2d(channels, channels, 1)
        self.merge = nn.Conv2d((len(dilations) + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = self.globally(x.mean(dim=(2, 3), keepdim=True)).expand_as(x)
        return x + self.merge(torch.relu(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1)))


class MultiScaleFusion(nn.Module):
    """MSF in one of its modes: "pyramid" (default), "single" scale or "aspp"."""

    def __init__(self, config: ModelConfig, n_maps: int) -> None:
        super().__init__()
        self.scales = config.scales if config.fusion == "pyramid" else (1.0,)
        vectors = config.comparison != "similarity"
        self.levels = nn.ModuleList(Level(config.channels, n_maps, vectors=vectors) for _ in self.scales)
        self.atrous = AtrousPyramid(config.channels) if config.fusion == "aspp" else None
        self.merge = nn.Conv2d(len(self.scales) * config.channels, config.channels, 1)

    def forward(
        self, query: Tensor, prototype: Tensor, pseudo_prototype: Tensor, maps: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse F_q' [B, C, h, w] with P', P_q' [B, C] and maps [B, n_maps, h, w].

        Returns F_q^final [B, C, h, w] and the levels X_b, finest first, each at its own size.
        """
        prototypes = torch.cat([prototype, pseudo_prototype], dim=1)  # [B, 2C]
        height, width = query.shape[-2:]
        coarser: Tensor | None = None
        levels: list[Tensor] = []
        for scale, level in zip(reversed(self.scales), reversed(self.levels), strict=True):  # coarse to fine
            size = (max(1, round(scale * height)), max(1, round(scale * width)))
            if scale == 1.0:
                pooled, pooled_maps = query, maps
            else:
                pooled = functional.adaptive_avg_pool2d(query, size)
                pooled_maps = functional.adaptive_avg_pool2d(maps, size) if maps.shape[1] else pooled[:, :0]
            coarser = level(pooled, prototypes, pooled_maps, coarser)
            levels.insert(0, coarser)
        if self.atrous is not None:
            levels = [self.atrous(levels[0])]
        final = self.merge(torch.cat([resized(level, (height, width)) for level in levels], dim=1))
        return final, levels
