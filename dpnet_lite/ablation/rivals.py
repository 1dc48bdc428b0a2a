"""Rivals from outside the paper, small: they decide by the cosine with prototypes or pixels, without a decoder.

Those that are trained are reconstructions of an idea on our frozen features, not the published networks: the reduction
is DPNet's, the schedule and the episodes too, so that a table compares ideas and not backbones. Others need no
training: rules on the frozen features alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.checkpoints import Networks
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.cycle_comparison import membership, top_pixels
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch, Output, Reduction, check_batch
from dpnet_lite.model.matching import best_cosine, directions
from dpnet_lite.model.prototypes import cosine_maps, masked_average, support_prototypes
from dpnet_lite.scoring import Segmenter, training_free_segmenter

_ALIGNMENT_SCALE = 20.0  # factor on cosines before the softmax [precedent: PANet]
_SUPPORT_SCALE = 10.0  # the same in SSP [precedent]
_FOREGROUND_THRESHOLD, _BACKGROUND_THRESHOLD = 0.7, 0.6  # probabilities from which a query pixel is trusted [SSP]
_TRUSTED_PIXELS = 12  # most probable pixels, where none reaches the threshold [SSP]


class _MetricNetwork(nn.Module):
    """Common part: shapes checked, features reduced, prototypes of the support's foreground and background."""

    def __init__(self, config: ModelConfig, in_channels: int, deep_channels: int) -> None:
        super().__init__()
        check_network(config)
        self.config, self.in_channels, self.deep_channels = config, in_channels, deep_channels
        self.reduce = Reduction(in_channels, config.channels, config.dropout)

    def forward(
        self,
        batch: EpisodeBatch,
        size: tuple[int, int],
        *,
        kept_channels: Tensor | None = None,
        trace: bool = False,
    ) -> Output:
        """Segment the queries; the arguments are those of `DPNet`. There is no trace."""
        check_batch(batch, self.in_channels)
        if trace:
            raise ValueError(f"the network {self.config.network!r} keeps no trace; only 'dpnet' does")
        support, query = self.reduce.features(batch, kept_channels)
        prototypes = support_prototypes(support, batch.support_background, batch.support_masks)
        logits, auxiliary = self.decide(support, query, prototypes)
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        return Output(logits, auxiliary if self.training and self.config.auxiliary != "none" else None)

    def decide(self, support: Tensor, query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, 2, h, w] and auxiliary logits of F_s [B, K, C, h, w], F_q [B, C, h, w], prototypes [B, 2, C]."""
        raise NotImplementedError


class _PrototypeAlignment(_MetricNetwork):
    """After PANet (ICCV 2019): the nearer prototype decides; in training the prediction must segment the support back.

    Precedent: cosines times 20, the alignment loss through the predicted mask. Ours: the frozen backbone.
    """

    def decide(self, support: Tensor, query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        logits = _ALIGNMENT_SCALE * cosine_maps(query, prototypes)
        predicted = logits.detach().argmax(dim=1)  # [B, h, w]
        back = torch.stack([masked_average(query, (predicted == k).float()) for k in (0, 1)], dim=1)  # [B, 2, C]
        shots = support.shape[1]
        auxiliary = _ALIGNMENT_SCALE * cosine_maps(support.flatten(0, 1), back.repeat_interleave(shots, dim=0))
        return logits, auxiliary


class _SelfSupport(_MetricNetwork):
    """After SSP (ECCV 2022): the query pixels that the support's prototypes are sure of make prototypes of their own.

    Precedent: thresholds, the background prototype of every pixel by attention, the mixing weights, cosines times 10.
    Left out: SSP's second round and its loss on the support alone. The auxiliary logits are the first prediction.
    """

    def decide(self, support: Tensor, query: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        first = _SUPPORT_SCALE * cosine_maps(query, prototypes)
        return _SUPPORT_SCALE * _self_support_cosines(query, prototypes, first.softmax(dim=1)), first


NETWORKS: Networks = {"dpnet": DPNet, "panet": _PrototypeAlignment, "ssp": _SelfSupport}
_AUXILIARY = {"panet": "support", "ssp": "query"}  # the image that a rival's auxiliary loss is on


def check_network(config: ModelConfig, where: str = "") -> None:
    """ValueError, beginning with `where`, for a network that is none of `NETWORKS`, or an auxiliary loss it lacks."""
    prefix = f"{where}: " if where else ""
    if config.network not in NETWORKS:
        raise ValueError(f"{prefix}network is {config.network!r}; choose one of {', '.join(NETWORKS)}")
    own = _AUXILIARY.get(config.network, config.auxiliary)
    if config.auxiliary not in (own, "none"):
        raise ValueError(
            f"{prefix}auxiliary is {config.auxiliary!r}, but the network {config.network!r} has {own!r} or 'none'"
        )


def _self_support_cosines(query: Tensor, prototypes: Tensor, probabilities: Tensor) -> Tensor:
    """Cosines with prototypes that the query's own sure pixels have joined, [B, 2, h, w].

    Args:
        query: float [B, C, h, w].
        prototypes: float [B, 2, C], background and foreground, of the support.
        probabilities: float [B, 2, h, w], of the first prediction.
    """
    sure = [_trusted(probabilities[:, k], t) for k, t in enumerate((_BACKGROUND_THRESHOLD, _FOREGROUND_THRESHOLD))]
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


def _trusted(probability: Tensor, threshold: float) -> Tensor:
    """1 where a probability [B, h, w] is above the threshold, 0 elsewhere; the 12 most probable where none is."""
    above = probability > threshold
    most = top_pixels(probability.flatten(1), _TRUSTED_PIXELS).unflatten(1, probability.shape[-2:])
    return torch.where(above.any(dim=(1, 2), keepdim=True), above, most).float()


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
            prototypes = support_prototypes(support, batch.support_background, batch.support_masks)
            first = _SUPPORT_SCALE * cosine_maps(query, prototypes)
            return _self_support_cosines(query, prototypes, first.softmax(dim=1))
        return _nearest_pixel(support, batch.support_masks, query)

    return segment


def _nearest_pixel(support: Tensor, masks: Tensor, query: Tensor) -> Tensor:
    """The best cosine with a support pixel outside the mask, and inside: [B, 2, h, w].

    Support features are [B, K, D, h, w], masks [B, K, h, w], query features [B, D, h, w].
    """
    pixels = directions(support.transpose(1, 2).flatten(2, 3))  # [B, K, D, h, w] -> [B, K * h * w, D]
    mask = membership(masks.flatten(1))  # [B, K, h, w] -> [B, K * h * w]
    both = best_cosine(directions(query), pixels, torch.stack([~mask, mask], dim=1))  # [B, 2, N]
    return both.unflatten(2, query.shape[-2:])
