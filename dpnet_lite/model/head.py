"""The head of DPNet: everything that trains, on the features of a frozen backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.base import EpisodeNetwork, Output, Trace
from dpnet_lite.model.comparison_maps import frozen_maps, map_names, reduced_maps
from dpnet_lite.model.cycle_comparison import Selection, select_reliable
from dpnet_lite.model.decoder import AuxiliaryBranch, Decoder
from dpnet_lite.model.matching import CycleMatches
from dpnet_lite.model.multi_scale_fusion import MultiScaleFusion
from dpnet_lite.model.prototype_interaction import Interaction, PrototypeInteraction, part_prototypes
from dpnet_lite.model.prototypes import masked_average, masks_at
from dpnet_lite.model.training_free import foreground_score, nearest_foreground


class Head(EpisodeNetwork):
    """The trained part of DPNet, on backbone features of `in_channels` of which the last `deep_channels` are deep.

    Stated: prototypes P and P_q, CCM, PIM, MSF, a decoder, an auxiliary branch in training. Layers and sizes: ours.
    """

    def __init__(self, config: ModelConfig, in_channels: int, deep_channels: int) -> None:
        super().__init__(config, in_channels, deep_channels)
        channels = config.channels
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
        """Segment the query; the arguments are those of `EpisodeNetwork`."""
        self.check(support_features, support_masks, query_features, query_masks)
        cells = (query_features.shape[-2], query_features.shape[-1])
        support_masks = masks_at(support_masks, cells) if support_masks.shape[-2:] != cells else support_masks
        rest = 1 - support_masks if support_background is None else masks_at(support_background, cells)
        truth = None if query_masks is None else masks_at(query_masks, cells)
        support, query = self.reduced(support_features, query_features)
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
            score = foreground_score(self.deep(support_features), support_masks, self.deep(query_features), rest)
            logits = logits + self.shortcut * torch.stack([-score, score], dim=1)
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        kept = None
        if trace:
            kept = Trace(
                support,
                query,
                support_masks,
                prototype,
                pseudo,
                matches,
                selections,
                share,
                interaction,
                maps,
                self.map_names(),
                levels,
                fused,
            )
        return Output(logits, self._auxiliary(interaction, support), kept)

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
            support, query = self.deep(support_features), self.deep(query_features)
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
            for part in (self.middle, self.deep):
                maps += frozen_maps(self.config, part(query_features), part(support_features), masks, rest, share)
        if self.config.prior:
            maps.append(nearest_foreground(self.deep(support_features), masks, self.deep(query_features)))
        return torch.stack(maps, dim=1) if maps else interaction.query[:, :0]

    def _auxiliary(self, interaction: Interaction, support: Tensor) -> Tensor | None:
        """Logits of the auxiliary branch: P_q' segments the support, or P' the query; None without a branch."""
        if self.auxiliary is None or not self.training:
            return None
        if self.config.auxiliary == "query":
            return self.auxiliary(interaction.query, interaction.prototype)
        if interaction.weights is not None:  # compared in the same channels as the prototype
            support = interaction.weights[:, None, :, None, None] * support
        pseudo = interaction.pseudo_prototype.repeat_interleave(support.shape[1], dim=0)  # [B, C] -> [B * K, C]
        return self.auxiliary(support.flatten(0, 1), pseudo)
