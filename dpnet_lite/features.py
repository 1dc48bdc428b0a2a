"""Where batches of episodes come from: features of a frozen backbone.

The backbone never changes while a head trains, so neither do its features (kept by `experiments/kept_features.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import Episode, Part
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.model.prototypes import masks_at

Progress = Callable[[Iterable[int]], Iterable[int]]
EditLabels = Callable[[Tensor], Tensor]  # changes support labels, int64 [B * K, S, S] with 0, 1 and 255


class EpisodeSource(Protocol):
    """What training and scoring take their batches from: kept features (`FeatureBank`), or images read as needed."""

    dataset: SegmentationDataset
    backbone: Backbone
    size: int  # side of the network's square in pixels
    waited: float  # seconds in which training had to wait for images, so far

    def training_batches(self, parts: Sequence[Part], config: TrainingConfig) -> Iterator[EpisodeBatch]:
        """A batch for each part, in order; augmented as `config` says, from its seed, the step and the place alone."""

    def batch(self, episodes: Sequence[Episode], *, edit_support: EditLabels | None = None) -> EpisodeBatch:
        """Gather episodes of one number of shots as they are, for scoring."""


@dataclass
class FeatureBank:
    """Backbone features and labels of a whole data set, squashed to one size; see `experiments/kept_features.py`."""

    dataset: SegmentationDataset
    backbone: Backbone
    size: int  # side S of the images in pixels
    features: np.ndarray  # float16 [n, views, h, w, D], channels last; view 1, where it is kept, is the mirrored image
    labels: Tensor  # uint8 [n, S, S], not mirrored
    waited: float = 0.0  # everything is there

    def seen_by_training(self, view: TrainingView) -> FeatureBank:
        """The same features with the labels and areas of a training view of the same data set."""
        if view.dataset is not self.dataset:
            raise ValueError(f"the view is of {view.dataset.name}, the features are of {self.dataset.name}")
        return replace(self, dataset=view, labels=view.relabel(self.labels))

    def training_batches(self, parts: Sequence[Part], config: TrainingConfig) -> Iterator[EpisodeBatch]:
        """A batch for each part, in order; images are mirrored at random where asked for and where views are kept.

        Raises:
            ValueError: an augmentation is set that kept features cannot have.
        """
        for name in ("scale", "rotation", "blur"):
            if value := getattr(config, name):
                raise ValueError(f"{name} is {value}, but kept features cannot be augmented so; set it to 0")
        flip = config.flip and self.features.shape[1] > 1
        for part in parts:
            yield self.batch(part.episodes, _mirrored_views(part, config) if flip else None)

    def batch(
        self,
        episodes: Sequence[Episode],
        views: list[list[int]] | None = None,
        *,
        edit_support: EditLabels | None = None,
    ) -> EpisodeBatch:
        """Gather episodes; `views[b]` gives the view, 0 or 1, of episode b's query and then of each support image."""
        features, labels = [], []
        for row, place, episode in images_in_order(episodes):
            index, view = episode.images[place], 0 if views is None else views[row][place]
            features.append(torch.from_numpy(np.asarray(self.features[index, view])))
            labels.append(self.binary_labels(index, episode.class_index, view))
        stacked = torch.stack(features).float().permute(0, 3, 1, 2)  # [n, h, w, D] -> [n, D, h, w], channels last
        return assemble(stacked, torch.stack(labels), len(episodes), edit_support)

    def binary_labels(self, index: int, class_index: int, view: int = 0) -> Tensor:
        """Labels of one class at the bank's size, int64 [S, S]: 1 the class, 0 anything else, 255 ignored."""
        labels = self.labels[index]
        return binary(labels.flip(-1) if view else labels, self.dataset.label_value(index, class_index))


def binary(labels: Tensor, value: int) -> Tensor:
    """Index labels to those of the class that `value` stands for (see `label_value`): int64 with 1, 0 and 255."""
    return (labels == value).long().masked_fill(labels == 255, 255)


def images_in_order(episodes: Sequence[Episode]) -> Iterator[tuple[int, int, Episode]]:
    """The images of a batch as `assemble` takes them: number of the episode, place in its `images`, the episode."""
    assert len({len(episode.support) for episode in episodes}) == 1, "episodes of one batch have one number of shots"
    for places in (range(1), range(1, len(episodes[0].images))):
        for row, episode in enumerate(episodes):
            for place in places:
                yield row, place, episode


def assemble(features: Tensor, labels: Tensor, n_episodes: int, edit_support: EditLabels | None = None) -> EpisodeBatch:
    """A batch from what was gathered: the queries of all episodes, then the support images, episode by episode.

    In this order both parts of a batch are views, whatever its size: nothing is copied.

    Args:
        features: float32 [B + B * K, D, h, w].
        labels: int64 [B + B * K, S, S] of each episode's class, with 0, 1 and 255.
        n_episodes: B.
    """
    supports = labels[n_episodes:]  # [B * K, S, S]
    if edit_support is not None:
        supports, shape = edit_support(supports), supports.shape
        is_whole = isinstance(supports, Tensor) and supports.shape == shape
        if not (is_whole and {*supports.unique().tolist()} <= {0, 1, 255}):
            raise ValueError(f"edit_support must return labels {list(shape)} with 0, 1 and 255 alone")
    supports = supports.unflatten(0, (n_episodes, -1))  # [B, K, S, S]
    cells = (features.shape[-2], features.shape[-1])
    return EpisodeBatch(
        support_features=features[n_episodes:].unflatten(0, (n_episodes, -1)),  # [B * K, ...] -> [B, K, D, h, w]
        support_masks=masks_at(supports == 1, cells),
        support_background=masks_at(supports == 0, cells),
        query_features=features[:n_episodes],
        query_labels=labels[:n_episodes],
    )


def _mirrored_views(part: Part, config: TrainingConfig) -> list[list[int]]:
    """Which images of a part are mirrored (1): for every episode its query, then its support."""
    rng = np.random.default_rng((config.seed, part.step, 0))
    views = rng.integers(2, size=(part.n_step, 1 + config.n_shot))  # drawn for the whole step, whoever takes what of it
    chosen: list[list[int]] = views[part.first : part.first + len(part.episodes)].tolist()
    return chosen
