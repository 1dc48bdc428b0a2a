"""Where a perfect prediction loses under the protocols that pad (PFENet, BAM): resolution apart from misalignment."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from dpnet_lite.evaluation import episode_counts
from dpnet_lite.published.protocols.counting import perfect_logits, protocol_counts
from dpnet_lite.published.protocols.geometry import (
    foreground,
    nearest_labels_opencv,
    pad_labels,
    pad_to_square,
    resize,
    sure_logits,
)
from dpnet_lite.published.protocols.specs import Protocol


class PerfectCounts(NamedTuple):
    """Counts of one perfect prediction, brought to its labels in three ways; each int64 [4] as `episode_counts`."""

    repository: Tensor  # as the code does it: what resolution and misalignment cost together
    in_place: Tensor  # the same prediction, put back to the pixels that it stands for: what resolution alone costs
    unrounded: Tensor  # as the code does it, but without rounding to multiples of 8: what the other steps cost


def perfect_counts(protocol: Protocol, labels: Tensor, *, benchmark: str = "pascal5i") -> PerfectCounts:
    """Count the best prediction that a network of the protocol's resolution can give (see `perfect_logits`).

    labels: [H, W] with 0, 1 and 255, at the image's own size.
    Raises ValueError where the protocol does not pad.
    """
    side = protocol.size.of(benchmark)
    if protocol.geometry != "pad" or side is None:
        raise ValueError(
            f"protocol {protocol.name} does not pad on {benchmark}; choose pfenet or bam on pascal5i or coco20i"
        )
    height, width = labels.shape
    logits = perfect_logits(protocol, labels, benchmark=benchmark)
    in_place = foreground(resize(logits, (height, width), align_corners=False))
    longer = max(height, width)
    exact = tuple(side if length == longer else int(length * side / longer) for length in (height, width))
    square = pad_to_square(sure_logits(nearest_labels_opencv(labels, (exact[0], exact[1]))), side)
    unrounded = foreground(resize(square, (longer, longer), align_corners=protocol.align_corners))
    return PerfectCounts(
        repository=protocol_counts(protocol, logits, labels, benchmark=benchmark),
        in_place=episode_counts(in_place, labels),
        unrounded=episode_counts(unrounded, pad_labels(labels, longer)),
    )
