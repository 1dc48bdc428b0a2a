"""DPNet, the dual prototype network: everything that trains, on the features of a frozen backbone.

Stated by the paper: the prototypes P and P_q, CCM, PIM, MSF, a separate decoder, an auxiliary branch in training.
Layers, sizes and similarity maps are our choice.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.cycle_comparison import Selection, nearest_foreground, select_reliable
from dpnet_lite.model.episode_batch import EpisodeBatch, Output, Reduction, check_batch
from dpnet_lite.model.matching import CycleMatches
from dpnet_lite.model.multi_scale_fusion import AuxiliaryBranch, Decoder, MultiScaleFusion
from dpnet_lite.model.prototype_interaction import Interaction, PrototypeInteraction
from dpnet_lite.model.prototypes import cosine_maps, foreground_score, masked_average, masks_at, support_prototypes

_MAP_SCALE = 10.0  # cosines differ by about 0.1 between pixels; maps are brought to about 1


class Trace(NamedTuple):
    """The intermediates of a forward pass, for looking inside."""

    support: Tensor  # F_s, reduced, [B, K, C, h, w]
    query: Tensor  # F_q, reduced, [B, C, h, w]
    support_masks: Tensor  # M_s, [B, K, h, w] in [0, 1]
    prototype: Tensor  # P, [B, C]
    pseudo_prototype: Tensor  # P_q, [B, C]
    matches: list[CycleMatches]  # per shot; empty without pseudo-prototype
    selections: list[Selection]  # as `matches`
    reliable: Tensor  # [B, h, w], share of each query pixel in P_q, sums to 1
    interaction: Interaction  # P', P_q', F_q', A, gate, u
    maps: Tensor  # similarity maps given to the fusion, [B, n_maps, h, w]
    map_names: tuple[str, ...]  # what each of them is
    levels: list[Tensor]  # X_b, or Z_d and Z_g, finest scale first
    fused: Tensor  # F_q^final, [B, C, h, w]


class Support(NamedTuple):
    """What the network knows of its support alone: the same for any query."""

    features: Tensor  # F_s, reduced, [B, K, C, h, w]
    prototypes: Tensor  # P and the background's prototype, [B, 2, C]
    frozen: Tensor  # the same two in the frozen features, [B, 2, D]


class DPNet(nn.Module):
    """The network on features of `in_channels`, of which the last `deep_channels` come from the deep stage."""

    def __init__(self, config: ModelConfig, in_channels: int, deep_channels: int) -> None:
        super().__init__()
        self.config, self.in_channels, self.deep_channels = config, in_channels, deep_channels
        self.reduce = Reduction(in_channels, config.channels, config.dropout)
        self.interaction = PrototypeInteraction(config.channels, mode=config.interaction)
        self.fusion = MultiScaleFusion(config, len(self.map_names()))
        self.decoder = Decoder(config.channels)
        self.auxiliary = None if config.auxiliary == "none" else AuxiliaryBranch()
        self.shortcut = nn.Parameter(torch.tensor(5.0)) if config.score_shortcut else None
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        batch: EpisodeBatch,
        size: tuple[int, int],
        *,
        query_masks: Tensor | None = None,
        kept_channels: Tensor | None = None,
        support: Support | None = None,
        trace: bool = False,
    ) -> Output:
        """Segment the queries.

        Args:
            batch: episodes of any number of shots; see `EpisodeBatch`.
            size: height and width of the logits.
            query_masks: float [B, H', W'], what the selection "oracle" takes; default: the query's true mask.
            kept_channels: float [B, 1, C, 1, 1], for training with dropout; see `Reduction`.
            support: what `encode_support` gave for this batch's support, so that it need not be computed again.
            trace: also return the intermediates.

        Raises:
            ValueError: shapes do not fit together, or to this network.
        """
        check_batch(batch, self.in_channels)
        if support is not None and (self.training or support.features[:, :, 0].shape != batch.support_masks.shape):
            raise ValueError("support is for eval mode, and what encode_support gave for this batch's support (shape)")
        if support is None:
            features, query = self.reduce.features(batch, kept_channels)  # F_s, F_q
            support = self.encode_support(batch, features)
        else:
            query = self.reduce.of(batch.query_features[:, None])[:, 0]
        prototype = support.prototypes[:, 0]  # P
        share, selections, matches = self.cycle_comparison(batch, support, query, query_masks, all_matches=trace)
        pseudo_prototype = masked_average(query, share) if self.config.pseudo_prototype else prototype  # P_q
        interaction = self.interaction(prototype, pseudo_prototype, query)  # P', P_q', F_q'
        maps = self.similarity_maps(batch, support, share, interaction)
        fused, levels = self.fusion(interaction.query, interaction.prototype, interaction.pseudo_prototype, maps)
        logits = self.decoder(fused)
        if self.shortcut is not None:
            score = foreground_score(self.deep(batch.query_features), support.frozen[:, :, -self.deep_channels :])
            logits = logits + self.shortcut * torch.stack([-score, score], dim=1)  # as `training_free_logits`
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        auxiliary = self.auxiliary_logits(interaction, support.features) if self.training else None
        if not trace:
            return Output(logits, auxiliary)
        seen = (support.features, query, batch.support_masks, prototype, pseudo_prototype, matches, selections, share)
        return Output(logits, auxiliary, Trace(*seen, interaction, maps, self.map_names(), levels, fused))

    def encode_support(self, batch: EpisodeBatch, features: Tensor | None = None) -> Support:
        """What `forward` takes as `support`, in eval mode; queries are not looked at. `features`: F_s, if at hand.

        For the next query keep the batch and replace `query_features` and `query_labels`: `batch._replace(...)`. That
        the support is this batch's is checked by its shape alone.
        """
        check_batch(batch, self.in_channels)
        features = self.reduce.of(batch.support_features) if features is None else features
        masks = (batch.support_masks, batch.support_background)
        return Support(features, *(support_prototypes(each, *masks) for each in (features, batch.support_features)))

    def cycle_comparison(
        self, batch: EpisodeBatch, known: Support, query: Tensor, query_masks: Tensor | None, *, all_matches: bool
    ) -> tuple[Tensor, list[Selection], list[CycleMatches]]:
        """CCM, shot by shot: each query pixel's share in P_q, averaged over the shots, [B, h, w], and how it came."""
        if not self.config.pseudo_prototype:
            return torch.zeros_like(query[:, 0]), [], []
        support, prototype = known.features, known.prototypes[:, 0]
        if self.config.selection_features == "backbone":
            support, query = self.deep(batch.support_features), self.deep(batch.query_features)
            prototype = known.frozen[:, 0, -self.deep_channels :]
        truth = self._truth(batch, query_masks) if self.config.selection == "oracle" else None
        selections, matches = select_reliable(  # without gradient
            self.config, support, batch.support_masks, query, prototype, truth, all_matches=all_matches
        )
        shares = [selection.weights / selection.weights.sum(dim=1, keepdim=True) for selection in selections]
        share = torch.stack(shares).mean(dim=0).to(known.prototypes.dtype)  # a network in bf16 stays in it
        return share.unflatten(1, batch.cells), selections, matches  # [B, N_q] -> [B, h, w]

    def _truth(self, batch: EpisodeBatch, query_masks: Tensor | None) -> Tensor | None:
        """The oracle's masks at the size of the features, [B, h, w]; None where nothing is known of the queries."""
        if query_masks is None and bool((batch.query_labels != 255).any()):
            query_masks = batch.query_labels == 1
        if query_masks is not None and len(query_masks) != len(batch.query_labels):
            raise ValueError(f"query_masks are {len(query_masks)} for {len(batch.query_labels)} queries; give one each")
        return None if query_masks is None else masks_at(query_masks, batch.cells)

    def similarity_maps(self, batch: EpisodeBatch, support: Support, share: Tensor, interaction: Interaction) -> Tensor:
        """The maps named by `map_names`, [B, n_maps, h, w]: cosines of every query pixel with the prototypes."""
        maps: list[Tensor] = []
        if self.config.comparison != "features":
            background, (prototype, rest) = support.prototypes[:, 1], support.frozen.unbind(dim=1)  # [B, C], [B, D]
            if interaction.weights is not None:  # compared in the same channels as the prototypes
                background = interaction.weights * background
            trio = torch.stack([interaction.prototype, interaction.pseudo_prototype, background], dim=1)  # [B, 3, C]
            maps += _comparison_maps(interaction.query, trio, background=self.config.background)
            pseudo = masked_average(batch.query_features, share) if self.config.pseudo_prototype else prototype
            trio = torch.stack([prototype, pseudo, rest], dim=1)  # [B, 3, D]
            middle = self.in_channels - self.deep_channels
            for stage in (slice(0, middle), slice(middle, self.in_channels)):
                maps += _comparison_maps(
                    batch.query_features[:, stage], trio[:, :, stage], background=self.config.background
                )
        if self.config.prior:
            support_deep, query_deep = self.deep(batch.support_features), self.deep(batch.query_features)
            maps.append(nearest_foreground(support_deep, batch.support_masks, query_deep).to(query_deep.dtype))
        return torch.stack(maps, dim=1) if maps else interaction.query[:, :0]

    def map_names(self) -> tuple[str, ...]:
        """The similarity maps of this configuration, in order."""
        names: list[str] = []
        if self.config.comparison != "features":
            for pair in (("P'", "P_q'"), ("middle P", "middle P_q"), ("deep P", "deep P_q")):
                names += pair
                names += [f"{name} - background" for name in pair] if self.config.background else []
        return (*names, "prior") if self.config.prior else tuple(names)

    def auxiliary_logits(self, interaction: Interaction, support: Tensor) -> Tensor | None:
        """P' segments the query, [B, 2, h, w], or P_q' the support, [B * K, 2, h, w]; None without a branch."""
        if self.auxiliary is None:
            return None
        if self.config.auxiliary == "query":
            return self.auxiliary(interaction.query, interaction.prototype)
        if interaction.weights is not None:  # compared in the same channels as the prototype
            support = interaction.weights[:, None, :, None, None] * support
        pseudo = interaction.pseudo_prototype.repeat_interleave(support.shape[1], dim=0)  # [B, C] -> [B * K, C]
        return self.auxiliary(support.flatten(0, 1), pseudo)

    def deep(self, features: Tensor) -> Tensor:
        """The deep stage of backbone features, [..., D, h, w] -> [..., deep_channels, h, w]."""
        return features[..., self.in_channels - self.deep_channels :, :, :]


def training_free_logits(batch: EpisodeBatch, deep_channels: int) -> Tensor:
    """The score of the nearest prototype on the deep frozen features, as logits [B, 2, h, w]."""
    if not 0 < deep_channels <= batch.query_features.shape[1]:
        raise ValueError(f"deep_channels is {deep_channels}, of {batch.query_features.shape[1]}; give the backbone's")
    support, query = batch.support_features[:, :, -deep_channels:], batch.query_features[:, -deep_channels:]
    score = foreground_score(query, support_prototypes(support, batch.support_masks, batch.support_background))
    return torch.stack([-score, score], dim=1)


def _comparison_maps(query: Tensor, vectors: Tensor, *, background: bool) -> list[Tensor]:
    """Cosine maps of a query [B, C, h, w] with P, P_q and the background's prototype [B, 3, C], each [B, h, w] [ours].

    One map a prototype, minus its mean over the query; then, with `background`, one more each: the cosine with the
    prototype minus that with the background. All times _MAP_SCALE.
    """
    cosines = _MAP_SCALE * cosine_maps(query, vectors)
    pair = cosines[:, :2]
    maps = list((pair - pair.mean(dim=(2, 3), keepdim=True)).unbind(dim=1))
    return maps + list((pair - cosines[:, 2:]).unbind(dim=1)) if background else maps
