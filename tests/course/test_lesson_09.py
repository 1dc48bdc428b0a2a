"""The checks of lesson 9 pass right answers, refuse typical wrong ones with the reason, and unwritten ones."""

from __future__ import annotations

import pytest
import torch

from dpnet_lite.course.exercises import Wrong
from dpnet_lite.course.exercises.lesson_09 import check_class_cosines, check_nearest_accuracy


def pair_loop(points, labels, *, unit=True, own=False):
    """Mean over pairs in plain loops."""
    if unit:
        points = points / points.norm(dim=1, keepdim=True)
    n = int(labels.max()) + 1
    table = torch.zeros(n, n)
    for a in range(n):
        for b in range(n):
            pairs = [
                points[i] @ points[j]
                for i in range(len(points))
                for j in range(len(points))
                if (own or i != j) and labels[i] == a and labels[j] == b
            ]
            table[a, b] = torch.stack(pairs).mean()
    return table


def of_means(points, labels):
    means = torch.stack([points[labels == k].mean(dim=0) for k in labels.unique()])
    means = means / means.norm(dim=1, keepdim=True)
    return means @ means.T


def shuffled(points, labels):
    return pair_loop(points, labels).flip(0)


def zero_diagonal(points, labels):
    return pair_loop(points, labels).fill_diagonal_(0)


def accuracy(points, references, labels, *, own=False, euclidean=False):
    hits = 0
    for i in range(len(points)):
        rest = torch.arange(len(points)) != (-1 if own else i)
        means = torch.stack([references[rest & (labels == k)].mean(dim=0) for k in labels.unique()])
        if euclidean:
            score = -(means - points[i]).norm(dim=1)
        else:
            score = torch.nn.functional.cosine_similarity(means, points[i][None])
        hits += int(score.argmax() == labels[i])
    return hits / len(points)


def unwritten(*arguments):
    raise NotImplementedError


def test_right_answers_pass():
    assert (
        check_class_cosines(pair_loop) == "Exercise 9.1 is right: the tables of 3 random cases agree with the package."
    )
    assert check_nearest_accuracy(accuracy).startswith("Exercise 9.2 is right")
    assert check_nearest_accuracy(lambda *a: torch.tensor(accuracy(*a))).startswith("Exercise 9.2 is right")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda p, y: pair_loop(p, y, unit=False), "length 1 first"),
        (lambda p, y: pair_loop(p, y, own=True), "each point with itself"),
        (of_means, "cosines of the class means"),
        (shuffled, "off the diagonal is wrong"),
        (zero_diagonal, "the diagonal is wrong"),
        (lambda p, y: None, "returns nothing"),
        (lambda p, y: torch.zeros(2, 3), "shape"),
        (unwritten, "not written yet"),
    ],
)
def test_wrong_tables_are_refused_with_the_reason(answer, reason):
    with pytest.raises(Wrong, match=reason):
        check_class_cosines(answer)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda *a: accuracy(*a, own=True), "own episode helps"),
        (lambda *a: accuracy(*a, euclidean=True), "smallest distance; take the largest cosine"),
        (lambda p, r, y: accuracy(p, r / r.norm(dim=1, keepdim=True), y), "length 1 before the mean"),
        (lambda *a: 0.123, "the share should be"),
        (lambda *a: None, "returns nothing"),
        (lambda *a: "all", "returns a str; return one number"),
        (unwritten, "not written yet"),
    ],
)
def test_wrong_accuracies_are_refused_with_the_reason(answer, reason):
    with pytest.raises(Wrong, match=reason):
        check_nearest_accuracy(answer)
