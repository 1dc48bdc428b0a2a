"""Errors in support masks, as careless annotators make them: too small, too large, beside the object. Ours."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as functional
from torch import Tensor

MaskEdit = Literal["as drawn", "eroded", "dilated", "shifted"]


def edit_masks(labels: Tensor, edit: MaskEdit, pixels: int) -> Tensor:
    """Change the foreground of support labels; what was ignored (255) stays ignored.

    Args:
        labels: int64 [n, S, S] with 0, 1 and 255.
        edit: "eroded" and "dilated" move the outline by `pixels`, counted in the larger of both directions;
            "shifted" moves the mask by `pixels` right and down, what leaves the image is lost.
        pixels: at the labels' size.

    Returns:
        int64 [n, S, S]. A mask of which nothing would be left is kept as it was.
    """
    if edit == "as drawn" or pixels == 0:
        return labels
    mask = labels == 1
    if edit == "shifted":
        changed = torch.zeros_like(mask)
        changed[:, pixels:, pixels:] = mask[:, :-pixels, :-pixels]
    else:
        grown = mask if edit == "dilated" else ~mask
        # Outside the image there is nothing that could grow into it.
        reached = functional.max_pool2d(grown[:, None].float(), 2 * pixels + 1, stride=1, padding=pixels)[:, 0] > 0
        changed = reached if edit == "dilated" else ~reached
    empty = ~(changed & (labels != 255)).flatten(1).any(dim=1)
    changed = torch.where(empty[:, None, None], mask, changed)
    return changed.long().masked_fill(labels == 255, 255)
