"""Prototypes of many episodes: how alike they are within and across classes, and how sure one may be of it.

toy = ToyEpisodes(fold=0, gap=0.5, n_scenes=600)
found = collect_prototypes(toy, disjoint_episodes(toy.episodes(count=2000), per_class=10))
class_table(cosines(found.vectors["P"], found.vectors["P_q"]), found.labels) ...

All measures are our choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.opened_episode import ShownEpisodes, selection_quality
from dpnet_lite.episodes import Episode
from dpnet_lite.model.prototypes import masked_average

KINDS = ("P", "P_q", "P'", "P_q'", "own")


@dataclass(frozen=True)
class Prototypes:
    """The prototypes of N episodes, one row each."""

    episodes: tuple[Episode, ...]
    class_names: tuple[str, ...]  # of the n classes that occur, in the order of the catalogue
    labels: Tensor  # int64 [N], position of each episode's class in class_names
    vectors: dict[str, Tensor]  # float32 [N, C] for each of KINDS; "own" is what the query's true mask gives
    weights: Tensor  # float32 [N, C], u of the interaction; 1 where its form has none
    ious: np.ndarray  # float64 [N] in [0, 1], of the predicted masks
    precisions: np.ndarray  # float64 [N] in [0, 1], of the selections behind P_q


def disjoint_episodes(episodes: Iterable[Episode], per_class: int) -> list[Episode]:
    """Episodes that share no image, in their order, at most `per_class` (1 or more) of each class.

    An episode is kept if none of its images occurs in one kept before. So the kept ones are independent draws, and
    no prototype of one is made from an image of another.

    Raises:
        ValueError: per_class is smaller than 1.
    """
    if per_class < 1:
        raise ValueError(f"per_class is {per_class}; keep at least 1 episode of a class")
    used: set[int] = set()
    kept: list[Episode] = []
    counts: Counter[int] = Counter()
    for episode in episodes:
        images = {episode.query, *episode.support}
        if counts[episode.class_index] < per_class and not images & used:
            kept.append(episode)
            used |= images
            counts[episode.class_index] += 1
    return kept


def collect_prototypes(shown: ShownEpisodes, episodes: Sequence[Episode]) -> Prototypes:
    """Run the head on each episode and keep its prototypes.

    Raises:
        ValueError: there are no episodes.
    """
    if not episodes:
        raise ValueError("there are 0 episodes; give at least one")
    rows: list[tuple[Tensor, ...]] = []
    ious, precisions, weights = [], [], []
    for episode in episodes:
        opened = shown.open(episode)
        trace, after = opened.trace, opened.trace.interaction
        own = masked_average(trace.query, opened.truth_shares[None])  # [1, C]
        rows.append((trace.prototype, trace.pseudo_prototype, after.prototype, after.pseudo_prototype, own))
        weights.append(torch.ones_like(own) if after.weights is None else after.weights)
        ious.append(opened.iou)
        precisions.append(selection_quality(trace.reliable[0], opened.truth_shares)[0])
    classes, labels = np.unique([episode.class_index for episode in episodes], return_inverse=True)
    columns = zip(*rows, strict=True)
    return Prototypes(
        episodes=tuple(episodes),
        class_names=tuple(shown.class_names[index] for index in classes),
        labels=torch.from_numpy(labels.astype(np.int64)),
        vectors={kind: torch.cat(column) for kind, column in zip(KINDS, columns, strict=True)},
        weights=torch.cat(weights),
        ious=np.array(ious),
        precisions=np.array(precisions),
    )


def centred(points: Tensor) -> Tensor:
    """Points [N, C] minus their mean over the N rows: what sets them apart from the average of their kind."""
    return points - points.mean(dim=0)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every row of `a` [N, C] with every row of `b` [M, C]: [N, M] in [-1, 1], 0 with a row of zeros."""
    return functional.normalize(a, dim=1) @ functional.normalize(b, dim=1).T


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation over the C channels, every row of `a` [N, C] with every row of `b` [M, C]: [N, M]."""
    return cosines(a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True))


def centred_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines, [N, M], after each of `a` [N, C] and `b` [M, C] has lost its mean over the rows."""
    return cosines(centred(a), centred(b))


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosines,
    "Pearson correlation": pearson,
    "centred cosine": centred_cosines,
}


def class_table(similarity: Tensor, labels: Tensor) -> Tensor:
    """Mean similarity of every class with every class, own pairs (the diagonal of `similarity`) left out.

    Args:
        similarity: float [N, N]; row i and column i belong to the same episode.
        labels: int64 [N] from 0 to n - 1.

    Returns:
        float [n, n]: entry (a, b) is the mean over rows of class a and columns of class b; NaN on the diagonal where
        a class has one episode only.
    """
    members = functional.one_hot(labels).to(similarity.dtype)  # [N, n]
    others = similarity - similarity.diagonal().diag()  # [N, N], zeros on the diagonal
    sizes = members.sum(dim=0)  # [n]
    pairs = sizes[:, None] * sizes[None, :] - sizes.diag()  # [n, n]
    return members.T @ others @ members / pairs


def nearest_class(points: Tensor, references: Tensor, labels: Tensor, *, leave_own_out: bool = True) -> Tensor:
    """The class whose mean reference is nearest to each point by cosine.

    Args:
        points: float [N, C].
        references: float [N, C], row i of the same episode as point i.
        labels: int64 [N] from 0 to n - 1, the classes of both.
        leave_own_out: the mean of a point's own class is taken without the reference of its own episode; a class
            that has no other reference is never the nearest.

    Returns:
        int64 [N] from 0 to n - 1.
    """
    sums = functional.one_hot(labels).to(references.dtype).T @ references  # [n, C]; a cosine needs no division
    scores = cosines(points, sums)  # [N, n]
    if leave_own_out:
        rest = sums[labels] - references  # [N, C]
        alone = (labels.bincount() == 1)[labels]  # [N]
        scores[torch.arange(len(labels)), labels] = functional.cosine_similarity(points, rest).masked_fill(alone, -2.0)
    return scores.argmax(dim=1)


def pair_means(values: np.ndarray, chosen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over chosen pairs of different episodes in each resample, float64 [n_resamples].

    Args:
        values: float [N, N], one number for each pair.
        chosen: bool [N, N], the pairs that count; the diagonal never does.
        weights: float [n_resamples, N]; a pair counts as often as the product of its two weights.
    """
    counted = chosen & ~np.eye(len(chosen), dtype=bool)
    totals = ((weights @ (values * counted)) * weights).sum(axis=1)
    return totals / ((weights @ counted) * weights).sum(axis=1)
