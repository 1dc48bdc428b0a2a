"""The three published benchmarks by name: how each is opened, split into folds and filtered.

PASCAL-5i has blocked folds: fold i has the classes 5i to 5i + 4. COCO-20i has interleaved ones: i, i + 4, i + 8 ...
FSS-1000 has none: its classes themselves are split. That an image serves a class of which it shows 2,048 px at its own
size, 2 x 32 x 32, is PFENet's rule [precedent] for the first two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from dpnet_lite.datasets.folds import FoldLayout, base_classes, novel_classes

if TYPE_CHECKING:  # the command line lists the names without loading torch
    from dpnet_lite.features import Progress
    from dpnet_lite.published.mask_index import MaskedDataset

MIN_PIXELS = 2 * 32 * 32
PublishedName = Literal["pascal5i", "coco20i", "fss1000"]


@dataclass(frozen=True)
class PublishedDataset:
    """What is fixed about a benchmark, whichever copy of it is opened."""

    name: PublishedName
    title: str
    n_classes: int
    n_folds: int  # 1: classes are split, not folded
    layout: FoldLayout | None  # None where there are no folds
    splits: tuple[str, ...]
    test_split: str  # the images or classes that results are reported on
    min_pixels: int  # of the class in an image that an episode may use


class FoldClasses(NamedTuple):
    """Class indices (from 0, ascending) into the `class_names` of the split at hand."""

    base: tuple[int, ...]
    novel: tuple[int, ...]


PUBLISHED: dict[str, PublishedDataset] = {
    entry.name: entry
    for entry in (
        PublishedDataset("pascal5i", "PASCAL-5i", 20, 4, "blocked", ("train", "val"), "val", MIN_PIXELS),
        PublishedDataset("coco20i", "COCO-20i", 80, 4, "interleaved", ("train", "val"), "val", MIN_PIXELS),
        PublishedDataset("fss1000", "FSS-1000", 1_000, 1, None, ("train", "val", "test"), "test", 0),
    )
}


def published(name: str) -> PublishedDataset:
    """The entry of a benchmark. Raises ValueError: no such benchmark."""
    if name not in PUBLISHED:
        raise ValueError(f"there is no published data set {name!r}; choose one of {', '.join(get_args(PublishedName))}")
    return PUBLISHED[name]


def fold_classes(name: str, fold: int, split: str, *, n_split_classes: int | None = None) -> FoldClasses:
    """Base and novel classes of a fold.

    Args:
        fold: 0 to 3, or 0 alone where there are no folds.
        split: all classes of FSS-1000's "train" are base classes, all of its "val" and "test" are novel.
        n_split_classes: how many classes the split has; FSS-1000 needs it.

    Raises ValueError: no such benchmark, fold or split, or `n_split_classes` missing for FSS-1000.
    """
    entry = published(name)
    _check_split(entry, split)
    if not 0 <= fold < entry.n_folds:
        few = "has no folds; fold 0 stands for all of it" if entry.layout is None else "has folds 0 to 3"
        raise ValueError(f"fold is {fold}, but {entry.title} {few}")
    if entry.layout is not None:
        arguments = (entry.n_classes, fold, entry.n_folds, entry.layout)
        return FoldClasses(base_classes(*arguments), novel_classes(*arguments))
    if n_split_classes is None:
        raise ValueError(f"{entry.title} splits its classes; give n_split_classes=len(dataset.class_names)")
    classes = tuple(range(n_split_classes))
    return FoldClasses(classes, ()) if split == "train" else FoldClasses((), classes)


def open_published(
    name: str,
    root: str | Path,
    split: str,
    *,
    cache_folder: Path | None = None,
    lists: str | Path | None = None,
    progress: Progress = iter,
) -> MaskedDataset:
    """Open one split of a benchmark.

    Args:
        root: folder of the copy, in an official layout.
        cache_folder: where counts and drawn masks are kept.
        lists: list files of one's own; COCO-20i takes none.
        progress: wraps the loops of the first use.

    Raises ValueError: no such benchmark or split, or lists for COCO-20i; FileNotFoundError: a part of the copy is
    absent.
    """
    entry = published(name)
    _check_split(entry, split)
    if entry.name == "pascal5i":
        from dpnet_lite.published.pascal import Pascal5i

        return Pascal5i(root, split, lists=lists, cache_folder=cache_folder, progress=progress)
    if entry.name == "coco20i":
        from dpnet_lite.published.coco import Coco20i, refuse_lists

        refuse_lists(lists)
        return Coco20i(root, split, cache_folder=cache_folder, progress=progress)
    from dpnet_lite.published.fss import Fss1000

    return Fss1000(root, split, lists=lists, cache_folder=cache_folder)


def _check_split(entry: PublishedDataset, split: str) -> None:
    if split not in entry.splits:
        raise ValueError(f"split is {split!r}; {entry.title} has {', '.join(entry.splits)}")
