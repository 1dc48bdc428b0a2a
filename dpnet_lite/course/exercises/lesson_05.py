"""Checks of notebook 05: comparison maps, and from logits to a mask."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.exercises import ask, close, compare, require, require_tensor, right
from dpnet_lite.scoring import predicted_mask


def check_maps(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """5.1: function(query [C, h, w], prototype [C], background [C]) -> the two comparison maps [2, h, w]."""
    generator = torch.Generator().manual_seed(0)
    query, prototype, background = (torch.rand(shape, generator=generator) for shape in ((6, 4, 5), (6,), (6,)))
    given = require_tensor(ask(function, query, prototype, background), (2, 4, 5), "my_maps")
    p, b = (functional.cosine_similarity(query, vector[:, None, None], dim=0) for vector in (prototype, background))
    first, second, dots = p - p.mean(), p - b, torch.einsum("chw,c->hw", query, prototype)
    mistakes = {
        "the factor 10 is missing": first,
        "the first map lacks minus its mean over the query": 10 * p,
        "the two maps are exchanged": 10 * second,
        "a cosine divides by the lengths of both vectors": 10 * (dots - dots.mean()),
    }
    compare(given[0], 10 * first, mistakes, "the first map differs from its formula, Y_1")
    turned = "the second map is the cosine with the prototype minus that with the background, not the other way round"
    compare(given[1], 10 * second, {turned: -10 * second}, "only the second map differs from its formula, Y_2")
    return right("5.1", "both maps agree with the package")


def check_mask(function: Callable[[Tensor, tuple[int, int]], Tensor]) -> str:
    """5.4: function(logits [2, h, w], (H, W)) -> mask [H, W], 1 where the foreground's logit is larger."""
    generator = torch.Generator().manual_seed(1)
    for size in ((40, 40), (37, 50)):
        logits = torch.randn(2, 10, 10, generator=generator)
        given = require_tensor(ask(function, logits, size), size, "my_mask")
        early = functional.interpolate(logits.argmax(0)[None, None].float(), size, mode="bilinear")[0, 0]
        reason = "this is the decision, resized bilinearly: resize the logits, then decide"
        require(not close(given, early) and not close(given, early > 0.5), reason)
        require(bool(((given == 0) | (given == 1)).all()), "a mask holds 0 and 1 and nothing else")
        wanted = predicted_mask(logits, size)
        different = int((given.long() != wanted).sum())
        # Corners may be aligned or not; the package does not align them, as PyTorch's default has it.
        otherwise = f"{different} of {wanted.numel()} pixels differ (mode='bilinear', align_corners=False)"
        compare(given, wanted, _wrong_masks(logits, size), otherwise)
    return right("5.4", "the logits are resized, not the mask")


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
