"""What every trained network shares: the tensors it takes and gives, their checks, the reduction of the features."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.cycle_comparison import Selection
from dpnet_lite.model.matching import CycleMatches
from dpnet_lite.model.prototype_interaction import Interaction


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
    interaction: Interaction  # P', P_q', F_q', A, gate, u
    maps: Tensor  # similarity maps given to the fusion, [B, n_maps, h, w]
    map_names: tuple[str, ...]  # what each of them is
    levels: list[Tensor]  # X_b, or Z_d and Z_g, finest scale first
    fused: Tensor  # F_q^final, [B, C, h, w]


class Output(NamedTuple):
    logits: Tensor  # [B, 2, H, W], background and foreground
    auxiliary_logits: Tensor | None  # training only: [B * K, 2, h, w] for the support, [B, 2, h, w] for the query
    trace: Trace | None


class EpisodeNetwork(nn.Module):
    """A network on backbone features of `in_channels`, of which the last `deep_channels` are deep."""

    def __init__(self, config: ModelConfig, in_channels: int, deep_channels: int) -> None:
        super().__init__()
        self.config, self.in_channels, self.deep_channels = config, in_channels, deep_channels
        self.reduce = nn.Sequential(nn.Conv2d(in_channels, config.channels, 1), nn.ReLU())
        self.kept_channels: Tensor | None = None  # 1 or 0, [B, 1, C, 1, 1]: what `draw_kept_channels` drew

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
            trace: also return the intermediates, where the network has them.
        """
        raise NotImplementedError

    def check(
        self,
        support_features: Tensor,
        support_masks: Tensor,
        query_features: Tensor,
        query_masks: Tensor | None,
    ) -> None:
        """ValueError where the shapes do not fit together."""
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

    def deep(self, features: Tensor) -> Tensor:
        """The deep stage of backbone features, [..., D, h, w] -> [..., deep_channels, h, w]."""
        return features[..., self.in_channels - self.deep_channels :, :, :]

    def middle(self, features: Tensor) -> Tensor:
        """The other stage."""
        return features[..., : self.in_channels - self.deep_channels, :, :]

    def reduced(self, support_features: Tensor, query_features: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced features F_s [B, K, C, h, w] and F_q [B, C, h, w].

        In training, channels are dropped: the same ones in all images of an episode, which are to be compared. They
        are those of `draw_kept_channels`, or drawn here where it was not called.
        """
        both = torch.cat([support_features, query_features[:, None]], dim=1)  # [B, K + 1, D, h, w]
        images = both.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # [B * (K + 1), D, h, w]
        reduced = self.reduce(images).unflatten(0, both.shape[:2])
        if self.training and self.config.dropout > 0:
            if self.kept_channels is None:
                self.draw_kept_channels(len(reduced))
            assert self.kept_channels is not None
            keep, self.kept_channels = self.kept_channels.to(reduced.dtype), None
            reduced = reduced * keep / (1.0 - self.config.dropout)
        return reduced[:, :-1], reduced[:, -1]

    def draw_kept_channels(self, batch_size: int, *, first: int = 0, whole: int | None = None) -> None:
        """Draw which channels the episodes of the next batch keep in training, from PyTorch's global state.

        They are drawn for the whole step that the batch is a part of, so that an episode loses the same channels
        however a step is divided, and outside `forward`, since compiled code draws other random numbers.

        Args:
            batch_size: B, episodes of the next batch.
            first: place of its first episode in the step.
            whole: episodes of the step; the batch is all of it if not given.
        """
        if self.config.dropout == 0:
            return
        weight = next(self.reduce.parameters())
        whole = batch_size if whole is None else whole
        share = weight.new_full((whole, 1, self.config.channels, 1, 1), 1.0 - self.config.dropout)
        self.kept_channels = share.bernoulli()[first : first + batch_size]
