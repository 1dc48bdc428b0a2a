"""What every data set offers: samples, class names and the area of every class in every image."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

IGNORE_LABEL = 255  # neither background nor a class: left out of the loss and of the score
MAX_CLASSES = 254  # labels are uint8, 0 is the background and 255 is ignored


class Sample(NamedTuple):
    """One image with its labels.

    Attributes:
        image: uint8 [3, H, W], RGB in [0, 255].
        labels: uint8 [H, W]; 0 is background, k is class k - 1 of `class_names`, 255 is ignored.
    """

    image: Tensor
    labels: Tensor


class SegmentationDataset(Protocol):
    """Images with index labels. Samples may differ in size; the same index always gives the same sample."""

    @property
    def name(self) -> str:
        """Short name for people, such as "toy" or "folder:photos"."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of what determines the content; part of feature caches and of episode hashes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; class index c (from 0) is value c + 1 in the labels."""

    @property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, n_classes] in [0, 1]: share of the image's pixels that the class covers."""

    @property
    def class_pixels(self) -> np.ndarray | None:
        """int32 [n_images, n_classes]: pixels of the class at the image's own size; None where nobody counted."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def label_value(self, index: int, class_index: int) -> int:
        """The value that stands for a class in the labels of an image; -1: the image cannot show the class."""

    def read_labels(self, index: int) -> Tensor:
        """The labels of an image, uint8 [H, W]; the image itself is not read where the data set can do without."""


class DatasetDefaults:
    """What most data sets have in common: labels after the rule of `Sample`, and no counts of pixels."""

    @property
    def class_pixels(self) -> np.ndarray | None:
        return None

    def __getitem__(self, index: int) -> Sample:
        raise NotImplementedError

    def label_value(self, index: int, class_index: int) -> int:
        return class_index + 1

    def read_labels(self, index: int) -> Tensor:
        return self[index].labels


class KnownAreas:
    """A data set whose class areas are known, so that episodes can be drawn without reading an image."""

    def __init__(self, dataset: SegmentationDataset, class_areas: np.ndarray) -> None:
        self.dataset, self.class_areas = dataset, class_areas
        self.name, self.class_names, self.fingerprint = dataset.name, dataset.class_names, dataset.fingerprint

    @property
    def class_pixels(self) -> np.ndarray | None:
        return self.dataset.class_pixels

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[index]

    def label_value(self, index: int, class_index: int) -> int:
        return self.dataset.label_value(index, class_index)

    def read_labels(self, index: int) -> Tensor:
        return self.dataset.read_labels(index)


class CountedDataset(SegmentationDataset, Protocol):
    """A data set of named images whose masks were counted, for rules in pixels rather than shares."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the images, in order."""

    @property
    def class_pixels(self) -> np.ndarray:
        """int32 [n_images, n_classes]: pixels of the class at the image's own size."""


def class_counts(name: object, labels: Tensor, n_classes: int, remedy: str = "") -> np.ndarray:
    """Pixels of every value in labels uint8 [H, W], int64 [256]; ValueError for a value that is no class."""
    counts = np.bincount(labels.numpy().ravel(), minlength=256)
    strange = np.flatnonzero(counts[n_classes + 1 : IGNORE_LABEL]) + n_classes + 1
    if len(strange):
        remedy = remedy or f"there are {n_classes} classes; get the file again"
        raise ValueError(f"{name} holds the value {strange[0]}, but {remedy}")
    return counts
