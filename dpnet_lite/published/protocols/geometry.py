"""How images and labels reach the network's square in published code, and how predictions come back."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.datasets.base import IGNORE_LABEL

MULTIPLE = 8  # PFENet and BAM round both sides down to multiples of it
Padding = Literal["background", "edge"]


def resize(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Bilinear resizing of logits, float [n, h, w] -> [n, *size]; nothing is done where the size is right already."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=align_corners)[0]


def foreground(logits: Tensor) -> Tensor:
    """Arg-max of logits [2, h, w], int64 [h, w]; ties are background. (`argmax` itself is ten times as slow here.)"""
    return (logits[1] > logits[0]).long()


def sure_logits(labels: Tensor) -> Tensor:
    """Logits float32 [2, h, w] that give labels [h, w] back: +1 and -1; 255 counts as background."""
    margin = (labels == 1).float() * 2 - 1
    return torch.stack([-margin, margin])


def nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels [H, W] -> [*size] as `torch.nn.functional.interpolate` takes the nearest (HSNet)."""
    return functional.interpolate(labels[None, None].float(), size=size, mode="nearest")[0, 0].to(labels.dtype)


def nearest_labels_opencv(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels [H, W] -> [*size] by OpenCV's rule for INTER_NEAREST (PFENet, BAM).

    Row i takes row floor(i / (new / old)), in double precision with OpenCV's order of the divisions; columns alike.
    """
    rows, columns = (
        torch.from_numpy(np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1))
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows][:, columns]


def padded_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image inside PFENet's square of `side` pixels: the place is the upper left.

    The longer side becomes `side`, the other keeps the aspect, rounded down; then both are rounded down to multiples
    of 8 (util/transform.py 83-101).

    Raises:
        ValueError: nothing is left of a side.
    """
    ratio = side * 1.0 / max(height, width)
    new = [side if length == max(height, width) else int(length * ratio) for length in (height, width)]
    rounded = (new[0] // MULTIPLE * MULTIPLE, new[1] // MULTIPLE * MULTIPLE)
    if min(rounded) == 0:
        raise ValueError(
            f"an image of {height} x {width} pixels leaves {rounded[0]} x {rounded[1]} in a square of {side}; "
            "leave out the protocols pfenet and bam, or choose a larger square"
        )
    return rounded


def pad_to_square(logits: Tensor, side: int, padding: Padding = "background") -> Tensor:
    """Logits [2, h, w] in the upper left of a square, float [2, side, side].

    What a network says of the black padding is not known. "background": it takes it for background as surely as it is
    of what stands at the edge beside it [ours]; "edge": the edge goes on, the kindest case.
    """
    height, width = logits.shape[-2:]
    spread = (0, side - width, 0, side - height)
    square = functional.pad(logits[None], spread, mode="replicate")[0]
    if padding == "background":
        dark = torch.stack([square.amax(dim=0), square.amin(dim=0)])  # the background gets the larger logit
        dark[:, :height, :width] = logits
        return dark
    return square


def pad_labels(labels: Tensor, side: int) -> Tensor:
    """Labels [h, w] in the upper left of a square of 255, [side, side]."""
    square = labels.new_full((side, side), IGNORE_LABEL)
    square[: labels.shape[0], : labels.shape[1]] = labels
    return square
