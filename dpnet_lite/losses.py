"""What a training step minimises, and how large the step is."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as functional
from torch import Tensor

from .config import ModelConfig, TrainingConfig
from .features import EpisodeBatch
from .model.base import Output
from .model.prototypes import masks_at


def episode_loss(
    output: Output, batch: EpisodeBatch, model: ModelConfig, config: TrainingConfig
) -> tuple[Tensor, Tensor]:
    """CE(main) + lambda CE(auxiliary) and CE(main) alone [ours]; 255 is ignored.

    The auxiliary branch sees labels at feature size, by `cell_labels`.
    """
    weight = None
    if config.foreground_weight != 1.0:
        weight = output.logits.new_tensor([1.0, config.foreground_weight])
    main = functional.cross_entropy(output.logits, batch.query_labels, weight=weight, ignore_index=255)
    logits = output.auxiliary_logits
    if logits is None:
        return main, main
    if model.auxiliary == "query":
        cells = (logits.shape[2], logits.shape[3])
        labels = cell_labels(masks_at(batch.query_labels == 1, cells), masks_at(batch.query_labels == 0, cells))
    else:  # [B, K, h, w] -> [B * K, h, w]
        labels = cell_labels(batch.support_masks.flatten(0, 1), batch.support_background.flatten(0, 1))
    auxiliary = functional.cross_entropy(logits, labels, weight=weight, ignore_index=255)
    return main + config.auxiliary_weight * auxiliary, main


def cell_labels(foreground: Tensor, background: Tensor) -> Tensor:
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
