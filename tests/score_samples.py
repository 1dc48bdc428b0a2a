"""Made-up predictions and scores for the tests of metrics and of intervals."""

from __future__ import annotations

import numpy as np
import torch

from dpnet_lite.evaluation import EpisodeScores, episode_counts

METRICS = ("miou", "fb_iou", "episode_miou")


def random_masks(seed, agreement=0.8, size=(9, 11), ignored=0.1):
    """A random prediction and labels that agree on about that share of pixels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < 0.35).astype(np.uint8)
    prediction = np.where(rng.random(size) < agreement, labels, 1 - labels)
    labels[rng.random(size) < ignored] = 255
    return torch.from_numpy(prediction), torch.from_numpy(labels)


def scores_of(class_index, masks, **settings_of_list):
    names = tuple(f"class {c}" for c in range(max(class_index) + 1))
    return EpisodeScores.from_lists(class_index, [episode_counts(*m) for m in masks], names, **settings_of_list)


def scores_of_iou(class_index, intersections, unions, total=1000, sha="", names=None):
    """Scores with given foreground counts, in episodes of `total` pixels."""
    i, u = np.asarray(intersections), np.asarray(unions)
    names = names or tuple(f"class {c}" for c in range(max(class_index) + 1))
    return EpisodeScores(np.asarray(class_index), np.stack([i, u, total - u, total - i], 1), names, sha)


def random_scores(seed, n=60, n_classes=4, sha="", quality=0.5):
    rng = np.random.default_rng(seed)
    class_index = np.random.default_rng(99).permutation(np.arange(n) % n_classes)
    unions = rng.integers(50, 500, n)
    shares = np.clip(rng.normal(quality, 0.2, n) + 0.05 * class_index, 0, 1)
    return scores_of_iou(class_index, (shares * unions).astype(int), unions, sha=sha)
