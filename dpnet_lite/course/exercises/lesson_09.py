"""Checks of notebook 09: similarity of classes, and the nearest class without the own episode."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.analysis.prototypes import class_table, cosines, nearest_class
from dpnet_lite.course.exercises import Wrong, ask, close, require, require_number, require_tensor, right


def _points(n_classes: int, per_class: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Non-negative points of very different lengths, [N, 6], around one centre a class; labels in mixed order."""
    labels = torch.arange(n_classes).repeat(per_class)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    centres = torch.rand(n_classes, 6, generator=generator)
    points = (centres[labels] + 0.4 * torch.randn(len(labels), 6, generator=generator)).clamp_min(0.01)
    return points * (0.2 + 5 * torch.rand(len(labels), 1, generator=generator)), labels


def check_class_cosines(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """9.1: function(points [N, C], labels int [N]) -> mean cosine of every two classes, [n, n].

    Raises:
        Wrong: an entry differs from the mean over the pairs of different points.
    """
    generator = torch.Generator().manual_seed(0)
    for n_classes, per_class in ((2, 3), (4, 2), (3, 5)):
        points, labels = _points(n_classes, per_class, generator)
        answer = ask(function, points.clone(), labels.clone())
        given = require_tensor(answer, (n_classes, n_classes), "my_class_cosines")
        wanted = class_table(cosines(points, points), labels)
        members = functional.one_hot(labels).float()  # [N, n]
        own_counted = members.T @ cosines(points, points) @ members / per_class**2
        require(
            not close(given, class_table(points @ points.T, labels)),
            "these are means of dot products: bring every point to length 1 first",
        )
        require(
            not close(given, own_counted),
            "the diagonal counts each point with itself, which is always 1: leave these pairs out",
        )
        means = members.T @ points / per_class
        require(
            not close(given, cosines(means, means)),
            "these are cosines of the class means; take the cosine of every pair first, then the mean",
        )
        blank = torch.eye(n_classes, dtype=torch.bool)
        require(
            close(given.masked_fill(blank, 0), wanted.masked_fill(blank, 0)),
            "an entry off the diagonal is wrong: it is the mean over all pairs of a point of one class and one of "
            "the other",
        )
        require(close(given, wanted), "the diagonal is wrong: it is the mean over pairs of different points of a class")
    return right("9.1", "the tables of 3 random cases agree with the package")


def check_nearest_accuracy(function: Callable[[Tensor, Tensor, Tensor], float]) -> str:
    """9.2: function(points [N, C], references [N, C], labels int [N]) -> share whose nearest class is their own.

    Raises:
        Wrong: the share differs from that of the class means by cosine, without the own episode.
    """
    generator = torch.Generator().manual_seed(2)
    given: list[float] = []
    wanted: list[float] = []
    mistakes: dict[str, list[float]] = {reason: [] for reason in MISTAKES}
    for _ in range(8):
        points, labels = _points(5, 3, generator)
        references = (points + 0.5 * points.mean() * torch.randn(points.shape, generator=generator)).clamp_min(0.01)
        answer = ask(function, points.clone(), references.clone(), labels.clone())
        given.append(require_number(answer, "my_nearest_accuracy"))
        wanted.append(float((nearest_class(points, references, labels) == labels).float().mean()))
        for reason, mistake in MISTAKES.items():
            mistakes[reason].append(float((mistake(points, references, labels) == labels).float().mean()))
    if close(given, torch.tensor(wanted)):
        return right("9.2", "the accuracies of 8 random cases agree with the package")
    for reason, values in mistakes.items():
        require(not close(given, torch.tensor(values)), reason)
    case = next(k for k in range(len(wanted)) if abs(given[k] - wanted[k]) > 1e-4)
    raise Wrong(f"case {case}: the share should be {wanted[case]:.3f}, yours is {given[case]:.3f}")


def _with_own(points: Tensor, references: Tensor, labels: Tensor) -> Tensor:
    return nearest_class(points, references, labels, leave_own_out=False)


def _unit_references(points: Tensor, references: Tensor, labels: Tensor) -> Tensor:
    return nearest_class(points, functional.normalize(references, dim=1), labels)


def _by_distance(points: Tensor, references: Tensor, labels: Tensor) -> Tensor:
    """The nearest class by Euclidean distance, the own episode left out: int64 [N]."""
    nearest = []
    for i in range(len(points)):
        rest = torch.arange(len(points)) != i
        means = torch.stack([references[rest & (labels == label)].mean(dim=0) for label in labels.unique()])  # [n, C]
        nearest.append((means - points[i]).norm(dim=1).argmin())
    return torch.stack(nearest)


MISTAKES = {
    "the reference of the own episode helps: take the mean of its class without it": _with_own,
    "you take the smallest distance; take the largest cosine, which does not look at lengths": _by_distance,
    "you bring the references to length 1 before the mean: take the mean of them as they are": _unit_references,
}
