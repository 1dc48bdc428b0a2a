"""Checks of notebook 05: scales, and from logits to a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.exercises import ask, compare, require, require_tensor, right
from dpnet_lite.scoring import predicted_mask


def check_pyramid(function: Callable[[Tensor, Sequence[float]], Sequence[Tensor]]) -> str:
    """5.1: function(features [C, h, w], scales) -> one pooled tensor per scale, [C, round(s h), round(s w)]."""
    generator = torch.Generator().manual_seed(0)
    for height, width in ((24, 24), (8, 16)):
        features, scales = torch.randn(3, height, width, generator=generator), (1.0, 0.5, 0.25, 0.125)
        answer = ask(function, features, scales)
        require(isinstance(answer, list | tuple) and len(answer) == 4, "return a list with one tensor per scale")
        for scale, given in zip(scales, answer, strict=True):
            size, step = (round(scale * height), round(scale * width)), round(1 / scale)
            level = require_tensor(given, (3, *size), f"the level of scale {scale:g}")
            mistakes = {
                f"scale {scale:g} picks single cells; take the mean of each block": features[:, ::step, ::step],
                f"scale {scale:g} takes the largest; take the mean": functional.adaptive_max_pool2d(features, size),
            }
            otherwise = f"scale {scale:g} differs from the mean of each block of cells"
            compare(level, functional.adaptive_avg_pool2d(features, size), mistakes, otherwise)
    return right("5.1", "every level is the mean of the cells that it covers")


def check_mask(function: Callable[[Tensor, tuple[int, int]], Tensor]) -> str:
    """5.2: function(logits [2, h, w], (H, W)) -> mask [H, W], 1 where the foreground's logit is larger."""
    generator = torch.Generator().manual_seed(1)
    for size in ((40, 40), (37, 50)):
        logits = torch.randn(2, 10, 10, generator=generator)
        given = require_tensor(ask(function, logits, size), size, "my_mask")
        require(bool(((given == 0) | (given == 1)).all()), "a mask holds 0 and 1 and nothing else")
        wanted = predicted_mask(logits, size)
        different = int((given.long() != wanted).sum())
        # Corners may be aligned or not; the package does not align them, as PyTorch's default has it.
        otherwise = f"{different} of {wanted.numel()} pixels differ (mode='bilinear', align_corners=False)"
        compare(given, wanted, _wrong_masks(logits, size), otherwise)
    return right("5.2", "the logits are resized, not the mask")


def _wrong_masks(logits: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Typical wrong answers by what to say to each."""

    def smooth(values: Tensor) -> Tensor:
        return functional.interpolate(values[None], size, mode="bilinear", align_corners=False)[0]

    early = functional.interpolate(logits.argmax(dim=0)[None, None].float(), size)[0, 0]
    return {
        "the mask has steps as large as a cell: resize the logits bilinearly, then decide": early,
        "foreground is logit 1, background logit 0; yours are exchanged": 1 - predicted_mask(logits, size),
        "you ask whether one logit is above 0: compare the foreground's with the background's": smooth(logits)[1] > 0,
        "resize the logits, not the probabilities": smooth(logits.softmax(dim=0)).argmax(dim=0),
    }
