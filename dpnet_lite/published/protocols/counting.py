"""What the code of each protocol counts, from one and the same prediction.

A prediction is logits over the whole image. Its way to the labels, what is ignored and what is compared are then done
as the repository's code does them after its network. The network itself is ours in all cases: that it would see padded
or unsquashed images under another protocol is not re-enacted. Nor is HSNet's vote with several shots: there every shot
gives a mask of its own, and the masks are voted on (model/hsnet.py 67-90); here one prediction stands for all shots.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.evaluation import episode_counts
from dpnet_lite.published.protocols.geometry import (
    Padding,
    foreground,
    nearest_labels,
    nearest_labels_opencv,
    pad_labels,
    pad_to_square,
    padded_size,
    resize,
    sure_logits,
)
from dpnet_lite.published.protocols.specs import Protocol


def protocol_counts(
    protocol: Protocol, logits: Tensor, labels: Tensor, *, benchmark: str = "pascal5i", padding: Padding = "background"
) -> Tensor:
    """Count one episode as a protocol does.

    Args:
        protocol: one of `PROTOCOLS`, or one of them with another size.
        logits: float [2, h, w], background and foreground, covering the whole image at any size.
        labels: uint8 or int64 [H, W] with 0, 1 and 255, at the image's own size.
        benchmark: whose figures hold, see `PerBenchmark`.
        padding: what the network says of padded pixels, see `pad_to_square`.

    Returns:
        int64 [4] as `evaluation.episode_counts`: foreground intersection and union, background intersection and union.

    Raises:
        ValueError: wrong shapes, values other than 0, 1 and 255, or a benchmark that the protocol does not have.
    """
    return episode_counts(*compared(protocol, logits, labels, benchmark=benchmark, padding=padding))


def compared(
    protocol: Protocol, logits: Tensor, labels: Tensor, *, benchmark: str = "pascal5i", padding: Padding = "background"
) -> tuple[Tensor, Tensor]:
    """The two masks that a protocol compares: prediction, int64 [s, t] of 0 and 1, and labels [s, t] with 255.

    Arguments and errors as for `protocol_counts`.
    """
    _check(logits, labels)
    if benchmark in protocol.background_255:
        labels = torch.where(labels == IGNORE_LABEL, torch.zeros_like(labels), labels)
    own_size = (labels.shape[0], labels.shape[1])
    if protocol.label_resolution == "own":
        resized = resize(logits, own_size, align_corners=protocol.align_corners)
    elif protocol.label_resolution == "network":
        side = _side(protocol, benchmark)
        resized = resize(logits, (side, side), align_corners=protocol.align_corners)
        labels = nearest_labels(labels, (side, side))
    else:
        side, longer = _side(protocol, benchmark), max(own_size)
        inside = resize(logits, padded_size(*own_size, side), align_corners=False)  # as the image itself was resized
        square = pad_to_square(inside, side, padding)
        resized = resize(square, (longer, longer), align_corners=protocol.align_corners)
        labels = pad_labels(labels, longer)
    return foreground(resized), labels


def perfect_logits(protocol: Protocol, labels: Tensor, *, benchmark: str = "pascal5i") -> Tensor:
    """The best possible prediction at the size at which the protocol's network answers, over the whole image.

    Logits +1 and -1, float32 [2, h, w], from the labels as the repository itself resizes them: untouched where the
    protocol compares at the image's own size, else by the nearest pixel. 255 counts as background here.
    """
    if protocol.label_resolution == "network":
        side = _side(protocol, benchmark)
        labels = nearest_labels(labels, (side, side))
    elif protocol.label_resolution == "longer side":
        labels = nearest_labels_opencv(
            labels, padded_size(labels.shape[0], labels.shape[1], _side(protocol, benchmark))
        )
    return sure_logits(labels)


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
