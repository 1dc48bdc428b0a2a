"""What becomes of novel objects in training images: background, ignored, or the image dropped.

PFENet and HSNet keep them as background, RePRI ignores them, BAM and HDMNet drop the images [precedents]. It is worth
up to about 10 mIoU on PASCAL-5i, so every table of this project names the policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dpnet_lite.datasets.base import IGNORE_LABEL, DatasetDefaults, Sample, SegmentationDataset

NovelPolicy = Literal["background", "ignore", "drop"]


class TrainingView(DatasetDefaults):
    """A data set as training sees it: same images, novel classes treated by `policy`.

    With "drop", an image in which a novel class has any area offers no class at all, so no episode is drawn from it; an
    image that is scored is then never trained on. ValueError for another policy, or a class that is not there.
    """

    def __init__(self, dataset: SegmentationDataset, novel: Sequence[int], policy: NovelPolicy) -> None:
        if policy not in get_args(NovelPolicy):
            raise ValueError(f"novel policy is {policy!r}; choose one of {', '.join(get_args(NovelPolicy))}")
        self.dataset, self.novel, self.policy = dataset, tuple(novel), policy
        if unknown := [index for index in self.novel if index not in range(len(dataset.class_names))]:
            raise ValueError(f"novel class {unknown[0]!r} is none of 0 to {len(dataset.class_names) - 1}")
        self.name, self.class_names = dataset.name, dataset.class_names

    @cached_property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.dataset.fingerprint} {self.novel} {self.policy}".encode()).hexdigest()

    @cached_property
    def class_areas(self) -> np.ndarray:
        return self._seen(self.dataset.class_areas)

    @cached_property
    def class_pixels(self) -> np.ndarray | None:
        """As the data set has it, if it has counts."""
        pixels = self.dataset.class_pixels
        return None if pixels is None else self._seen(pixels)

    def _seen(self, counts: np.ndarray) -> np.ndarray:
        """What training sees of areas or counts [n_images, n_classes]."""
        seen = counts.copy()
        if self.policy == "drop":
            seen[(self.dataset.class_areas[:, list(self.novel)] > 0).any(axis=1)] = 0
        seen[:, list(self.novel)] = 0
        return seen

    def label_value(self, index: int, class_index: int) -> int:
        return self.dataset.label_value(index, class_index)

    def relabel(self, labels: Tensor) -> Tensor:
        """Labels as training sees them, uint8 of any shape: novel classes become 255 under "ignore"."""
        if self.policy != "ignore":
            return labels
        table = torch.arange(256, dtype=torch.uint8)
        table[[index + 1 for index in self.novel]] = IGNORE_LABEL
        return table[labels.long()]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[index]
        return Sample(sample.image, self.relabel(sample.labels))
