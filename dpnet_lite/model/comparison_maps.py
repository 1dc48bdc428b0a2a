"""The similarity maps that the fusion compares by: cosines of every query pixel with the prototypes.

One map a prototype, in reduced and frozen features: our choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.prototype_interaction import Interaction
from dpnet_lite.model.prototypes import cosine_maps, masked_average

MAP_SCALE = 10.0  # cosines differ by about 0.1 between pixels; maps are brought to about 1


def comparison_maps(query: Tensor, prototypes: tuple[Tensor, ...], background: Tensor | None) -> list[Tensor]:
    """Cosine maps of a query [B, C, h, w] with prototypes [B, C], each [B, h, w].

    One map a prototype, less its mean over the query; then, with a background prototype, one more each: the
    cosine with the prototype less that with the background. All times MAP_SCALE. Our choice.
    """
    stack = torch.stack([*prototypes, *([] if background is None else [background])], dim=1)  # [B, n, C]
    cosines = MAP_SCALE * cosine_maps(query, stack)
    n = len(prototypes)
    maps = list((cosines[:, :n] - cosines[:, :n].mean(dim=(2, 3), keepdim=True)).unbind(dim=1))
    if background is not None:
        maps += (cosines[:, :n] - cosines[:, n:]).unbind(dim=1)
    return maps


def map_names(config: ModelConfig) -> tuple[str, ...]:
    """The similarity maps of a configuration, in order."""
    prior = ("prior",) if config.prior else ()
    if config.comparison == "features":
        return prior
    names: list[str] = []
    for pair in (("P'", "P_q'"), ("middle P", "middle P_q"), ("deep P", "deep P_q")):
        names += pair
        names += [f"{name} - background" for name in pair] if config.background else []
    return (*names, *prior)


def reduced_maps(config: ModelConfig, interaction: Interaction, support: Tensor, rest: Tensor) -> list[Tensor]:
    """Maps of F_q' with P' and P_q': support [B, K, C, h, w], its background [B, K, h, w] -> each [B, h, w]."""
    background = masked_average(support, rest).mean(dim=1) if config.background else None
    if background is not None and interaction.weights is not None:
        background = interaction.weights * background  # compared in the same channels as the prototypes
    pair = (interaction.prototype, interaction.pseudo_prototype)
    return comparison_maps(interaction.query, pair, background)


def frozen_maps(
    config: ModelConfig, query: Tensor, support: Tensor, masks: Tensor, rest: Tensor, share: Tensor
) -> list[Tensor]:
    """The same maps in one stage of the frozen features: query [B, D, h, w], support [B, K, D, h, w].

    masks, rest: float [B, K, h, w], shares of foreground and of background.
    share: float [B, h, w], each query pixel's part in P_q.
    """
    prototype = masked_average(support, masks).mean(dim=1)  # [B, K, D] -> [B, D]
    pseudo = masked_average(query, share) if config.pseudo_prototype else prototype
    background = masked_average(support, rest).mean(dim=1) if config.background else None
    return comparison_maps(query, (prototype, pseudo), background)
