"""Multi-scale fusion module (MSF), which compares both prototypes with the query densely, and the decoder after it.

Stated: both prototypes are fused with the query feature at several scales to capture context during dense
comparison; the result is F_q^final. The pyramid is ours, after PFENet's FEM but from coarse to fine. Per scale b:

    X_b = Conv1x1[ pool_b(F_q'); P'; P_q'; similarity maps ] + top-down, then residual 2 x Conv3x3
    F_q^final = Conv1x1[ up(X_1); ...; up(X_n) ]

"aspp" has one scale of the grid and several of the convolution, after DeepLab's ASPP: a dilated one compares cells that
lie d apart, and a global mean sees the whole query. Our choice as well:

    U   = Conv1x1[ F_q'; P'; P_q'; similarity maps ];  X = U, then residual 2 x Conv3x3
    Z_d = Conv3x3(X) with dilation d = 1, 3, 6;  Z_g = Conv1x1(mean of X)
    F_q^final = Conv1x1[ X + Conv1x1(ReLU[Z_1; Z_3; Z_6; Z_g]) ]

The similarity maps are cosines of every query pixel with P', P_q' and the background prototype. The convolution
over [F; P] needs to learn a comparison; a map is one, and holds for classes never seen in training (our choice).
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.prototypes import cosine_map


class _ResidualConvolutions(nn.Module):
    """x + Conv3x3(ReLU(Conv3x3(ReLU(x)))), [B, C, h, w] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(torch.relu(x))))


class Level(nn.Module):
    """One scale: mix query feature, both prototypes and similarity maps, then a residual pair of convolutions."""

    def __init__(self, channels: int, n_maps: int, *, vectors: bool) -> None:
        super().__init__()
        self.pixel = nn.Conv2d(channels, channels, 1) if vectors else None
        # A 1x1 convolution over expanded prototypes equals a linear layer that is broadcast over the pixels.
        self.prototypes = nn.Linear(2 * channels, channels) if vectors else None
        self.maps = nn.Conv2d(n_maps, channels, 1) if n_maps else None
        self.residual = _ResidualConvolutions(channels)

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


class _AtrousPyramid(nn.Module):
    """ASPP: parallel dilated convolutions and a global average."""

    def __init__(self, channels: int, dilations: tuple[int, ...] = (1, 3, 6)) -> None:
        super().__init__()
        self.dilations = dilations
        self.branches = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=d, dilation=d) for d in dilations)
        self.globally = nn.Conv2d(channels, channels, 1)
        self.merge = nn.Conv2d((len(dilations) + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """X [B, C, h, w] -> the same shape, and Z_d [B, C, h, w], last of them Z_g [B, C, 1, 1]."""
        seen = [*(branch(x) for branch in self.branches), self.globally(x.mean(dim=(2, 3), keepdim=True))]
        wide = torch.cat([*seen[:-1], seen[-1].expand_as(x)], dim=1)
        return x + self.merge(torch.relu(wide)), seen


class MultiScaleFusion(nn.Module):
    """MSF in one of its modes: "aspp", "pyramid" or "single" scale."""

    def __init__(self, config: ModelConfig, n_maps: int) -> None:
        super().__init__()
        self.scales = config.scales if config.fusion == "pyramid" else (1.0,)
        vectors = config.comparison != "similarity"
        self.levels = nn.ModuleList(Level(config.channels, n_maps, vectors=vectors) for _ in self.scales)
        self.atrous = _AtrousPyramid(config.channels) if config.fusion == "aspp" else None
        self.merge = nn.Conv2d(len(self.scales) * config.channels, config.channels, 1)

    def seen_by(self) -> dict[str, nn.Module]:
        """What gives each of the levels of `forward`, by its name, in the same order."""
        if self.atrous is None:
            return {f"scale {scale:g}": level for scale, level in zip(self.scales, self.levels, strict=True)}
        names = [f"dilation {dilation}" for dilation in self.atrous.dilations]
        return dict(zip([*names, "global mean"], [*self.atrous.branches, self.atrous.globally], strict=True))

    def forward(
        self, query: Tensor, prototype: Tensor, pseudo_prototype: Tensor, maps: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Fuse F_q' [B, C, h, w] with P', P_q' [B, C] and maps [B, n_maps, h, w].

        Returns F_q^final [B, C, h, w] and what was seen at each scale, finest first: the levels X_b, each at its own
        size, or for "aspp" Z_d and Z_g.
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
            mixed, levels = self.atrous(levels[0])
            return self.merge(mixed), levels
        return self.merge(torch.cat([resized(level, (height, width)) for level in levels], dim=1)), levels


class Decoder(nn.Module):
    """F_q^final to logits: residual 2 x Conv3x3, Conv3x3, Conv1x1. [B, C, h, w] -> [B, 2, h, w].

    Stated: F_q^final goes to a separate decoder. Its layers are our choice, close to PFENet's [precedent].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = _ResidualConvolutions(channels)
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.classifier = nn.Conv2d(channels, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.convolution(torch.relu(self.residual(features)))))


class AuxiliaryBranch(nn.Module):
    """A light segmenter of features [B, C, h, w] by a prototype [B, C], used in training only.

    Stated: an auxiliary branch helps in training and is removed in evaluation. That P_q segments the *support*
    has precedents (CyCTR, QPENet); the layers are our choice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(self, features: Tensor, prototype: Tensor) -> Tensor:
        score = self.scale * (cosine_map(features, prototype) - self.threshold)  # [B, h, w]
        return torch.stack([-score, score], dim=1)
