"""Where batches of episodes come from: features of a frozen backbone, computed once for every image and kept.

The backbone never changes while a head trains, so its features of an image never do either. They are kept as
float16, in memory or in a memory-mapped file that a second run finds again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import KnownAreas, SegmentationDataset
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.transforms import normalise, resize_sample
from dpnet_lite.episodes import Episode, Part
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.model.prototypes import masks_at

Progress = Callable[[Iterable[int]], Iterable[int]]
EditLabels = Callable[[Tensor], Tensor]  # changes support labels, int64 [B * K, S, S] with 0, 1 and 255
_Arrays = dict[str, tuple[Any, tuple[int, ...]]]  # kind and shape of each file of a cache, by its name
CHUNK = 16  # images through the backbone at once


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
    """Backbone features and labels of a whole data set, squashed to one size; see `compute_features`."""

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
    supports = (supports if edit_support is None else edit_support(supports)).unflatten(0, (n_episodes, -1))
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


def default_cache() -> Path:
    """`dpnet_lite` in the user's folder for caches: what can be made again, features, indices, rasterised masks."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpnet_lite"


def compute_features(
    dataset: SegmentationDataset,
    backbone: Backbone,
    *,
    size: int,
    flip: bool = False,
    cache_folder: Path | None = None,
    progress: Progress = iter,
    device: str | torch.device = "cpu",
) -> FeatureBank:
    """The features of a data set squashed to `size` pixels.

    Args:
        flip: also those of the mirrored images, as a second view.
        cache_folder: where they are kept for the next run, or for other processes, which wait for the first one. Work
            that was broken off is continued. None keeps them in memory.
        progress: wraps the loop over images.
        device: where the backbone is.
    """
    cells, views = -(-size // backbone.stride), 2 if flip else 1
    shape = (len(dataset), views, cells, cells, backbone.out_channels)
    starts = range(0, len(dataset), CHUNK)
    if cache_folder is None:
        features, labels = np.empty(shape, np.float16), np.empty((len(dataset), size, size), np.uint8)
        for _ in _compute(dataset, backbone, features, labels, progress(starts), device):
            pass
        return FeatureBank(dataset, backbone, size, features, torch.from_numpy(labels))
    what = f"{dataset.fingerprint} {backbone.cache_key} {size} {shape}"
    path = cache_folder / hashlib.sha256(what.encode()).hexdigest()[:24]
    path.mkdir(parents=True, exist_ok=True)
    arrays: _Arrays = {
        "features": (np.float16, shape),
        "labels": (np.uint8, (len(dataset), size, size)),
        "areas": (np.float32, (len(dataset), len(dataset.class_names))),
    }
    with FileLock(path / "lock"):  # a process that is killed lets the next in
        if not all(_is_whole(path / f"{name}.npy", *array) for name, array in arrays.items()):
            _fill(path, arrays, dataset, backbone, progress, device)
    # Copy on write: torch wants arrays that it could write to.
    features, labels = np.load(path / "features.npy", mmap_mode="c"), np.load(path / "labels.npy")
    known = KnownAreas(dataset, np.load(path / "areas.npy"))
    return FeatureBank(known, backbone, size, features, torch.from_numpy(labels))


def _fill(
    path: Path,
    arrays: _Arrays,
    dataset: SegmentationDataset,
    backbone: Backbone,
    progress: Progress,
    device: str | torch.device,
) -> None:
    """Compute what is missing of the files in `path`."""
    features, labels, done_file = _started(path, {name: arrays[name] for name in ("features", "labels")})
    starts = range(int(done_file.read_text()), len(dataset), CHUNK)
    if len(starts):
        for stop in _compute(dataset, backbone, features, labels, progress(starts), device):
            done_file.write_text(str(stop))
    np.save(path / "areas.tmp.npy", dataset.class_areas)
    (path / "areas.tmp.npy").replace(path / "areas.npy")  # last: where it lies, the others are full


def _is_whole(file: Path, dtype: Any, shape: tuple[int, ...]) -> bool:
    """Whether a file holds an array of that kind, none of it cut off."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return array.dtype == dtype and array.shape == shape


def _started(path: Path, arrays: _Arrays) -> tuple[np.ndarray, np.ndarray, Path]:
    """Arrays to fill, and the file that holds how many images are done; begun anew where one of them is damaged."""
    done_file, files = path / "done", [path / f"{name}.npy" for name in arrays]
    is_sound = all(_is_whole(file, *array) for file, array in zip(files, arrays.values(), strict=True))
    if not (is_sound and done_file.exists() and done_file.read_text().isdigit()):
        done_file.unlink(missing_ok=True)
        (path / "areas.npy").unlink(missing_ok=True)
        for file, (dtype, shape) in zip(files, arrays.values(), strict=True):
            np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        done_file.write_text("0")
    features, labels = (np.lib.format.open_memmap(file, mode="r+") for file in files)
    return features, labels, done_file


@torch.no_grad()
def _compute(
    dataset: SegmentationDataset,
    backbone: Backbone,
    features: np.ndarray,
    labels: np.ndarray,
    starts: Iterable[int],
    device: str | torch.device,
) -> Iterator[int]:
    """Fill in features and labels chunk by chunk; gives how many images are done."""
    for start in starts:
        rows = slice(start, min(start + CHUNK, len(dataset)))
        samples = [resize_sample(dataset[i], labels.shape[-1]) for i in range(rows.start, rows.stop)]
        labels[rows] = np.stack([sample.labels.numpy() for sample in samples])
        images = normalise(torch.stack([sample.image for sample in samples])).to(device)
        for view in range(features.shape[1]):
            found = backbone(images.flip(-1) if view else images)
            features[rows, view] = found.permute(0, 2, 3, 1).half().cpu().numpy()  # [n, D, h, w] -> [n, h, w, D]
        yield rows.stop
