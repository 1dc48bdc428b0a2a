"""What is known about PASCAL-5i in numbers, and the same numbers of a copy at hand.

Sources. 5,953 training images: VOC2012 train (1,464) united with SBD train_noval (5,623), of which 1,134 are in both;
the same ids as PFENet's published list. 1,449 test images: VOC2012 val. The numbers per fold were counted by this
project on the masks of SegmentationClassAug, by the area rule of PFENet's code; we know of no paper that prints them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dpnet_lite.published.registry import MIN_PIXELS, PUBLISHED, fold_classes


class FoldFacts(NamedTuple):
    """Images of one fold."""

    train_images: int  # of train, with 2,048 px or more of at least one base class
    of_them_with_novel: int  # of these, with any pixel of a novel class
    val_images: int  # of val, with 2,048 px or more of at least one novel class
    novel_pixels: int  # of novel classes, in all the training images of the fold


class PascalFacts(NamedTuple):
    """Images of both splits, and of the four folds."""

    train_images: int
    val_images: int
    folds: tuple[FoldFacts, ...]


PASCAL5I_FACTS = PascalFacts(
    5953,
    1449,
    (
        FoldFacts(4760, 552, 364, 7_291_794),
        FoldFacts(4588, 862, 445, 20_874_677),
        FoldFacts(4097, 1345, 592, 43_844_379),
        FoldFacts(5108, 598, 336, 17_977_968),
    ),
)
# Pixels of the training images of each fold, ignored ones included.
_TRAIN_PIXELS = (856_746_110, 822_066_564, 735_457_256, 916_132_665)
NOVEL_SHARES = tuple(
    fold.novel_pixels / pixels for fold, pixels in zip(PASCAL5I_FACTS.folds, _TRAIN_PIXELS, strict=True)
)


def measured_facts(train_pixels: np.ndarray, val_pixels: np.ndarray) -> PascalFacts:
    """The same numbers of a copy, from the counts of its masks, int32 [n_images, 20] (`class_pixels`)."""
    entry, folds = PUBLISHED["pascal5i"], []
    for fold in range(entry.n_folds):
        classes = fold_classes("pascal5i", fold, "val")
        base, novel = list(classes.base), list(classes.novel)
        is_used = (train_pixels[:, base] >= MIN_PIXELS).any(axis=1)  # bool [n_images]
        shows_novel = (train_pixels[:, novel] > 0).any(axis=1)
        is_test = (val_pixels[:, novel] >= MIN_PIXELS).any(axis=1)
        n_mixed, n_novel = int((is_used & shows_novel).sum()), int(train_pixels[is_used][:, novel].sum(dtype=np.int64))
        folds.append(FoldFacts(int(is_used.sum()), n_mixed, int(is_test.sum()), n_novel))
    return PascalFacts(len(train_pixels), len(val_pixels), tuple(folds))


def differences(measured: PascalFacts) -> list[str]:
    """One plain line for every number that is not the published one; empty where all are."""
    known = PASCAL5I_FACTS
    rows = [
        ("images of train", measured.train_images, known.train_images),
        ("images of val", measured.val_images, known.val_images),
    ]
    texts = (
        f"training images with {MIN_PIXELS:,} px of a base class",
        "of these with a novel class",
        f"test images with {MIN_PIXELS:,} px of a novel class",
        "pixels of novel classes in its training images",
    )
    for fold, figures in enumerate(zip(measured.folds, known.folds, strict=True)):
        rows += [(f"fold {fold}, {text}", *pair) for text, pair in zip(texts, zip(*figures, strict=True), strict=True)]
    return [f"{text}: {ours:,} here, {theirs:,} in the published data" for text, ours, theirs in rows if ours != theirs]
