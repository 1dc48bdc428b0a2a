"""Features of a frozen backbone, computed once for every image of a data set and kept.

The backbone never changes while a head trains, so its features of an image never do either. They are kept as
float16, in memory or in a memory-mapped file that a second run finds again.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import SegmentationDataset, label_value
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.transforms import normalise, resize_sample
from dpnet_lite.episodes import Episode
from dpnet_lite.model.backbone import Backbone
from dpnet_lite.model.prototypes import masks_at
from dpnet_lite.parts import Part, mirrored_views

Progress = Callable[[Iterable[int]], Iterable[int]]
CHUNK = 16  # images through the backbone at once


class EpisodeBatch(NamedTuple):
    """B episodes of K shots as the head takes them."""

    support_features: Tensor  # float32 [B, K, D, h, w]
    support_masks: Tensor  # float32 [B, K, h, w], share of foreground in [0, 1]
    support_background: Tensor  # float32 [B, K, h, w], share of background; what is left is ignored (255)
    query_features: Tensor  # float32 [B, D, h, w]
    query_labels: Tensor  # int64 [B, S, S]: 0, 1 or 255 (ignored)


class EpisodeSource(Protocol):
    """Where training and scoring take their batches from: kept features (`FeatureBank`) or images (`ImageSource`)."""

    dataset: SegmentationDataset
    backbone: Backbone
    size: int  # side of the network's square in pixels
    waited: float  # seconds in which training had to wait for images, so far

    def training_batches(self, parts: Sequence[Part], config: TrainingConfig) -> Iterator[EpisodeBatch]:
        """A batch for each part, in order; augmented as `config` says, from its seed, the step and the place alone."""
        ...

    def batch(
        self, episodes: Sequence[Episode], *, edit_support: Callable[[Tensor], Tensor] | None = None
    ) -> EpisodeBatch:
        """Gather episodes as they are; `edit_support` changes the support labels, int64 [B * K, S, S]."""
        ...


class FeatureBank:
    """Backbone features and fixed-size labels of a whole data set.

    Attributes:
        features: float16 array [n, views, h, w, D], channels last; view 1, where `flip` was asked for, is the
            mirrored image.
        labels: uint8 tensor [n, S, S], not mirrored.
    """

    waited = 0.0  # everything is there

    def __init__(
        self,
        dataset: SegmentationDataset,
        backbone: Backbone,
        *,
        size: int,
        flip: bool = False,
        cache_folder: Path | None = None,
        progress: Progress = iter,
        device: str | torch.device = "cpu",
    ) -> None:
        """Compute (or find in `cache_folder`) the features of `dataset` squashed to `size` pixels.

        A file that a stopped run left unfinished is continued.
        """
        self.dataset: SegmentationDataset = dataset
        self.backbone, self.size = backbone, size
        views, cells = 2 if flip else 1, -(-size // backbone.stride)
        shape = (len(dataset), views, cells, cells, backbone.out_channels)
        self.labels = torch.zeros((len(dataset), size, size), dtype=torch.uint8)
        self.features, done_file = self._storage(shape, cache_folder)
        written = done_file.read_text() if done_file is not None and done_file.exists() else ""
        done = int(written) if written.isdigit() else 0  # empty where a run was killed as it wrote the number
        for start in progress(range(0, len(dataset), CHUNK)):
            rows = range(start, min(start + CHUNK, len(dataset)))
            samples = [resize_sample(dataset[i], size) for i in rows]
            self.labels[rows.start : rows.stop] = torch.stack([sample.labels for sample in samples])
            if rows.stop <= done:
                continue
            images = normalise(torch.stack([sample.image for sample in samples])).to(device)
            for view in range(views):
                features = backbone(images.flip(-1) if view else images)
                self.features[rows.start : rows.stop, view] = features.permute(0, 2, 3, 1).half().cpu().numpy()
            if done_file is not None:
                done_file.write_text(str(rows.stop))

    @classmethod
    def from_arrays(
        cls, dataset: SegmentationDataset, backbone: Backbone, *, size: int, features: np.ndarray, labels: Tensor
    ) -> FeatureBank:
        """A bank of what is known already, laid out as its attributes are."""
        bank = cls.__new__(cls)
        bank.dataset, bank.backbone, bank.size = dataset, backbone, size
        bank.features, bank.labels = features, labels
        return bank

    def _storage(self, shape: tuple[int, ...], cache_folder: Path | None) -> tuple[np.ndarray, Path | None]:
        if cache_folder is None:
            return np.empty(shape, dtype=np.float16), None
        what = f"{self.dataset.fingerprint} {self.backbone.cache_key} {self.size} {shape}"
        key = hashlib.sha256(what.encode()).hexdigest()[:24]
        cache_folder.mkdir(parents=True, exist_ok=True)
        path, done_file = cache_folder / f"{key}.npy", cache_folder / f"{key}.done"
        if path.exists() and done_file.exists():
            return np.lib.format.open_memmap(path, mode="r+"), done_file
        done_file.unlink(missing_ok=True)
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape), done_file

    def seen_by_training(self, view: TrainingView) -> FeatureBank:
        """The same features with the labels and areas of a training view of the same data set."""
        if view.dataset is not self.dataset:
            raise ValueError(f"the view is of {view.dataset.name}, the features are of {self.dataset.name}")
        bank = copy.copy(self)
        bank.dataset, bank.labels = view, view.relabel(self.labels)
        return bank

    def take(self, index: int, view: int = 0) -> Tensor:
        """Features of one image, float32 [D, h, w]."""
        return self._pixels(index, view).permute(2, 0, 1)  # [h, w, D] -> [D, h, w]

    def _pixels(self, index: int, view: int) -> Tensor:
        return torch.from_numpy(np.asarray(self.features[index, view])).float()

    def binary_labels(self, index: int, class_index: int, view: int = 0) -> Tensor:
        """Labels of one class at the fixed size, int64 [S, S]: 1 the class, 0 anything else, 255 ignored."""
        labels = self.labels[index]
        return binary(labels.flip(-1) if view else labels, label_value(self.dataset, index, class_index))

    def training_batches(self, parts: Sequence[Part], config: TrainingConfig) -> Iterator[EpisodeBatch]:
        """A batch for each part, in order; images are mirrored at random where asked for and where views are kept.

        Raises:
            ValueError: an augmentation is set that kept features cannot have.
        """
        wrong = [name for name in ("scale", "rotation", "blur") if getattr(config, name)]
        if wrong:
            raise ValueError(
                f"{wrong[0]} is {getattr(config, wrong[0])}, but kept features cannot be augmented so; set it to 0"
            )
        flip = config.flip and self.features.shape[1] > 1
        for part in parts:
            yield self.batch(part.episodes, mirrored_views(part, config) if flip else None)

    def batch(
        self,
        episodes: Sequence[Episode],
        views: list[list[int]] | None = None,
        *,
        edit_support: Callable[[Tensor], Tensor] | None = None,
    ) -> EpisodeBatch:
        """Gather episodes. `views[b]` gives the view (0 or 1) of the query and then of each support image.

        `edit_support` changes the support labels, int64 [B * K, S, S] with 0, 1 and 255.
        """
        cells = self.features.shape[2:4]
        queries, query_labels, supports, support_labels = [], [], [], []
        for row, episode in enumerate(episodes):
            view = views[row] if views is not None else [0] * (1 + len(episode.support))
            queries.append(self._pixels(episode.query, view[0]))
            query_labels.append(self.binary_labels(episode.query, episode.class_index, view[0]))
            for index, own_view in zip(episode.support, view[1:], strict=True):
                supports.append(self._pixels(index, own_view))
                support_labels.append(self.binary_labels(index, episode.class_index, own_view))
        shots = (len(episodes), len(episodes[0].support))
        labels = torch.stack(support_labels)  # [B * K, S, S]
        labels = labels if edit_support is None else edit_support(labels)
        stacked = torch.stack(supports).permute(0, 3, 1, 2)  # [B * K, h, w, D] -> [B * K, D, h, w], channels last
        return EpisodeBatch(
            support_features=stacked.reshape(*shots, *stacked.shape[1:]),  # [B * K, D, h, w] -> [B, K, D, h, w]
            support_masks=masks_at(labels == 1, (cells[0], cells[1])).reshape(*shots, *cells),
            support_background=masks_at(labels == 0, (cells[0], cells[1])).reshape(*shots, *cells),
            query_features=torch.stack(queries).permute(0, 3, 1, 2),
            query_labels=torch.stack(query_labels),
        )


def binary(labels: Tensor, value: int) -> Tensor:
    """Index labels to those of the class that `value` stands for (see `label_value`): int64 with 1, 0 and 255."""
    target = (labels == value).long()
    return target.masked_fill(labels == 255, 255)
