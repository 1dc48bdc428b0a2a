"""Splitting the classes into folds: each fold's classes are novel once and base in all other folds."""

from __future__ import annotations

from typing import Literal, get_args

FoldLayout = Literal["interleaved", "blocked"]


def novel_classes(n_classes: int, fold: int, n_folds: int = 4, layout: FoldLayout = "interleaved") -> tuple[int, ...]:
    """Class indices (from 0, ascending) that the network never sees in training in this fold.

    Args:
        n_classes: number of classes of the data set.
        fold: fold number in [0, n_folds).
        n_folds: number of folds in [2, n_classes].
        layout: "interleaved" takes fold, fold + n_folds, ... (precedent: COCO-20i); "blocked" takes runs
            of neighbours (precedent: PASCAL-5i). Where n_folds does not divide n_classes, the first folds get
            one more.

    Raises:
        ValueError: an argument is out of its range.
    """
    if layout not in get_args(FoldLayout):
        raise ValueError(f"fold layout is {layout!r}; choose one of {', '.join(get_args(FoldLayout))}")
    if n_classes < 2:
        raise ValueError(
            f"there is {n_classes} class; folds need 2 or more, to train on one and score on another (classes.txt)"
        )
    if not 2 <= n_folds <= n_classes:
        raise ValueError(
            f"n_folds is {n_folds}, but there are {n_classes} classes; choose 2 to {n_classes} (--n-folds)"
        )
    if not 0 <= fold < n_folds:
        raise ValueError(f"fold is {fold}; choose 0 to {n_folds - 1}")
    if layout == "interleaved":
        return tuple(range(fold, n_classes, n_folds))
    size, n_longer = divmod(n_classes, n_folds)
    start = fold * size + min(fold, n_longer)
    return tuple(range(start, start + size + (fold < n_longer)))


def base_classes(n_classes: int, fold: int, n_folds: int = 4, layout: FoldLayout = "interleaved") -> tuple[int, ...]:
    """Class indices (from 0, ascending) to train on in this fold: all that `novel_classes` leaves."""
    novel = set(novel_classes(n_classes, fold, n_folds, layout))
    return tuple(index for index in range(n_classes) if index not in novel)
