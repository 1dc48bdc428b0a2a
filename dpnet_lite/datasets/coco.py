"""COCO-20i: COCO's instances as class masks, for four interleaved folds of 20 classes.

Layout (the official one; the image folders may also lie in ROOT/images):

    ROOT/train2014/COCO_train2014_000000000009.jpg     ROOT/val2014/...     (2017: train2017/000000000009.jpg)
    ROOT/annotations/instances_train2014.json          ROOT/annotations/instances_val2014.json

Class index i, in the order of the category ids, belongs to fold i % 4: `folds.novel_classes(80, fold)`.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from .base import Sample
from .coco_masks import draw_masks
from .images import read_image, read_mask
from .mask_index import Progress, build_index

CocoSplit = Literal["train", "val"]
YEARS = (2014, 2017)


class Coco20i:
    """One split of COCO with class masks.

    The first use draws the masks and counts them (see `coco_masks`), later ones find both in the cache. Images
    without any annotation are left out. Images may be absent until one is asked for: indices, folds and episodes need
    the annotations alone.

    Args:
        root: the folder with annotations/.
        split: "train" or "val".
        year: of the annotation files; may be left out where there is one year only. Published work on COCO-20i uses
            2014 [HSNet, PFENet].
        cache_folder: for masks and counts; the user's cache if None.
        workers: processes that draw masks.
        progress: wraps the loops that take long.

    Attributes:
        name: "coco20i".
        class_names: the 80 classes, in the order of the category ids.
        ids: names of the images without extension, ascending.
        index: counts of the masks, a `MaskIndex`.

    Raises:
        FileNotFoundError: no annotations.
        ValueError: no such split or year, or two years where none was named; the annotations do not make sense.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        year: int | None = None,
        cache_folder: str | Path | None = None,
        workers: int = 1,
        progress: Progress = iter,
    ) -> None:
        self.root, self.split, self.name = Path(root).expanduser(), split, "coco20i"
        self.year = find_year(self.root, split) if year is None else year
        cache = None if cache_folder is None else Path(cache_folder)
        annotations = annotation_path(self.root, split, self.year)
        self._masks = draw_masks(annotations, cache_folder=cache, workers=workers, progress=progress)
        self.class_names, self.ids = self._masks.class_names, self._masks.ids
        self.index = build_index(
            self.ids, self.read_labels, len(self.class_names), content=self._masks.content,
            cache_folder=self._masks.folder.parent, progress=progress,
        )  # fmt: skip

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, split and counts; neither images nor places of files are part of it."""
        return hashlib.sha256(f"{self.name} {self.split} {self.index.sha256}".encode()).hexdigest()

    @property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, 80] in [0, 1]: share of all pixels, ignored ones included."""
        return self.index.areas

    @property
    def class_pixels(self) -> np.ndarray:
        """int32 [n_images, 80]: pixels of the class at the image's own size."""
        return self.index.pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Image and labels at the image's own size.

        Raises:
            FileNotFoundError: the image is not there.
            ValueError: the image is broken, or has another size than its annotations say.
        """
        path = image_folder(self.root, self.split, self.year) / self._masks.file_names[index]
        image, labels = read_image(path), self.read_labels(index)
        if image.shape[1:] != labels.shape:
            raise ValueError(
                f"{path} is {image.shape[2]} x {image.shape[1]} pixels, but its annotations are for "
                f"{labels.shape[1]} x {labels.shape[0]}; get the image again"
            )
        return Sample(image, labels)

    def read_labels(self, index: int) -> Tensor:
        """Labels of an image, uint8 [H, W]: 0, class index + 1, or 255 for crowds."""
        return read_mask(self._masks.mask_path(index))


def annotation_path(root: Path, split: str, year: int) -> Path:
    """Where the annotations of a split lie.

    Raises:
        ValueError: no such split or year.
    """
    if split not in get_args(CocoSplit):
        raise ValueError(f"split is {split!r}; choose one of {', '.join(get_args(CocoSplit))}")
    if year not in YEARS:
        raise ValueError(f"year is {year}; choose one of {', '.join(map(str, YEARS))}")
    return root / "annotations" / f"instances_{split}{year}.json"


def image_folder(root: Path, split: str, year: int) -> Path:
    """ROOT/images/SPLIT+YEAR where that exists, else ROOT/SPLIT+YEAR."""
    nested = root / "images" / f"{split}{year}"
    return nested if nested.is_dir() else root / f"{split}{year}"


def find_year(root: Path, split: str) -> int:
    """The year whose annotations are there.

    Raises:
        FileNotFoundError: of none.
        ValueError: of two.
    """
    years = [year for year in YEARS if annotation_path(root, split, year).is_file()]
    if not years:
        wanted = annotation_path(root, split, YEARS[0])
        raise FileNotFoundError(f"{wanted} is not there (nor that of 2017); unpack COCO's annotations_trainval2014.zip")
    if len(years) > 1:
        raise ValueError(f"{root / 'annotations'} has the years {years[0]} and {years[1]}; name one with year=")
    return years[0]
