"""Episodes straight from the images, for data sets whose features fit into no memory.

Worker processes decode and squash the images ahead of time; augmentation and the frozen backbone run on the device.
`FeatureBank` is the other way: it has every image's features ready, and cannot augment.
"""

from __future__ import annotations

import signal
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.datasets.transforms import normalise, resize_labels, resize_sample
from dpnet_lite.episodes import Episode, Part
from dpnet_lite.features import EditLabels, assemble, binary, images_in_order
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.published.augmentation import augment, draw_views

_PREFETCH = 4  # parts that each worker keeps ready
_GRACE = 20  # seconds that a worker lives on when it is told to end


class ImageSource:
    """Batches of episodes from the images of a data set: an `EpisodeSource`.

    Args:
        dataset: gives images and labels, for training as a `TrainingView`.
        backbone: frozen; its device is where augmentation and features are computed.
        size: side S of the network's square in pixels.
        workers: processes that decode for training; 0 decodes in this one.
        kept: features of at most this many images are kept, as float16 on the CPU, for `batch`.
    """

    def __init__(
        self, dataset: SegmentationDataset, backbone: Backbone, *, size: int, workers: int = 0, kept: int = 0
    ) -> None:
        if workers < 0 or kept < 0:
            raise ValueError(f"workers is {workers} (kept images: {kept}); give 0 or more")
        self.dataset, self.backbone, self.size = dataset, backbone, size
        self.workers, self.kept = workers, kept
        self.device = next(backbone.parameters()).device
        self.waited = 0.0
        self._features: OrderedDict[int, Tensor] = OrderedDict()

    def training_batches(self, parts: Sequence[Part], config: TrainingConfig) -> Iterator[EpisodeBatch]:
        """A batch for each part, in order, augmented as `config` says."""
        loader = DataLoader(
            _DecodedParts(self.dataset, parts, self.size),
            batch_size=None,
            num_workers=self.workers,
            prefetch_factor=_PREFETCH if self.workers else None,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_outlive_interrupts,
            generator=torch.Generator(),
        )
        decoded_parts = iter(loader)
        for part in parts:
            started = time.perf_counter()
            try:
                decoded = next(decoded_parts)
            except (ValueError, OSError) as error:
                raise type(error)(_own_words(error)) from error
            self.waited += time.perf_counter() - started
            images, labels = (tensor.to(self.device, non_blocking=True) for tensor in decoded)
            views = draw_views(part, config)
            ordered = [views[row * (1 + config.n_shot) + place] for row, place, _ in images_in_order(part.episodes)]
            images, labels = augment(images, labels, ordered)
            yield assemble(self.backbone(normalise(images)), labels.long(), len(part.episodes))

    def batch(self, episodes: Sequence[Episode], *, edit_support: EditLabels | None = None) -> EpisodeBatch:
        """Gather episodes of one number of shots as they are, for scoring."""
        features, labels = [], []
        for _, place, episode in images_in_order(episodes):
            index = episode.images[place]
            own_features, own_labels = self._image(index)
            features.append(own_features)
            labels.append(one_class(self.dataset, own_labels, index, episode.class_index))
        stacked = torch.stack(features).float().to(self.device)
        return assemble(stacked, torch.stack(labels).to(self.device).long(), len(episodes), edit_support)

    def _image(self, index: int) -> tuple[Tensor, Tensor]:
        """Features, float16 [D, h, w], and squashed labels, uint8 [S, S], of one image."""
        if index in self._features:
            self._features.move_to_end(index)
            return self._features[index], resize_labels(self.dataset.read_labels(index), self.size)
        sample = resize_sample(self.dataset[index], self.size)
        features = self.backbone(normalise(sample.image[None]).to(self.device))[0].half().cpu()
        self._features[index] = features
        while len(self._features) > self.kept:
            self._features.popitem(last=False)
        return features, sample.labels


class _DecodedParts(Dataset[tuple[Tensor, Tensor]]):
    """Part k's images, uint8 [B + B * K, 3, S, S], and labels [B + B * K, S, S], in order; what the workers run."""

    def __init__(self, dataset: SegmentationDataset, parts: Sequence[Part], size: int) -> None:
        self.dataset, self.parts, self.size = dataset, parts, size

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        images, labels = [], []
        for _, place, episode in images_in_order(self.parts[number].episodes):
            index = episode.images[place]
            sample = resize_sample(self.dataset[index], self.size)
            images.append(sample.image)
            labels.append(one_class(self.dataset, sample.labels, index, episode.class_index))
        return torch.stack(images), torch.stack(labels)


def one_class(dataset: SegmentationDataset, labels: Tensor, index: int, class_index: int) -> Tensor:
    """Labels of image `index`, uint8 of any shape, as those of one class: 1 the class, 0 anything else, 255 ignored."""
    return binary(labels, dataset.label_value(index, class_index)).to(torch.uint8)


def _outlive_interrupts(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach every process: workers leave the main one time to save and to end them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


def _own_words(error: Exception) -> str:
    """What an error said in its worker: PyTorch puts a traceback around it."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    text = lines[-1].removeprefix(f"{type(error).__name__}: ")
    return f"{text}; check the path and its rights" if text.startswith("[Errno") else text  # the system's own
