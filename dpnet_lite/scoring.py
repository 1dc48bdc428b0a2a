"""Scoring: run a segmenter over frozen episodes and count pixels, at a fixed or at each image's own size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.backbones.replay import Replay
from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores, episode_counts
from dpnet_lite.features import EditLabels, EpisodeSource, Progress, binary
from dpnet_lite.model.dpnet import DPNet, Trace, training_free_logits
from dpnet_lite.model.episode_batch import EpisodeBatch

Segmenter = Callable[[EpisodeBatch], Tensor]  # episodes -> logits [B, 2, h, w] at any size
_LOG = logging.getLogger(__name__)
BATCH = 10  # episodes at once


def head_segmenter(head: nn.Module, *, observe: Callable[[EpisodeBatch, Trace], None] | None = None) -> Segmenter:
    """Logits of a network in eval mode at feature size; `observe` is shown every batch and what DPNet made of it."""

    def logits(*tensors: Tensor) -> Tensor:
        batch = EpisodeBatch(*tensors)
        output: Tensor = head(batch, batch.cells).logits
        return output

    looks_at_labels = isinstance(head, DPNet) and head.config.selection == "oracle"  # and so waits for them
    replayed = logits if looks_at_labels else Replay(logits, head)

    def segment(batch: EpisodeBatch) -> Tensor:
        if head.training:
            raise ValueError("the network is in training mode; call head.eval()")
        weights = next(head.parameters())
        batch = batch.to(weights.device, weights.dtype)
        if observe is None:
            return replayed(*batch).cpu()
        output = head(batch, batch.cells, trace=True)
        if output.trace is not None:
            observe(batch, output.trace)
        seen: Tensor = output.logits
        return seen.cpu()

    return segment


def training_free_segmenter(deep_channels: int) -> Segmenter:
    """Nearest prototype, foreground or background, by cosine on the deep stage of the frozen features [precedent]."""
    return partial(training_free_logits, deep_channels=deep_channels)


@torch.no_grad()
def score_episodes(
    segment: Segmenter,
    source: EpisodeSource,
    episodes: EpisodeList,
    *,
    original_size: bool = False,
    edit_support: EditLabels | None = None,
    progress: Progress = iter,
) -> EpisodeScores:
    """Count every episode's pixels.

    Args:
        segment: gives logits; they are resized bilinearly to the label's size, never the label to theirs.
        source: of the data set that the episodes were drawn from.
        episodes: a frozen list.
        original_size: compare at each image's own size instead of the source's fixed one; so is every image compared
            that holds no pixel of the class at the fixed one.
        edit_support: changes the support labels first, int64 [B * K, S, S] with 0, 1 and 255.

    Support masks that are empty at the source's size are warned of. Raises TypeError for what is no list of episodes,
    ValueError for a list of another data set, or for logits of another shape, NaN or infinity.
    """
    _check_scored(source, episodes)
    class_index, counts, n_lost = [], [], 0
    for start in progress(range(0, len(episodes), BATCH)):
        chunk = [episodes[i] for i in range(start, min(start + BATCH, len(episodes)))]
        batch = source.batch(chunk, edit_support=edit_support)
        n_lost += int((batch.support_masks.flatten(2).amax(dim=2) == 0).any(dim=1).sum())
        logits = segment(batch)
        for row, episode in enumerate(chunk):
            _check_answer(logits[row], start + row)
            labels = batch.query_labels[row]
            if original_size or not bool((labels == 1).any()):
                labels = own_labels(source.dataset, episode.query, episode.class_index)
            prediction = predicted_mask(logits[row], (labels.shape[0], labels.shape[1]))
            class_index.append(episode.class_index)
            counts.append(episode_counts(prediction, labels))
    if n_lost:
        _LOG.warning("support masks are empty at %d pixels in %d of %d episodes", source.size, n_lost, len(counts))
    names = source.dataset.class_names
    return EpisodeScores.from_lists(class_index, counts, names, episodes.sha256, episodes.images)


def _check_scored(source: EpisodeSource, episodes: EpisodeList) -> None:
    if not isinstance(episodes, EpisodeList):
        raise TypeError(f"episodes is a {type(episodes).__name__}; give the list that was drawn, of fewer with count")
    if episodes.dataset != source.dataset.fingerprint:
        raise ValueError("the episodes were drawn from another data set than the features; draw them anew")
    if episodes.images.max(initial=0) >= len(source.dataset):
        raise ValueError(f"the episodes name image {episodes.images.max()} of {len(source.dataset)}; draw them anew")


def _check_answer(logits: Tensor, number: int) -> None:
    if logits.ndim != 3 or len(logits) != 2:
        raise ValueError(f"the segmenter gives {list(logits.shape)} for an episode; give [2, h, w], background first")
    if not bool(logits.isfinite().all()):
        raise ValueError(f"the network gives NaN or infinity in episode {number}; load or train it anew")


def own_labels(dataset: SegmentationDataset, index: int, class_index: int) -> Tensor:
    """Labels of one class at the image's own size, int64 [H, W]: 1 the class, 0 anything else, 255 ignored."""
    return binary(dataset.read_labels(index), dataset.label_value(index, class_index))


def predicted_mask(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [n, h, w] to int64 class indices [H, W] at `size`: bilinear, then arg-max (ties: background)."""
    resized = functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)
    # Of two, by far the most frequent, a comparison gives the same in a fraction of the time.
    return (resized[0, 1] > resized[0, 0]).long() if len(logits) == 2 else resized[0].argmax(dim=0)
