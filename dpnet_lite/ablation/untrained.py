"""Rivals that need no training: rules on the frozen features alone."""

from __future__ import annotations

import torch
from torch import Tensor

from dpnet_lite.ablation.rivals import SUPPORT_SCALE, self_support_cosines
from dpnet_lite.features import EpisodeBatch
from dpnet_lite.model.cycle_comparison import membership
from dpnet_lite.model.matching import cycle_matches
from dpnet_lite.model.prototypes import cosine_maps, masked_average
from dpnet_lite.scoring import Segmenter, training_free_segmenter


def untrained_segmenter(method: str, deep_channels: int) -> Segmenter:
    """A rule by its name in a study.

    "prototypes": the nearer of two support prototypes [precedent: PANet]. "self-support": the same after the query's
    sure pixels have joined the prototypes [precedent: SSP]. "nearest pixel": the class of the nearest support pixel.
    """
    if method == "prototypes":
        return training_free_segmenter(deep_channels)

    def segment(batch: EpisodeBatch) -> Tensor:
        support, query = batch.support_features[:, :, -deep_channels:], batch.query_features[:, -deep_channels:]
        if method == "self-support":
            return _self_support(support, batch.support_masks, batch.support_background, query)
        return _nearest_pixel(support, batch.support_masks, query)

    return segment


def _self_support(support: Tensor, masks: Tensor, rest: Tensor, query: Tensor) -> Tensor:
    """Logits [B, 2, h, w] of features [B, K, D, h, w] and [B, D, h, w], masks [B, K, h, w]."""
    prototypes = torch.stack([masked_average(support, part).mean(dim=1) for part in (rest, masks)], dim=1)  # [B, 2, D]
    first = SUPPORT_SCALE * cosine_maps(query, prototypes)
    return self_support_cosines(query, prototypes, first.softmax(dim=1))


def _nearest_pixel(support: Tensor, masks: Tensor, query: Tensor) -> Tensor:
    """The same shapes; the best cosine with a support pixel outside the mask, and inside."""
    pixels = support.permute(0, 1, 3, 4, 2).flatten(1, 3)  # [B, K, D, h, w] -> [B, K * h * w, D]
    found = cycle_matches(pixels, query.flatten(2).transpose(1, 2), membership(masks.flatten(1)))
    assert found.foreground_similarity is not None and found.background_similarity is not None
    both = torch.stack([found.background_similarity, found.foreground_similarity], dim=1)  # [B, 2, N]
    return both.unflatten(2, query.shape[-2:])
