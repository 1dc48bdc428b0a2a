"""Checks of notebook 09: similarity of classes, and the nearest class without the own episode."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.analysis.prototypes import class_table, cosines, nearest_class, pearson
from dpnet_lite.course.exercises import ask, close, compare, compare_cases, require_number, require_tensor, right


def _points(n_classes: int, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Non-negative points of very different lengths, [N, 6], around one centre a class; labels in mixed order."""
    labels = torch.arange(n_classes).repeat(per_class)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.rand(n_classes, 6, generator=generator)
    points = (centres[labels] + 0.4 * torch.randn(len(labels), 6, generator=generator)).clamp_min(0.01)
    return points * (0.2 + 5 * torch.rand(len(labels), 1, generator=generator)), labels


def check_class_cosines(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """9.2: function(points [N, C], labels int [N]) -> mean cosine of every two classes, [n, n], own pairs left out."""
    generator = torch.Generator().manual_seed(0)
    for n_classes, per_class in ((2, 3), (4, 2), (3, 5)):
        points, labels = _points(n_classes, per_class, generator)
        given = require_tensor(ask(function, points, labels), (n_classes, n_classes), "my_class_cosines")
        wanted = class_table(cosines(points, points), labels)
        members = functional.one_hot(labels).float()  # [N, n]
        own_counted = members.T @ cosines(points, points) @ members / per_class**2
        means = members.T @ points / per_class
        mistakes = {
            "these are means of dot products: bring every point to length 1 first": (
                class_table(points @ points.T, labels)
            ),
            "the diagonal counts each point with itself, which is always 1: leave these pairs out": own_counted,
            "this is Pearson's correlation: take the plain cosine": class_table(pearson(points, points), labels),
            "these are cosines of the class means; take the cosine of every pair first, then the mean": (
                cosines(means, means)
            ),
        }
        blank = torch.eye(n_classes, dtype=torch.bool)
        otherwise = "the diagonal is wrong: it is the mean over pairs of different points of a class"
        if not close(given.masked_fill(blank, 0), wanted.masked_fill(blank, 0)):
            pairs = "the mean over all pairs of a point of one class and one of the other"
            otherwise = f"an entry off the diagonal is wrong: it is {pairs}"
        compare(given, wanted, mistakes, otherwise)
    return right("9.2", "the tables of 3 random cases agree with the package")


def check_nearest_accuracy(function: Callable[[Tensor, Tensor, Tensor], float]) -> str:
    """9.4: function(points [N, C], references [N, C], labels int [N]) -> share whose nearest class is their own."""
    generator = torch.Generator().manual_seed(2)
    given, wanted, mistakes = [], [], []
    for _ in range(8):
        points, labels = _points(5, 3, generator)
        references = (points + 0.5 * points.mean() * torch.randn(points.shape, generator=generator)).clamp_min(0.01)
        given.append(require_number(ask(function, points, references, labels), "my_nearest_accuracy"))
        wanted.append(_share(nearest_class(points, references, labels), labels))
        mistakes.append(_wrong_shares(points, references, labels))
    compare_cases(
        given, wanted, mistakes, lambda k: f"case {k}: the share should be {wanted[k]:.3f}, yours is {given[k]:.3f}"
    )
    return right("9.4", "the accuracies of 8 random cases agree with the package")


def _share(nearest: Tensor, labels: Tensor) -> float:
    return float((nearest == labels).float().mean())


def _wrong_shares(points: Tensor, references: Tensor, labels: Tensor) -> dict[str, float]:
    """Typical wrong answers by what to say to each."""
    with_own = nearest_class(points, references, labels, leave_own_out=False)
    by_distance = []  # the nearest class by Euclidean distance, the own episode left out
    for i in range(len(points)):
        rest = torch.arange(len(points)) != i
        means = torch.stack([references[rest & (labels == label)].mean(dim=0) for label in labels.unique()])  # [n, C]
        by_distance.append((means - points[i]).norm(dim=1).argmin())
    unit = nearest_class(points, functional.normalize(references, dim=1), labels)
    return {
        "the reference of its own episode helps: take the mean of the class without it": _share(with_own, labels),
        "take the means of the references, not of the points": _share(nearest_class(points, points, labels), labels),
        "return a share, from 0 to 1, not per cent": 100 * _share(nearest_class(points, references, labels), labels),
        "you take the smallest distance; take the largest cosine, which does not look at lengths": (
            _share(torch.stack(by_distance), labels)
        ),
        "you bring the references to length 1 before the mean: take the mean of them as they are": _share(unit, labels),
    }
