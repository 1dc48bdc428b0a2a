"""What a training step minimises, and how large the step is."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as functional
from torch import Tensor

from .config import ModelConfig, TrainingConfig
from .features import EpisodeBatch
from .model.head import Output
from .model.prototypes import masks_at


def episode_loss(
    output: Output, batch: EpisodeBatch, model: ModelConfig, config: TrainingConfig
) -> tuple[Tensor, Tensor]:
    """CE(main) + lambda CE(auxiliary) and CE(main) alone [ours]; 255 is ignored.

    The auxiliary branch sees masks at feature size; a cell counts as foreground from one half on.
    """
    weight = None
    if config.foreground_weight != 1.0:
        weight = output.logits.new_tensor([1.0, config.foreground_weight])
    main = functional.cross_entropy(output.logits, batch.query_labels, weight=weight, ignore_index=255)
    logits = output.auxiliary_logits
    if logits is None:
        return main, main
    if model.auxiliary == "query":
        shares = masks_at(batch.query_labels == 1, (logits.shape[2], logits.shape[3]))
    else:
        shares = batch.support_masks.flatten(0, 1)  # [B, K, h, w] -> [B * K, h, w]
    auxiliary = functional.cross_entropy(logits, (shares >= 0.5).long(), weight=weight)
    return main + config.auxiliary_weight * auxiliary, main


def learning_rate(step: int, config: TrainingConfig) -> float:
    """The rate of a step: linear warm-up, then half a cosine or (1 - t)^0.9 down to 0."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    share = step / config.steps
    fall = 0.5 * (1 + np.cos(np.pi * share)) if config.schedule == "cosine" else (1 - share) ** 0.9
    return float(config.learning_rate * warm * fall)
