"""Checks of notebook 05: scales, and from logits to a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.exercises import ask, close, require, require_tensor, right
from dpnet_lite.scoring import predicted_mask


def check_pyramid(function: Callable[[Tensor, Sequence[float]], Sequence[Tensor]]) -> str:
    """5.1: function(features [C, h, w], scales) -> one pooled tensor per scale, [C, round(s h), round(s w)].

    Raises:
        Wrong: a level has another size, or is not the mean of what it covers.
    """
    generator = torch.Generator().manual_seed(0)
    for height, width in ((24, 24), (8, 16)):
        features, scales = torch.randn(3, height, width, generator=generator), (1.0, 0.5, 0.25, 0.125)
        answer = ask(function, features.clone(), scales)
        require(isinstance(answer, list | tuple) and len(answer) == 4, "return a list with one tensor per scale")
        for scale, given in zip(scales, answer, strict=True):
            size = (round(scale * height), round(scale * width))
            level = require_tensor(given, (3, *size), f"the level of scale {scale:g}")
            wanted = functional.adaptive_avg_pool2d(features[None], size)[0]
            step = round(1 / scale)
            picked = features[:, ::step, ::step]
            largest = functional.adaptive_max_pool2d(features[None], size)[0]
            require(
                scale == 1 or not close(level, picked),
                f"scale {scale:g} picks single cells; take the mean of each block",
            )
            require(scale == 1 or not close(level, largest), f"scale {scale:g} takes the largest; take the mean")
            require(close(level, wanted), f"scale {scale:g} differs from the mean of each block of cells")
    return right("5.1", "every level is the mean of the cells that it covers")


def check_mask(function: Callable[[Tensor, tuple[int, int]], Tensor]) -> str:
    """5.2: function(logits [2, h, w], (H, W)) -> mask [H, W], 1 where the foreground's logit is larger.

    Raises:
        Wrong: the mask is not that of resized logits.
    """
    generator = torch.Generator().manual_seed(1)
    for size in ((40, 40), (37, 50)):
        logits = torch.randn(2, 10, 10, generator=generator)
        given = require_tensor(ask(function, logits.clone(), size), size, "my_mask")
        require(bool(((given == 0) | (given == 1)).all()), "a mask holds 0 and 1 and nothing else")
        given = given.long()
        wanted = predicted_mask(logits, size)
        early = functional.interpolate(logits.argmax(dim=0)[None, None].float(), size)[0, 0].long()
        nearest = functional.interpolate(logits[None], size)[0].argmax(dim=0)
        blocky = torch.equal(given, early) or torch.equal(given, nearest)
        require(not blocky, "the mask has steps as large as a cell: resize the logits bilinearly, then decide")
        require(not torch.equal(given, 1 - wanted), "foreground is logit 1, background logit 0; yours are exchanged")
        smooth = functional.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
        soft = functional.interpolate(logits.softmax(dim=0)[None], size, mode="bilinear", align_corners=False)[0]
        alone = torch.equal(given, (smooth[1] > 0).long())
        require(not alone, "you ask whether one logit is above 0: compare the foreground's with the background's")
        require(not torch.equal(given, soft.argmax(dim=0)), "resize the logits, not the probabilities")
        different = int((given != wanted).sum())
        # Corners may be aligned or not; the package does not align them, as PyTorch's default has it.
        require(different == 0, f"{different} of {wanted.numel()} pixels differ (mode='bilinear', align_corners=False)")
    return right("5.2", "the logits are resized, not the mask")
