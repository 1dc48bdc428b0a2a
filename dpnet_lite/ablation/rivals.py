"""Two trained rivals from outside the paper, small: they decide by the cosine with prototypes, without a decoder.

Both are reconstructions of an idea on our frozen features, not the published networks: the reduction is DPNet's, the
schedule and the episodes too, so that a table compares ideas and not backbones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.model.base import EpisodeNetwork, Output
from dpnet_lite.model.cycle_comparison import top_pixels
from dpnet_lite.model.prototypes import cosine_maps, masked_average, masks_at

ALIGNMENT_SCALE = 20.0  # factor on cosines before the softmax [precedent: PANet]
SUPPORT_SCALE = 10.0  # the same in SSP [precedent]
FOREGROUND_THRESHOLD, BACKGROUND_THRESHOLD = 0.7, 0.6  # probabilities from which a query pixel is trusted [SSP]
TRUSTED_PIXELS = 12  # most probable pixels, where none reaches the threshold [SSP]


class MetricNetwork(EpisodeNetwork):
    """Common part: shapes checked, features reduced, prototypes of the support's foreground and background."""

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
        """Segment the query; the arguments are those of `EpisodeNetwork`. There is no trace."""
        self.check(support_features, support_masks, query_features, query_masks)
        if trace:
            raise ValueError(f"the network {self.config.network!r} keeps no trace; only 'dpnet' does")
        cells = (query_features.shape[-2], query_features.shape[-1])
        masks = masks_at(support_masks, cells) if support_masks.shape[-2:] != cells else support_masks
        rest = 1 - masks if support_background is None else masks_at(support_background, cells)
        support, query = self.reduced(support_features, query_features)
        # [B, K, C], [B, K, C] -> [B, 2, C]: background, foreground
        prototypes = torch.stack([masked_average(support, part).mean(dim=1) for part in (rest, masks)], dim=1)
        logits, auxiliary = self.decide(support, query, prototypes)
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return Output(logits, auxiliary if self.training and self.config.auxiliary != "none" else None, None)

    def decide(self, support: Tensor, query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 2, h, w] and auxiliary logits of F_s [B, K, C, h, w], F_q [B, C, h, w], prototypes [B, 2, C]."""
        raise NotImplementedError


class PrototypeAlignment(MetricNetwork):
    """After PANet (ICCV 2019): the nearer prototype decides; in training the prediction must segment the support back.

    Precedent: cosines times 20, the alignment loss through the predicted mask. Ours: the frozen backbone.
    """

    def decide(self, support: Tensor, query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        logits = ALIGNMENT_SCALE * cosine_maps(query, prototypes)
        predicted = logits.detach().argmax(dim=1)  # [B, h, w]
        back = torch.stack([masked_average(query, (predicted == k).float()) for k in (0, 1)], dim=1)  # [B, 2, C]
        shots = support.shape[1]
        auxiliary = ALIGNMENT_SCALE * cosine_maps(support.flatten(0, 1), back.repeat_interleave(shots, dim=0))
        return logits, auxiliary


class SelfSupport(MetricNetwork):
    """After SSP (ECCV 2022): the query pixels that the support's prototypes are sure of make prototypes of their own.

    Precedent: thresholds, the background prototype of every pixel by attention, the mixing weights, cosines times 10.
    Left out: SSP's second round and its loss on the support alone. The auxiliary logits are the first prediction.
    """

    def decide(self, support: Tensor, query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        first = SUPPORT_SCALE * cosine_maps(query, prototypes)
        return SUPPORT_SCALE * self_support_cosines(query, prototypes, first.softmax(dim=1)), first


def self_support_cosines(query: Tensor, prototypes: Tensor, probabilities: Tensor) -> Tensor:
    """Cosines with prototypes that the query's own sure pixels have joined, [B, 2, h, w].

    Args:
        query: float [B, C, h, w].
        prototypes: float [B, 2, C], background and foreground, of the support.
        probabilities: float [B, 2, h, w], of the first prediction.
    """
    sure = [trusted(probabilities[:, k], t) for k, t in enumerate((BACKGROUND_THRESHOLD, FOREGROUND_THRESHOLD))]
    own_background, own_foreground = (masked_average(query, weights) for weights in sure)  # [B, C]
    foreground = 0.5 * prototypes[:, 1] + 0.5 * own_foreground
    # Every pixel attends to the sure background pixels and has a background prototype of its own.
    pixels = query.flatten(2)  # [B, C, h, w] -> [B, C, N]
    directions = functional.normalize(pixels, dim=1)
    likeness = 2 * directions.transpose(1, 2) @ directions  # [B, N, N], a row per pixel
    attention = likeness.masked_fill(sure[0].flatten(1)[:, None] == 0, float("-inf")).softmax(dim=2)
    adaptive = (pixels @ attention.transpose(1, 2)).unflatten(2, query.shape[-2:])  # [B, C, N] -> [B, C, h, w]
    background = 0.3 * own_background[..., None, None] + 0.7 * adaptive
    return torch.stack(
        [functional.cosine_similarity(query, background, dim=1), cosine_maps(query, foreground[:, None])[:, 0]], dim=1
    )


def trusted(probability: Tensor, threshold: float) -> Tensor:
    """1 where a probability [B, h, w] is above the threshold, 0 elsewhere; the 12 most probable where none is."""
    above = probability > threshold
    most = top_pixels(probability.flatten(1), TRUSTED_PIXELS).unflatten(1, probability.shape[-2:])
    return torch.where(above.any(dim=(1, 2), keepdim=True), above, most).float()
