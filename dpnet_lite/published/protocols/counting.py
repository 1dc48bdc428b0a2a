"""What the code of each protocol counts, from one and the same prediction.

A prediction is logits over the whole image. Its way to the labels, what is ignored and what is compared are then done
as the repository's code does them after its network. The network itself is ours in all cases: that it would see padded
or unsquashed images under another protocol is not re-enacted. Nor is HSNet's vote with several shots: there every shot
gives a mask of its own, and the masks are voted on (model/hsnet.py 67-90); here one prediction stands for all shots.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.evaluation import episode_counts
from dpnet_lite.published.protocols.specs import Protocol

_MULTIPLE = 8  # PFENet and BAM round both sides down to multiples of it


def protocol_counts(protocol: Protocol, logits: Tensor, labels: Tensor, *, benchmark: str = "pascal5i") -> Tensor:
    """Count one episode as a protocol does.

    Args:
        protocol: one of `PROTOCOLS`, or one of them with another size.
        logits: float [2, h, w], background and foreground, covering the whole image at any size.
        labels: uint8 or int64 [H, W] with 0, 1 and 255, at the image's own size.
        benchmark: whose figures hold, see `PerBenchmark`.

    Returns:
        int64 [4] as `evaluation.episode_counts`: foreground intersection and union, background intersection and union.
        By the rule "accumulated" (ours) all 0 where there is nothing to find: that says nothing of the class.

    Raises ValueError: wrong shapes, values other than 0, 1 and 255, or a benchmark that the protocol does not have.
    """
    counts = episode_counts(*compared(protocol, logits, labels, benchmark=benchmark))
    has_object = protocol.rule != "accumulated" or bool((labels == 1).any())
    return counts if has_object else torch.zeros_like(counts)


def compared(
    protocol: Protocol, logits: Tensor, labels: Tensor, *, benchmark: str = "pascal5i"
) -> tuple[Tensor, Tensor]:
    """The two masks that a protocol compares: prediction, int64 [s, t] of 0 and 1, and labels [s, t] with 255.

    Arguments and errors as for `protocol_counts`.
    """
    _check(logits, labels)
    if benchmark in protocol.background_255:
        labels = torch.where(labels == IGNORE_LABEL, torch.zeros_like(labels), labels)
    own_size = (labels.shape[0], labels.shape[1])
    if protocol.label_resolution == "own":
        resized = _resize(logits, own_size, align_corners=protocol.align_corners)
    elif protocol.label_resolution == "network":
        side = _side(protocol, benchmark)
        resized = _resize(logits, (side, side), align_corners=protocol.align_corners)
        labels = nearest_labels(labels, (side, side))
    else:
        side, longer = _side(protocol, benchmark), max(own_size)
        inside = _resize(logits, padded_size(*own_size, side), align_corners=False)  # as the image itself was resized
        resized = _resize(_pad_to_square(inside, side), (longer, longer), align_corners=protocol.align_corners)
        labels = _pad_labels(labels, longer)
    # Ties are background. (`argmax` itself is ten times as slow here.)
    return (resized[1] > resized[0]).long(), labels


def perfect_logits(protocol: Protocol, labels: Tensor, *, benchmark: str = "pascal5i") -> Tensor:
    """The best possible prediction at the size at which the protocol's network answers, over the whole image.

    Logits +1 and -1, float32 [2, h, w], from the labels as the repository itself resizes them: untouched where the
    protocol compares at the image's own size, else by the nearest pixel. 255 counts as background here.
    """
    if protocol.label_resolution == "network":
        side = _side(protocol, benchmark)
        labels = nearest_labels(labels, (side, side))
    elif protocol.label_resolution == "longer side":
        size = padded_size(labels.shape[0], labels.shape[1], _side(protocol, benchmark))
        labels = _nearest_labels_opencv(labels, size)
    return sure_logits(labels)


def sure_logits(labels: Tensor) -> Tensor:
    """Logits float32 [2, h, w] that give labels [h, w] back: +1 and -1; 255 counts as background."""
    margin = (labels == 1).float() * 2 - 1
    return torch.stack([-margin, margin])


def nearest_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels [H, W] -> [*size] as `torch.nn.functional.interpolate` takes the nearest (HSNet)."""
    return functional.interpolate(labels[None, None].float(), size=size, mode="nearest")[0, 0].to(labels.dtype)


def padded_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Height and width of an image inside PFENet's square of `side` pixels: the place is the upper left.

    The longer side becomes `side`, the other keeps the aspect, rounded down; then both are rounded down to multiples
    of 8 (util/transform.py 83-101).

    Raises ValueError: nothing is left of a side.
    """
    ratio = side * 1.0 / max(height, width)
    new = [side if length == max(height, width) else int(length * ratio) for length in (height, width)]
    rounded = (new[0] // _MULTIPLE * _MULTIPLE, new[1] // _MULTIPLE * _MULTIPLE)
    if min(rounded) == 0:
        raise ValueError(
            f"an image of {height} x {width} pixels leaves {rounded[0]} x {rounded[1]} in a square of {side}; "
            "leave out the protocols pfenet and bam, or choose a larger square"
        )
    return rounded


def _resize(logits: Tensor, size: tuple[int, int], *, align_corners: bool) -> Tensor:
    """Bilinear resizing of logits, float [n, h, w] -> [n, *size]; nothing is done where the size is right already."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=align_corners)[0]


def _nearest_labels_opencv(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels [H, W] -> [*size] by OpenCV's rule for INTER_NEAREST (PFENet, BAM).

    Row i takes row floor(i / (new / old)), in double precision with OpenCV's order of the divisions; columns alike.
    """
    rows, columns = (
        torch.from_numpy(np.minimum(np.floor(np.arange(new) * (1.0 / (new / old))).astype(np.int64), old - 1))
        for new, old in zip(size, labels.shape, strict=True)
    )
    return labels[rows][:, columns]


def _pad_to_square(logits: Tensor, side: int) -> Tensor:
    """Logits [2, h, w] in the upper left of a square, float [2, side, side].

    What a network says of the black padding is not known; here it takes it for background, as surely as it is of what
    stands at the edge beside it [ours].
    """
    height, width = logits.shape[-2:]
    spread = (0, side - width, 0, side - height)
    square = functional.pad(logits[None], spread, mode="replicate")[0]
    dark = torch.stack([square.amax(dim=0), square.amin(dim=0)])  # the background gets the larger logit
    dark[:, :height, :width] = logits
    return dark


def _pad_labels(labels: Tensor, side: int) -> Tensor:
    """Labels [h, w] in the upper left of a square of 255, [side, side]."""
    square = labels.new_full((side, side), IGNORE_LABEL)
    square[: labels.shape[0], : labels.shape[1]] = labels
    return square


def _side(protocol: Protocol, benchmark: str) -> int:
    side = protocol.size.of(benchmark)
    if side is None:
        raise ValueError(f"protocol {protocol.name} has no {benchmark}; choose another protocol or benchmark")
    return side


def _check(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 3 or logits.shape[0] != 2 or not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype} {tuple(logits.shape)}; give floats [2, h, w] of one episode")
    if labels.ndim != 2:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; give [H, W] at the image's own size")
