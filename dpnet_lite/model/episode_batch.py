"""What every few-shot network here takes and gives: a batch of episodes, its output, the reduction of the features."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class EpisodeBatch(NamedTuple):
    """B episodes of K shots on the features of a frozen backbone, at whose size the support's masks are."""

    support_features: Tensor  # float32 [B, K, D, h, w]
    support_masks: Tensor  # float32 [B, K, h, w], share of foreground in [0, 1]
    support_background: Tensor  # float32 [B, K, h, w], share of background; what is left is ignored (255)
    query_features: Tensor  # float32 [B, D, h, w]
    query_labels: Tensor  # int64 [B, S, S]: 0, 1 or 255 (ignored, or unknown)

    def to(self, device: str | torch.device, dtype: torch.dtype | None = None) -> EpisodeBatch:
        """The same batch on a device, its features and masks in another dtype where one is given."""
        return EpisodeBatch(*(tensor.to(device, dtype if tensor.is_floating_point() else None) for tensor in self))

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the features."""
        return self.query_features.shape[-2], self.query_features.shape[-1]


class Output(NamedTuple):
    """What a network says of a batch."""

    logits: Tensor  # [B, 2, H, W], background and foreground
    auxiliary_logits: Tensor | None = None  # training only: [B * K, 2, h, w] of the support, [B, 2, h, w] of the query
    trace: Any = None  # the network's intermediates, where asked for and kept


def check_batch(batch: EpisodeBatch, in_channels: int) -> None:
    """ValueError where the shapes of a batch do not fit together, or not to a network on `in_channels` = D."""
    support, masks, rest, query, labels = batch
    shapes = f"{list(support.shape)}, {list(masks.shape)}, {list(query.shape)}"
    if support.ndim != 5 or masks.ndim != 4 or query.ndim != 4:
        raise ValueError(f"shapes are {shapes}; give [B, K, D, h, w], [B, K, h, w] and [B, D, h, w]")
    if support.shape[:2] != masks.shape[:2] or support.shape[1] < 1:
        raise ValueError(f"shapes are {shapes}; features and masks of the support need the same B and K >= 1")
    if support.shape[2] != in_channels or query.shape[1] != in_channels:
        raise ValueError(f"shapes are {shapes}; the head was built for D = {in_channels}")
    sizes = {support.shape[3:], masks.shape[2:], rest.shape[2:], query.shape[2:]}
    if len({len(support), len(query), len(labels)}) > 1 or rest.shape[:2] != masks.shape[:2] or len(sizes) > 1:
        raise ValueError(f"shapes are {shapes}; features and masks need the same B, h and w")


class Reduction(nn.Sequential):
    """Backbone features to C channels by a 1x1 convolution and ReLU, F_s and F_q alike [ours].

    In training, channels are dropped: the same ones in all images of an episode, which are to be compared.
    """

    def __init__(self, in_channels: int, channels: int, dropout: float) -> None:
        super().__init__(nn.Conv2d(in_channels, channels, 1), nn.ReLU())
        self.channels, self.dropout = channels, dropout

    def features(self, batch: EpisodeBatch, kept_channels: Tensor | None) -> tuple[Tensor, Tensor]:
        """F_s [B, K, C, h, w] and F_q [B, C, h, w]; `kept_channels` by `draw_kept`, drawn here if not given."""
        if kept_channels is None and self.training and self.dropout > 0:
            kept_channels = self.draw_kept(len(batch.query_features))
        both = (batch.support_features, batch.query_features[:, None])  # apart: joining them would copy both
        support, query = (self.of(images, kept_channels) for images in both)
        return support, query[:, 0]

    def of(self, images: Tensor, kept_channels: Tensor | None = None) -> Tensor:
        """Features of n images an episode, [B, n, D, h, w] -> [B, n, C, h, w]."""
        flat = images.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # [B * n, D, h, w]
        reduced: Tensor = self(flat).unflatten(0, images.shape[:2])  # [B * n, C, h, w] -> [B, n, C, h, w]
        if not self.training or self.dropout == 0 or kept_channels is None:
            return reduced
        return reduced * kept_channels.to(reduced.dtype) / (1.0 - self.dropout)

    def draw_kept(self, n_episodes: int) -> Tensor:
        """Which channels each episode keeps, from PyTorch's global random state: 1 or 0, float [B, 1, C, 1, 1]."""
        weight = next(self.parameters())
        return weight.new_full((n_episodes, 1, self.channels, 1, 1), 1.0 - self.dropout).bernoulli()
