"""Folds against the published definitions and against properties that every split must have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpnet_lite.datasets.folds import base_classes, novel_classes

LAYOUTS = ("interleaved", "blocked")


def test_coco_20i_folds_take_every_fourth_class() -> None:
    assert novel_classes(80, 1) == tuple(range(1, 80, 4))


def test_pascal_5i_fold_holds_classes_5i_plus_1_to_5i_plus_5() -> None:
    for fold in range(4):
        published = [5 * fold + k for k in range(1, 6)]  # numbered from 1 in the literature
        assert [index + 1 for index in novel_classes(20, fold, layout="blocked")] == published


def test_first_folds_get_one_more_where_the_folds_do_not_divide_the_classes() -> None:
    assert [novel_classes(10, fold, layout="blocked") for fold in range(4)] == [(0, 1, 2), (3, 4, 5), (6, 7), (8, 9)]
    assert [novel_classes(10, fold) for fold in range(4)] == [(0, 4, 8), (1, 5, 9), (2, 6), (3, 7)]


@given(st.integers(2, 300), st.data(), st.sampled_from(LAYOUTS))
def test_folds_are_a_partition_and_base_is_the_complement(n_classes: int, data: st.DataObject, layout: str) -> None:
    n_folds = data.draw(st.integers(2, n_classes))
    folds = [novel_classes(n_classes, fold, n_folds, layout) for fold in range(n_folds)]
    assert sorted(index for fold in folds for index in fold) == list(range(n_classes))
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)
    for fold, novel in enumerate(folds):
        base = base_classes(n_classes, fold, n_folds, layout)
        assert not set(base) & set(novel) and sorted(base + novel) == list(range(n_classes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((20, 4), "fold is 4; choose 0 to 3"),
        ((20, -1), "fold is -1"),
        ((20, 0, 1), "n_folds is 1, but there are 20 classes; choose 2 to 20"),
        ((3, 0, 4), r"n_folds is 4, but there are 3 classes; choose 2 to 3 \(--n-folds\)"),
        ((1, 0, 4), "there is 1 class; folds need 2 or more"),
        ((20, 0, 4, "random"), "'random'; choose one of interleaved, blocked"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        novel_classes(*arguments)
