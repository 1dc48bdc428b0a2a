"""Metrics of few-shot segmentation. No model code.

An episode is a binary task, so four pixel counts say all that the metrics need. They are kept per episode, in
`EpisodeScores`; metrics, fractions in [0, 1], and the intervals of `intervals.py` are computed from them afterwards.

An IoU whose union is empty (nothing to find and nothing predicted) is undefined: it is NaN where it stands
alone and is left out of every mean. A mean of nothing is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Metric = Literal["miou", "fb_iou", "episode_miou"]
Floats = NDArray[np.float64]


def episode_counts(prediction: Tensor, labels: Tensor, ignore: int = 255) -> Tensor:
    """Count the pixels of one episode that the metrics need.

    prediction: [H, W], any dtype, values 0 and 1. labels: [H, W], values 0, 1 and `ignore`, at the size at
    which the episode is scored. Ignored pixels count nowhere.
    Returns int64 [4]: foreground intersection, foreground union, background intersection, background union.
    Raises ValueError where shapes differ (nothing is resized here) or other values occur.
    """
    if ignore in (0, 1):
        raise ValueError(f"ignore is {ignore}, which is a class here; give another number, such as 255")
    if prediction.shape != labels.shape or labels.ndim != 2:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)} and labels have shape {tuple(labels.shape)}: "
            "both must be [H, W], so bring the prediction to the label's size first"
        )
    valid = labels != ignore
    for name, values, allowed in (
        ("prediction", prediction, "0 and 1: take the arg-max or a threshold first"),
        ("labels", labels[valid], f"0, 1 and {ignore}: make the mask binary for the episode's class first"),
    ):
        strange = values[(values != 0) & (values != 1)]
        if strange.numel():
            raise ValueError(f"the value {strange[0].item()} occurs in the {name}; allowed are {allowed}")
    predicted, truth = (prediction == 1) & valid, labels == 1
    intersection, union, total = (predicted & truth).sum(), (predicted | truth).sum(), valid.sum()
    # The background follows: its pixels lie outside the foreground union, and outside the intersection.
    return torch.stack([intersection, union, total - union, total - intersection])


@dataclass(frozen=True, eq=False)
class EpisodeScores:
    """The pixel counts of one run: one method on one list of episodes, in the list's order.

    class_index: int64 [n], the class of each episode, an index into class_names.
    counts: int64 [n, 4], rows of `episode_counts`.
    class_names: names of the data set's classes.
    episodes_sha256: the hash of the episode list, if there is one; it tells runs on different lists apart.
    images: int64 [n, 1 + K], the query image and the support images of each episode, or None where that is not known.
    Raises ValueError where the arrays do not fit together. They are copied and made read-only.
    """

    class_index: NDArray[np.int64]
    counts: NDArray[np.int64]
    class_names: tuple[str, ...]
    episodes_sha256: str = ""
    images: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        class_index, counts = _whole_numbers(self.class_index, "class_index"), _whole_numbers(self.counts, "counts")
        if not counts.size or counts.shape[1:] != (4,) or class_index.shape != counts.shape[:1]:
            raise ValueError(
                f"class_index has shape {class_index.shape} and counts have shape {counts.shape}: "
                "give [n] and [n, 4] with at least one episode"
            )
        if class_index.min() < 0 or class_index.max() >= len(self.class_names):
            raise ValueError(
                f"class_index runs from {class_index.min()} to {class_index.max()}, but there are "
                f"{len(self.class_names)} class names: give the names of all classes of the data set"
            )
        if not all(isinstance(name, str) for name in (*self.class_names, self.episodes_sha256)):
            raise ValueError(f"class_names or episodes_sha256 ({self.episodes_sha256!r}) are no texts: give names")
        f_intersection, f_union, b_intersection, b_union = counts.T
        consistent = (f_intersection >= 0) & (f_intersection <= f_union) & (b_intersection >= 0)
        consistent &= f_union + b_intersection == b_union + f_intersection  # each side: the number of valid pixels
        if not consistent.all():
            row = int(np.flatnonzero(~consistent)[0])
            raise ValueError(f"counts[{row}] is {counts[row].tolist()}, which no episode can give: use episode_counts")
        images = None if self.images is None else _whole_numbers(self.images, "images")
        if images is not None and (images.ndim != 2 or len(images) != len(counts) or images.shape[1] < 2):
            raise ValueError(f"images have shape {images.shape}: give [{len(counts)}, 1 + K], query and supports")
        for name, array in (("class_index", class_index), ("counts", counts), ("images", images)):
            if array is not None:
                array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @classmethod
    def from_lists(
        cls,
        class_index: Sequence[int],
        counts: Sequence[Tensor],
        class_names: Sequence[str],
        episodes_sha256: str = "",
        images: NDArray[np.int64] | None = None,
    ) -> EpisodeScores:
        """Build from what a loop over episodes collects: class indices and results of `episode_counts`."""
        if not counts:
            raise ValueError("counts is empty: score at least one episode")
        rows = torch.stack(list(counts)).cpu().numpy()  # n x [4] -> [n, 4]
        return cls(np.asarray(class_index), rows, tuple(class_names), episodes_sha256, images)

    def part(self, episodes: Any) -> EpisodeScores:
        """The scores of some of the episodes, which any index of a NumPy array may choose."""
        images = None if self.images is None else self.images[episodes]
        return replace(self, class_index=self.class_index[episodes], counts=self.counts[episodes], images=images)

    def class_iou(self) -> dict[int, float]:
        """Foreground IoU of each class that has an episode, its pixels accumulated over all its episodes."""
        sums = _class_sums(self)
        values = _ratio(sums[:, 0], sums[:, 1])
        return {int(c): float(value) for c, value in zip(np.unique(self.class_index), values, strict=True)}

    @property
    def miou(self) -> float:
        """Mean over the classes seen of `class_iou`. The default metric (as in PFENet and HSNet)."""
        return float(metric_of_sums(_class_sums(self), "miou"))

    @property
    def fb_iou(self) -> float:
        """Mean of foreground IoU and background IoU, each accumulated over all episodes."""
        return float(metric_of_sums(_class_sums(self), "fb_iou"))

    @property
    def episode_miou(self) -> float:
        """Mean over episodes of each episode's foreground IoU. NOT the default.

        Some published code reports this as mIoU. Small objects weigh as much as large ones in it, so it is
        not comparable with `miou`.
        """
        return float(metric_of_sums(_class_sums(self), "episode_miou"))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for JSON; the images stay with the episode list (see `results.read_scores`)."""
        return {
            "class_names": list(self.class_names),
            "episodes_sha256": self.episodes_sha256,
            "class_index": self.class_index.tolist(),
            "counts": self.counts.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EpisodeScores:
        """The inverse of `to_dict`. Raises ValueError where keys or kinds are not those of `to_dict`."""
        names = {"class_names", "episodes_sha256", "class_index", "counts"}
        if not isinstance(values, dict) or values.keys() != names or not isinstance(values["class_names"], list):
            raise ValueError(f"scores are {values!r:.60}; expected {', '.join(sorted(names))}: save with to_dict")
        return cls(**values)


def _whole_numbers(values: Any, name: str) -> NDArray[np.int64]:
    """A copy as int64; ValueError for what holds anything else than whole numbers."""
    array = np.array(values)
    if array.size and array.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {array.dtype}, not whole numbers: save with to_dict, or count pixels")
    return array.astype(np.int64)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def mean_of_defined(values: Floats) -> Floats:
    """Mean over the last axis of what is not NaN; NaN where nothing is left. (np.nanmean warns there.)"""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.astype(float).sum(axis=-1))


def class_tables(scores: EpisodeScores) -> list[Floats]:
    """Per class seen, in the order of its index, what its episodes add to the metrics: float64 [n_c, 6].

    The columns: the four counts, the episode's IoU (0 where undefined), and 1 where that is defined, else 0.
    Float64 holds the integer counts and their sums exactly (below 2**53).
    """
    counts = scores.counts.astype(float)
    iou = _ratio(counts[:, 0], counts[:, 1])
    defined = ~np.isnan(iou)
    table = np.column_stack([counts, np.where(defined, iou, 0.0), defined])  # [n, 6]
    return [table[scores.class_index == c] for c in np.unique(scores.class_index)]


def _class_sums(scores: EpisodeScores) -> Floats:
    """Sums over all episodes of each class seen, float64 [classes, 6]."""
    return np.stack([table.sum(axis=0) for table in class_tables(scores)])


def metric_of_sums(sums: Floats, metric: Metric) -> Floats:
    """Metric of sums over the rows of `class_tables`: [..., classes, 6] -> [...]."""
    if metric == "miou":
        return mean_of_defined(_ratio(sums[..., 0], sums[..., 1]))
    total = sums.sum(axis=-2)  # [..., classes, 6] -> [..., 6]
    if metric == "fb_iou":
        return mean_of_defined(_ratio(total[..., [0, 2]], total[..., [1, 3]]))
    return _ratio(total[..., 4], total[..., 5])
