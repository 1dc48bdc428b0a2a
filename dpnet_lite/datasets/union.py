"""Several data sets as one, for training on the classes of further folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

import numpy as np
import torch

from dpnet_lite.datasets.base import IGNORE_LABEL, MAX_CLASSES, DatasetDefaults, Sample, SegmentationDataset


class UnionDataset(DatasetDefaults):
    """The images and the classes of several data sets, one after the other.

    Classes of the first keep their names and numbers; those of the others are called "data set's name/class"
    and their labels are shifted. Classes stay apart even where two data sets use one name. A class has labels
    only in the images of its own data set: elsewhere its area is 0 and its pixels, if any, are background.

    Args:
        datasets: one or more; all their classes together must fit 8-bit labels.
        name: short name for people; the names joined by " + " if not given.

    Attributes:
        class_ranges: per data set, the class indices that are its own.
        image_ranges: per data set, the image indices that are its own.

    Raises:
        ValueError: no data set, or more than 254 classes in all.
    """

    def __init__(self, datasets: Sequence[SegmentationDataset], *, name: str | None = None) -> None:
        if not datasets:
            raise ValueError("a union of 0 data sets was asked for; give at least one")
        self.datasets = tuple(datasets)
        self.class_ranges = _consecutive_ranges([len(dataset.class_names) for dataset in datasets])
        self.image_ranges = _consecutive_ranges([len(dataset) for dataset in datasets])
        n_classes = self.class_ranges[-1].stop
        if n_classes > MAX_CLASSES:
            raise ValueError(
                f"the {len(datasets)} data sets have {n_classes} classes together; "
                f"at most {MAX_CLASSES} fit 8-bit labels: leave one out"
            )
        self.name = name or " + ".join(dataset.name for dataset in datasets)
        self.class_names = _joined_class_names(self.datasets)
        self._label_tables = [_label_table(classes) for classes in self.class_ranges]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the fingerprints of the data sets, in their order."""
        fingerprints = "\n".join(dataset.fingerprint for dataset in self.datasets)
        return hashlib.sha256(fingerprints.encode()).hexdigest()

    @cached_property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, n_classes] in [0, 1]: one block per data set on the diagonal, 0 elsewhere."""
        areas = np.zeros((len(self), len(self.class_names)), dtype=np.float32)
        for dataset, images, classes in zip(self.datasets, self.image_ranges, self.class_ranges, strict=True):
            areas[images.start : images.stop, classes.start : classes.stop] = dataset.class_areas
        return areas

    def __len__(self) -> int:
        return self.image_ranges[-1].stop

    def __getitem__(self, index: int) -> Sample:
        """The sample of the data set that holds the image, its labels shifted to the union's classes."""
        index = range(len(self))[index]  # negative indices count from the end; IndexError beyond
        number = next(number for number, images in enumerate(self.image_ranges) if index in images)
        image, labels = self.datasets[number][index - self.image_ranges[number].start]
        return Sample(image, self._label_tables[number][labels.long()])


def _consecutive_ranges(lengths: list[int]) -> tuple[range, ...]:
    stops = accumulate(lengths)
    return tuple(range(stop - length, stop) for stop, length in zip(stops, lengths, strict=True))


def _joined_class_names(datasets: Sequence[SegmentationDataset]) -> tuple[str, ...]:
    names = list(datasets[0].class_names)
    for number, dataset in enumerate(datasets[1:], start=2):
        is_namesake = sum(other.name == dataset.name for other in datasets) > 1
        prefix = f"{dataset.name}#{number}" if is_namesake else dataset.name
        names += [f"{prefix}/{name}" for name in dataset.class_names]
    return tuple(names)


def _label_table(classes: range) -> torch.Tensor:
    """uint8 [256]: the union's label for every label of the data set that owns `classes`."""
    table = torch.full((256,), IGNORE_LABEL, dtype=torch.uint8)
    table[0] = 0
    table[1 : len(classes) + 1] = torch.arange(classes.start + 1, classes.stop + 1, dtype=torch.uint8)
    return table
