"""What is known about PASCAL-5i in numbers, and the same numbers of a copy at hand.

Sources. 5,953 training images: VOC2012 train (1,464) united with SBD train_noval (5,623), of which 1,134 are in both;
the same ids as PFENet's published list. 1,449 test images: VOC2012 val. The numbers per fold were counted by this
project on the masks of SegmentationClassAug, by the area rule of PFENet's code; no paper prints them.
"""

from __future__ import annotations

from typing import NamedTuple

from .base import CountedDataset
from .folds import base_classes, novel_classes
from .published import MIN_PIXELS, PUBLISHED


class FoldFacts(NamedTuple):
    """Images of one fold."""

    train_images: int  # of train, with 2,048 px or more of at least one base class
    of_them_with_novel: int  # of these, with any pixel of a novel class
    val_images: int  # of val, with 2,048 px or more of at least one novel class


class PascalFacts(NamedTuple):
    """Images of both splits, and of the four folds."""

    train_images: int
    val_images: int
    folds: tuple[FoldFacts, ...]


PASCAL5I_FACTS = PascalFacts(
    5953,
    1449,
    (FoldFacts(4760, 552, 364), FoldFacts(4588, 862, 445), FoldFacts(4097, 1345, 592), FoldFacts(5108, 598, 336)),
)


def measured_facts(train: CountedDataset, val: CountedDataset) -> PascalFacts:
    """The same numbers of a copy."""
    entry, folds = PUBLISHED["pascal5i"], []
    assert entry.layout is not None
    for fold in range(entry.n_folds):
        novel = list(novel_classes(entry.n_classes, fold, entry.n_folds, entry.layout))
        base = list(base_classes(entry.n_classes, fold, entry.n_folds, entry.layout))
        is_used = (train.class_pixels[:, base] >= MIN_PIXELS).any(axis=1)  # bool [n_images]
        shows_novel = (train.class_pixels[:, novel] > 0).any(axis=1)
        is_test = (val.class_pixels[:, novel] >= MIN_PIXELS).any(axis=1)
        folds.append(FoldFacts(int(is_used.sum()), int((is_used & shows_novel).sum()), int(is_test.sum())))
    return PascalFacts(len(train), len(val), tuple(folds))
