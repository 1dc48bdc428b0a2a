"""What a training step minimises, and how large the step is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.config import TrainingConfig
from dpnet_lite.model.episode_batch import EpisodeBatch, Output
from dpnet_lite.model.prototypes import masks_at

_SMALLEST_WEIGHT = 0.01  # of a pixel, by the range of TrainingConfig.foreground_weight


class Targets(NamedTuple):
    """What the two branches are to say of a batch; 255 is ignored."""

    main: Tensor  # int64 [B, H, W]
    auxiliary: Tensor | None  # int64 [B, h, w] for the query or [B * K, h, w] for the support, by `_cell_labels`


def episode_targets(batch: EpisodeBatch, auxiliary: str) -> Targets:
    """The targets of a batch; `auxiliary` is the setting of `ModelConfig`. The auxiliary branch works on cells."""
    if auxiliary == "none":
        return Targets(batch.query_labels, None)
    if auxiliary == "query":
        parts = [masks_at(batch.query_labels == value, batch.cells) for value in (1, 0)]
    else:  # [B, K, h, w] -> [B * K, h, w]
        parts = [batch.support_masks.flatten(0, 1), batch.support_background.flatten(0, 1)]
    return Targets(batch.query_labels, _cell_labels(*parts))


def target_weights(targets: Sequence[Targets], foreground_weight: float) -> Tensor:
    """Sums of the weights of all pixels that count, main and auxiliary, and the number of episodes, float64 [3].

    A mean over a step that several processes share, or take in parts, divides by the sum over all of them.
    """
    device = targets[0].main.device
    sums = torch.zeros(3, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)  # MPS has none
    for target in targets:
        sums[2] += len(target.main)
        for branch, labels in enumerate(target):
            if labels is not None:
                foreground = (labels == 1).sum()
                sums[branch] += foreground_weight * foreground + (labels == 0).sum()
    return sums


def episode_loss(
    output: Output, targets: Targets, config: TrainingConfig, totals: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """CE(main) + lambda CE(auxiliary) + mu (1 - IoU(main)) and CE(main) alone [ours]; 255 is ignored.

    Every term is a sum over pixels, or episodes, divided by the step's own total (`target_weights`): a step may come in
    parts and from several processes.

    Args:
        output: of the network in training.
        targets: of the same episodes, by `episode_targets`.
        config: gives lambda, mu and the weight of foreground pixels.
        totals: float64 [3], `target_weights` of the whole step; by default of `targets`: a mean over these episodes.
    """
    if totals is None:
        totals = target_weights([targets], config.foreground_weight)
    main = _cross_entropy(output.logits, targets.main, config.foreground_weight, totals[0])
    loss, logits = main, output.auxiliary_logits
    if config.overlap_weight:
        loss = loss + config.overlap_weight * _overlap_loss(output.logits, targets.main).sum() / totals[2].to(
            main.dtype
        )
    if logits is not None:
        assert targets.auxiliary is not None, "the network has an auxiliary branch, so its targets were asked for"
        auxiliary = _cross_entropy(logits, targets.auxiliary, config.foreground_weight, totals[1])
        loss = loss + config.auxiliary_weight * auxiliary
    return loss, main


def _overlap_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 - IoU of each episode [B], of probabilities p and labels y: 1 - (sum p y + 1) / (sum p + sum y - sum p y + 1).

    Cross-entropy counts pixels and not what is asked for, the overlap; here every episode counts alike, be its object
    small or large (the soft Jaccard index is known, its use here is our choice).
    """
    truth, counts = (labels == 1).flatten(1), (labels != 255).flatten(1)  # [B, H, W] -> [B, H * W]
    found = logits.float().softmax(dim=1)[:, 1].flatten(1) * counts
    both = (found * truth).sum(dim=1)
    return 1 - (both + 1) / (found.sum(dim=1) + truth.sum(dim=1) - both + 1)


def _cross_entropy(logits: Tensor, labels: Tensor, foreground_weight: float, total: Tensor) -> Tensor:
    """Sum over the pixels that count, divided by `total`; 0 where nothing counts."""
    weight = None if foreground_weight == 1.0 else logits.new_tensor([1.0, foreground_weight])
    loss = functional.cross_entropy(logits, labels, weight=weight, ignore_index=255, reduction="sum")
    return loss / total.clamp(min=_SMALLEST_WEIGHT).to(loss.dtype)


def _cell_labels(foreground: Tensor, background: Tensor) -> Tensor:
    """Labels of cells from their shares of foreground and background, float [..., h, w] -> int64 0, 1 or 255.

    255 where more than half of a cell is ignored; else foreground where it is at least the background (ours).
    """
    labels = (foreground >= background).long()
    return labels.masked_fill(foreground + background < 0.5, 255)


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The rate of a step: linear warm-up, then half a cosine or (1 - t)^0.9 down to 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    share = step / config.steps
    fall = 0.5 * (1 + np.cos(np.pi * share)) if config.schedule == "cosine" else (1 - share) ** 0.9
    return float(config.learning_rate * warm * fall)
