"""One pass over the episodes, counted under several protocols, and each protocol's own way from counts to a score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.features import EpisodeSource, Progress
from dpnet_lite.published.protocols.counting import protocol_counts
from dpnet_lite.published.protocols.specs import Protocol
from dpnet_lite.scoring import BATCH, Segmenter, own_labels

_EPSILON = 1e-10  # added to every union by PFENet and BAM


@torch.no_grad()
def evaluate_under(
    segment: Segmenter,
    source: EpisodeSource,
    episodes: EpisodeList,
    protocols: Sequence[Protocol],
    *,
    benchmark: str = "pascal5i",
    progress: Progress = iter,
) -> dict[str, EpisodeScores]:
    """Count every episode under every protocol, from the same predictions.

    Args:
        segment: gives logits [B, 2, h, w] of the squashed square, at any size; called once a batch.
        source: of the data set that the episodes were drawn from.
        episodes: the list; a protocol's own is drawn by `drawing.draw_for`.
        protocols: values of `PROTOCOLS`.
        benchmark: whose figures hold.
        progress: wraps the loop over batches.

    Returns:
        The counts, by name of the protocol. `protocol_score` makes the protocol's score of them.

    Raises ValueError: the episodes are of another data set, or a protocol does not have the benchmark.
    """
    if episodes.dataset != source.dataset.fingerprint:
        raise ValueError("the episodes were drawn from another data set than the features; draw them anew")
    class_index: list[int] = []
    counts: dict[str, list[Tensor]] = {protocol.name: [] for protocol in protocols}
    for start in progress(range(0, len(episodes), BATCH)):
        chunk = [episodes[i] for i in range(start, min(start + BATCH, len(episodes)))]
        logits = segment(source.batch(chunk))
        for row, episode in enumerate(chunk):
            labels = own_labels(source.dataset, episode.query, episode.class_index)
            class_index.append(episode.class_index)
            for protocol in protocols:
                counts[protocol.name].append(protocol_counts(protocol, logits[row], labels, benchmark=benchmark))
    known = source.dataset.class_names, episodes.sha256, episodes.images
    return {name: EpisodeScores.from_lists(class_index, rows, *known) for name, rows in counts.items()}


def protocol_score(
    protocol: Protocol, class_index: NDArray[np.int64], counts: NDArray[np.int64], classes: Sequence[int] | None = None
) -> tuple[float, float]:
    """mIoU and FB-IoU as the protocol's code has them, fractions in [0, 1].

    - "accumulated" (ours): per class over its episodes; what has an empty union is left out, as is a query that
      shows nothing of its class.
    - "clamped" (HSNet): the same sums in float32, unions of at least 1, the mean over all classes of the fold, so that
      a class without an episode counts as 0.
    - "epsilon" (PFENet, BAM): 1e-10 is added to every union; the mean over all classes of the fold, as above.
    - "seen" (SSP): the mean over the classes with a union; it has no FB-IoU (NaN).

    None of them averages over episodes.

    Args:
        protocol: one of `PROTOCOLS`.
        class_index: int64 [n], the class of each episode.
        counts: int64 [n, 4], rows of `protocol_counts`, in the order of the episodes.
        classes: the fold's classes; those that have an episode, if not given.

    Raises ValueError: an episode's class is not among `classes`.
    """
    fold = sorted({int(index) for index in (class_index if classes is None else classes)})
    strange = sorted(set(class_index.tolist()) - set(fold))
    if strange:
        raise ValueError(f"class index {strange[0]} is not among the fold's classes {fold}; give all of them")
    if protocol.rule == "accumulated":
        scores = EpisodeScores(class_index, counts, tuple(map(str, range(max(fold) + 1))))
        return scores.miou, scores.fb_iou
    if protocol.rule == "clamped":
        return _clamped(np.searchsorted(fold, class_index), counts, len(fold))
    sums = np.array([counts[class_index == index].sum(axis=0) for index in fold])  # [classes, 4]
    if protocol.rule == "epsilon":
        total = sums.sum(axis=0)
        fb_iou = (total[[0, 2]] / (total[[1, 3]] + _EPSILON)).mean()
        return float((sums[:, 0] / (sums[:, 1] + _EPSILON)).mean()), float(fb_iou)
    seen = sums[sums[:, 1] > 0]
    return float((seen[:, 0] / seen[:, 1]).mean()) if len(seen) else float("nan"), float("nan")


def _clamped(rows: NDArray[np.int64], counts: NDArray[np.int64], n_classes: int) -> tuple[float, float]:
    """HSNet's buffers: float32 [2, n_classes], background and foreground, added to episode by episode."""
    intersections, unions = torch.zeros(2, n_classes), torch.zeros(2, n_classes)
    order = torch.tensor([2, 0]), torch.tensor([3, 1])  # background, foreground
    for row, episode in zip(rows.tolist(), torch.from_numpy(np.array(counts)).float(), strict=True):
        intersections[:, row] += episode[order[0]]
        unions[:, row] += episode[order[1]]
    miou = (intersections / unions.clamp(min=1))[1].mean()
    fb_iou = (intersections.sum(dim=1) / unions.sum(dim=1)).mean()
    return float(miou), float(fb_iou)
