"""Scoring: run a segmenter over frozen episodes and count pixels, at a fixed or at each image's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.datasets.base import SegmentationDataset, label_value, read_labels
from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores, episode_counts
from dpnet_lite.features import EpisodeBatch, EpisodeSource, binary
from dpnet_lite.model.base import EpisodeNetwork, Trace
from dpnet_lite.model.training_free import foreground_score

Segmenter = Callable[[EpisodeBatch], Tensor]  # episodes -> logits [B, 2, h, w] at any size
Progress = Callable[[Iterable[int]], Iterable[int]]
BATCH = 10  # episodes at once


def head_segmenter(head: EpisodeNetwork, *, observe: Callable[[EpisodeBatch, Trace], None] | None = None) -> Segmenter:
    """The logits of a head at feature size. A selection by the oracle gets the query's true masks.

    `observe` is shown every batch and what the head made of it, where the head keeps a trace.
    """

    def segment(batch: EpisodeBatch) -> Tensor:
        cells = (batch.query_features.shape[-2], batch.query_features.shape[-1])
        device = next(head.parameters()).device
        batch = EpisodeBatch(*(tensor.to(device) for tensor in batch))
        truth = (batch.query_labels == 1).float() if head.config.selection == "oracle" else None
        output = head(
            batch.support_features,
            batch.support_masks,
            batch.query_features,
            size=cells,
            support_background=batch.support_background,
            query_masks=truth,
            trace=observe is not None,
        )
        if observe is not None and output.trace is not None:
            observe(batch, output.trace)
        return output.logits.cpu()

    return segment


def training_free_segmenter(deep_channels: int) -> Segmenter:
    """Nearest prototype, foreground or background, by cosine on the deep stage of the frozen features [precedent]."""

    def segment(batch: EpisodeBatch) -> Tensor:
        support, query = (
            batch.support_features[:, :, -deep_channels:],
            batch.query_features[:, -deep_channels:],
        )
        score = foreground_score(support, batch.support_masks, query, batch.support_background)
        return torch.stack([-score, score], dim=1)

    return segment


@torch.no_grad()
def score_episodes(
    segment: Segmenter,
    bank: EpisodeSource,
    episodes: EpisodeList,
    *,
    original_size: bool = False,
    edit_support: Callable[[Tensor], Tensor] | None = None,
    progress: Progress = iter,
) -> EpisodeScores:
    """Count every episode's pixels.

    Args:
        segment: gives logits; they are resized bilinearly to the label's size, never the label to theirs.
        bank: features of the data set that the episodes were drawn from.
        episodes: a frozen list.
        original_size: compare at each image's own size instead of the bank's fixed one.
        edit_support: changes the support labels first, int64 [B * K, S, S] with 0, 1 and 255.
    """
    if episodes.dataset != bank.dataset.fingerprint:
        raise ValueError("the episodes were drawn from another data set than the features; draw them anew")
    class_index, counts = [], []
    for start in progress(range(0, len(episodes), BATCH)):
        chunk = [episodes[i] for i in range(start, min(start + BATCH, len(episodes)))]
        batch = bank.batch(chunk, edit_support=edit_support)
        logits = segment(batch)
        for row, episode in enumerate(chunk):
            labels = batch.query_labels[row]
            if original_size:
                labels = own_labels(bank.dataset, episode.query, episode.class_index)
            prediction = predicted_mask(logits[row], (labels.shape[0], labels.shape[1]))
            class_index.append(episode.class_index)
            counts.append(episode_counts(prediction, labels))
    return EpisodeScores.from_lists(class_index, counts, bank.dataset.class_names, episodes.sha256)


def own_labels(dataset: SegmentationDataset, index: int, class_index: int) -> Tensor:
    """Labels of one class at the image's own size, int64 [H, W]: 1 the class, 0 anything else, 255 ignored."""
    return binary(read_labels(dataset, index), label_value(dataset, index, class_index))


def predicted_mask(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [n, h, w] to int64 class indices [H, W] at `size`: bilinear, then arg-max (ties: background)."""
    resized = functional.interpolate(logits[None], size=size, mode="bilinear", align_corners=False)
    return resized[0].argmax(dim=0)
