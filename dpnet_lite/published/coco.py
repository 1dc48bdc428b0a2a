"""COCO-20i: COCO's instances as class masks, for four interleaved folds of 20 classes.

Layout (the official one; the image folders may also lie in ROOT/images):

    ROOT/train2014/COCO_train2014_000000000009.jpg     ROOT/val2014/...     (2017: train2017/000000000009.jpg)
    ROOT/annotations/instances_train2014.json          ROOT/annotations/instances_val2014.json

Class index i, in the order of the category ids, belongs to fold i % 4: `folds.novel_classes(80, fold)`.
"""

from __future__ import annotations

import filecmp
from pathlib import Path

from torch import Tensor

from dpnet_lite.datasets.images import read_mask
from dpnet_lite.features import Progress
from dpnet_lite.published.coco_masks import COCO_CLASSES, draw_masks
from dpnet_lite.published.mask_index import MaskedDataset

YEARS = (2014, 2017)
SPLITS = ("train", "val")


class Coco20i(MaskedDataset):
    """One split of COCO with class masks.

    Opening it draws the masks that are not in the cache yet (see `coco_masks`). Images without any annotation are left
    out. Images may be absent until one is asked for: counts and episodes need the annotations alone.

    Args:
        root: the folder with annotations/.
        split: "train" or "val".
        year: 2014 or 2017; if None, the one that `find_year` finds: 2014 where it is whole, which published work on
            COCO-20i uses [HSNet, PFENet].
        cache_folder: for masks and counts; the user's cache if None.
        workers: processes that draw masks.
        progress: wraps the loops that take long.

    Raises FileNotFoundError: no annotations; ValueError: no such split or year, or the annotations do not make sense.
    """

    class_names = COCO_CLASSES

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
        root = Path(root).expanduser()
        self.split, self.name = split, f"coco20i-{split}"
        self.year = find_year(root, split) if year is None else year
        cache = None if cache_folder is None else Path(cache_folder)
        annotations = annotation_path(root, split, self.year)
        self.masks = draw_masks(annotations, cache_folder=cache, workers=workers, progress=progress)
        self.ids = tuple(Path(name).stem for name in self.masks.file_names)
        self._images = image_folder(root, split, self.year)
        self._cache_folder, self._progress = self.masks.folder.parent, progress

    def _content(self) -> str:
        return self.masks.content

    def image_path(self, index: int) -> Path:
        """The file that the annotations name."""
        return self._images / self.masks.file_names[index]

    def read_labels(self, index: int) -> Tensor:
        """Labels of an image, uint8 [H, W]: 0, class index + 1, or 255 for crowds."""
        return read_mask(self.masks.mask_path(index))


def annotation_path(root: Path, split: str, year: int) -> Path:
    """Where the annotations of a split lie. Raises ValueError: no such split or year."""
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(SPLITS)}")
    if year not in YEARS:
        raise ValueError(f"year is {year}; choose one of {', '.join(map(str, YEARS))}")
    return root / "annotations" / f"instances_{split}{year}.json"


def image_folder(root: Path, split: str, year: int) -> Path:
    """ROOT/images/SPLIT+YEAR where that exists, else ROOT/SPLIT+YEAR."""
    nested = root / "images" / f"{split}{year}"
    return nested if nested.is_dir() else root / f"{split}{year}"


def refuse_lists(lists: str | Path | None) -> None:
    """ValueError where lists were given."""
    if lists is not None:
        raise ValueError(f"lists is {lists}, but COCO-20i takes its images from the annotations; leave it out")


def refuse_two_years(root: Path) -> None:
    """ValueError where the splits are of two years; FileNotFoundError where there is one alone."""
    years = {split: find_year(root, split) for split in SPLITS}
    first, second = (annotation_path(root, split, year) for split, year in years.items())
    if filecmp.cmp(first, second, shallow=False):
        raise ValueError("train and val have the same annotations; unpack COCO's annotations_trainval2014.zip")
    if len({*years.values()}) > 1:
        text = "train and val are of two years, and train2017 holds images of val2014"
        raise ValueError(f"{text}; unpack COCO's annotations_trainval2014.zip, which has both")


def find_year(root: Path, split: str) -> int:
    """The year whose annotations of the split are there; of two, one of which those of both splits are there.

    Where that leaves a choice it is 2014, as in published work. One year for both splits matters: images of val2014
    are in train2017.

    Raises FileNotFoundError: there are none of the split.
    """
    years = [year for year in YEARS if annotation_path(root, split, year).is_file()]
    whole = [year for year in years if all(annotation_path(root, other, year).is_file() for other in SPLITS)]
    if years:
        return (whole or years)[0]
    wanted = annotation_path(root, split, YEARS[0])
    raise FileNotFoundError(f"{wanted} is not there (nor that of 2017); unpack COCO's annotations_trainval2014.zip")
