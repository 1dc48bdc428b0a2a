"""The head of DPNet: everything that trains, on the features of a frozen backbone."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from ..config import ModelConfig
from .comparison_maps import frozen_maps, map_names, reduced_maps
from .cycle_comparison import Selection, select_reliable
from .decoder import AuxiliaryBranch, Decoder
from .matching import CycleMatches
from .multi_scale_fusion import MultiScaleFusion
from .prototype_interaction import Interaction, PrototypeInteraction, part_prototypes
from .prototypes import masked_average, masks_at
from .training_free import foreground_score, nearest_foreground


class Trace(NamedTuple):
    """The head's intermediates, for looking inside. N_s = h * w per shot (K * h * w if shots are joint)."""

    support: Tensor  # F_s, reduced, [B, K, C, h, w]
    query: Tensor  # F_q, reduced, [B, C, h, w]
    support_masks: Tensor  # M_s, [B, K, h, w] in [0, 1]
    prototype: Tensor  # P, [B, C]
    pseudo_prototype: Tensor  # P_q, [B, C]
    matches: list[CycleMatches]  # per shot (one entry if shots are joint); empty without pseudo-prototype
    selections: list[Selection]  # as `matches`
    reliable: Tensor  # [B, h, w], share of each query pixel in P_q, sums to 1
    interaction: Interaction  # P', P_q', F_q', A, gate
    maps: Tensor  # similarity maps given to the fusion, [B, n_maps, h, w]
    map_names: tuple[str, ...]  # what each of them is
    levels: list[Tensor]  # X_b, finest scale first
    fused: Tensor  # F_q^final, [B, C, h, w]


class Output(NamedTuple):
    logits: Tensor  # [B, 2, H, W], background and foreground
    auxiliary_logits: Tensor | None  # training only: [B * K, 2, h, w] for the support, [B, 2, h, w] for the query
    trace: Trace | None


class Head(nn.Module):
    """The trained part of DPNet, on backbone features of `in_channels` of which the last `deep_channels` are deep.

    Stated: prototypes P and P_q, CCM, PIM, MSF, a decoder, an auxiliary branch in training. Layers and sizes: ours.
    """

    def __init__(self, config: ModelConfig, in_channels: int, deep_channels: int) -> None:
        super().__init__()
        self.config, self.in_channels, self.deep_channels = config, in_channels, deep_channels
        channels = config.channels
        self.reduce = nn.Sequential(nn.Conv2d(in_channels, channels, 1), nn.ReLU())
        self.interaction = PrototypeInteraction(channels, mode=config.interaction, n_parts=config.n_parts)
        self.fusion = MultiScaleFusion(config, len(self.map_names()))
        self.decoder = Decoder(channels)
        self.auxiliary = None if config.auxiliary == "none" else AuxiliaryBranch()
        self.shortcut = nn.Parameter(torch.tensor(5.0)) if config.score_shortcut else None
        self.to(memory_format=torch.channels_last)

    def map_names(self) -> tuple[str, ...]:
        """The similarity maps of this configuration, in order."""
        return map_names(self.config)

    def forward(
        self,
        support_features: Tensor,
        support_masks: Tensor,
        query_features: Tensor,
        *,
        size: tuple[int, int],
        support_background: Tensor | None = None,
        query_masks: Tensor | None = None,
        trace: bool = False,
    ) -> Output:
        """Segment the query.

        Args:
            support_features: float [B, K, D, h, w], any K of at least 1.
            support_masks: float [B, K, H', W'] in [0, 1], at any size.
            query_features: float [B, D, h, w].
            size: height and width of the logits.
            support_background: float [B, K, H', W'] in [0, 1]; where it and the mask leave something, that is
                ignored. Default: all that is not foreground.
            query_masks: float [B, H', W'], the truth, for selection "oracle" only.
            trace: also return the intermediates.
        """
        self._check(support_features, support_masks, query_features, query_masks)
        cells = (query_features.shape[-2], query_features.shape[-1])
        support_masks = masks_at(support_masks, cells) if support_masks.shape[-2:] != cells else support_masks
        rest = 1 - support_masks if support_background is None else masks_at(support_background, cells)
        truth = None if query_masks is None else masks_at(query_masks, cells)
        support, query = self._reduce(support_features, query_features)
        prototype = masked_average(support, support_masks).mean(dim=1)  # [B, K, C] -> [B, C]
        share, selections, matches = self._select(
            support, support_masks, query, prototype, truth, support_features, query_features
        )
        pseudo = masked_average(query, share) if self.config.pseudo_prototype else prototype
        interaction = self._interact(prototype, pseudo, support, support_masks, query, share)
        maps = self._maps(interaction, support, support_masks, rest, share, support_features, query_features)
        fused, levels = self.fusion(interaction.query, interaction.prototype, interaction.pseudo_prototype, maps)
        logits = self.decoder(fused)
        if self.shortcut is not None:
            score = foreground_score(self._deep(support_features), support_masks, self._deep(query_features), rest)
            logits = logits + self.shortcut * torch.stack([-score, score], dim=1)
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        kept = None
        if trace:
            kept = Trace(
                support, query, support_masks, prototype, pseudo, matches, selections, share, interaction,
                maps, self.map_names(), levels, fused,
            )  # fmt: skip
        return Output(logits, self._auxiliary(interaction, support), kept)

    def _check(
        self,
        support_features: Tensor,
        support_masks: Tensor,
        query_features: Tensor,
        query_masks: Tensor | None,
    ) -> None:
        shapes = f"{list(support_features.shape)}, {list(support_masks.shape)}, {list(query_features.shape)}"
        if support_features.ndim != 5 or support_masks.ndim != 4 or query_features.ndim != 4:
            raise ValueError(f"shapes are {shapes}; give [B, K, D, h, w], [B, K, H, W] and [B, D, h, w]")
        if support_features.shape[:2] != support_masks.shape[:2] or support_features.shape[1] < 1:
            raise ValueError(f"shapes are {shapes}; features and masks of the support need the same B and K >= 1")
        if support_features.shape[2] != self.in_channels or query_features.shape[1] != self.in_channels:
            raise ValueError(f"shapes are {shapes}; the head was built for D = {self.in_channels}")
        n_batch, _, *cells = query_features.shape
        if support_features.shape[0] != n_batch or list(support_features.shape[3:]) != cells:
            raise ValueError(f"shapes are {shapes}; support and query features need the same B, h and w")
        if query_masks is not None and (query_masks.ndim != 3 or len(query_masks) != n_batch):
            raise ValueError(f"query_masks are {list(query_masks.shape)}; give [B, H, W] with B = {n_batch}")

    def _deep(self, features: Tensor) -> Tensor:
        return features[..., self.in_channels - self.deep_channels :, :, :]

    def _middle(self, features: Tensor) -> Tensor:
        return features[..., : self.in_channels - self.deep_channels, :, :]

    def _reduce(self, support_features: Tensor, query_features: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced features F_s [B, K, C, h, w] and F_q [B, C, h, w].

        In training, channels are dropped: the same ones in all images of an episode, which are to be compared.
        """
        both = torch.cat([support_features, query_features[:, None]], dim=1)  # [B, K + 1, D, h, w]
        images = both.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # [B * (K + 1), D, h, w]
        reduced = self.reduce(images).unflatten(0, both.shape[:2])
        if self.training and self.config.dropout > 0:
            keep = torch.full_like(reduced[:, :1, :, :1, :1], 1.0 - self.config.dropout).bernoulli()
            reduced = reduced * keep / (1.0 - self.config.dropout)
        return reduced[:, :-1], reduced[:, -1]

    def _select(
        self,
        support: Tensor,
        support_masks: Tensor,
        query: Tensor,
        prototype: Tensor,
        truth: Tensor | None,
        support_features: Tensor,
        query_features: Tensor,
    ) -> tuple[Tensor, list[Selection], list[CycleMatches]]:
        """CCM over all shots: each query pixel's share in P_q, [B, h, w], and how it was found."""
        if not self.config.pseudo_prototype:
            return query.new_zeros(query.shape[0], *query.shape[-2:]), [], []
        if self.config.selection_features == "backbone":
            support, query = self._deep(support_features), self._deep(query_features)
            prototype = masked_average(support, support_masks).mean(dim=1)
        shots = [support] if self.config.shot_fusion == "joint" else list(support.split(1, dim=1))
        masks = [support_masks] if self.config.shot_fusion == "joint" else list(support_masks.split(1, dim=1))
        found = [
            select_reliable(self.config, shot.detach(), mask, query.detach(), prototype.detach(), truth)
            for shot, mask in zip(shots, masks, strict=True)
        ]
        shares = [selection.weights / selection.weights.sum(dim=1, keepdim=True) for selection, _ in found]
        share = torch.stack(shares).mean(dim=0).unflatten(1, query.shape[-2:])  # [B, N_q] -> [B, h, w]
        return share, [selection for selection, _ in found], [matches for _, matches in found]

    def _interact(
        self, prototype: Tensor, pseudo: Tensor, support: Tensor, masks: Tensor, query: Tensor, share: Tensor
    ) -> Interaction:
        if self.config.interaction != "parts":
            return self.interaction(prototype, pseudo, query)
        # All shots side by side as one wide image: [B, K, C, h, w] -> [B, C, K * h, w]
        wide, n_parts = support.transpose(1, 2).flatten(2, 3), self.config.n_parts
        support_parts = part_prototypes(wide, masks.flatten(1, 2), n_parts)
        has_pseudo = self.config.pseudo_prototype
        query_parts = part_prototypes(query, share, n_parts) if has_pseudo else support_parts
        return self.interaction(prototype, pseudo, query, support_parts=support_parts, query_parts=query_parts)

    def _maps(
        self,
        interaction: Interaction,
        support: Tensor,
        masks: Tensor,
        rest: Tensor,
        share: Tensor,
        support_features: Tensor,
        query_features: Tensor,
    ) -> Tensor:
        """The similarity maps named by `map_names`, [B, n_maps, h, w]."""
        maps: list[Tensor] = []
        if self.config.comparison != "features":
            maps += reduced_maps(self.config, interaction, support, rest)
            for part in (self._middle, self._deep):
                maps += frozen_maps(self.config, part(query_features), part(support_features), masks, rest, share)
        if self.config.prior:
            maps.append(nearest_foreground(self._deep(support_features), masks, self._deep(query_features)))
        return torch.stack(maps, dim=1) if maps else interaction.query[:, :0]

    def _auxiliary(self, interaction: Interaction, support: Tensor) -> Tensor | None:
        """Logits of the auxiliary branch: P_q' segments the support, or P' the query; None without a branch."""
        if self.auxiliary is None or not self.training:
            return None
        if self.config.auxiliary == "query":
            return self.auxiliary(interaction.query, interaction.prototype)
        pseudo = interaction.pseudo_prototype.repeat_interleave(support.shape[1], dim=0)  # [B, C] -> [B * K, C]
        return self.auxiliary(support.flatten(0, 1), pseudo)
