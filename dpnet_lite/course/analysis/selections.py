"""Selections of many episodes: where their weight lies, which cycles fail, and what could warn of a bad one.

toy = ToyEpisodes(fold=0, gap=0.5, n_scenes=600)
found = survey(toy, disjoint_episodes(toy.episodes(count=2000), per_class=10))
found.precisions, found.places, found.outcomes, found.signs["ways that come back"] ...

All measures are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.opened_episode import OpenedEpisode, ToyEpisodes, selection_quality
from dpnet_lite.datasets.toy_textures import CLASS_TEXTURES
from dpnet_lite.episodes import Episode
from dpnet_lite.evaluation import Floats
from dpnet_lite.model.cycle_comparison import membership
from dpnet_lite.model.prototypes import cosine_map, masks_at

PLACES = ("the object", "same outline", "same texture", "other object", "background")
OUTCOMES = ("kept, right", "kept, wrong", "rejected, was right", "rejected, was wrong")
SIGNS = (
    "ways that come back",
    "cosine of P and P_q",
    "selected cells like P",
    "best cell above the mean",
    "selected cells close together",
)


@dataclass(frozen=True)
class Cycles:
    """All ways of one episode that start inside the support masks; n of them over all shots."""

    shots: Tensor  # int64 [n], the support image of each
    starts: Tensor  # int64 [n], cell in it, row * w + column
    matches: Tensor  # int64 [n], cell in the query
    landings: Tensor  # int64 [n], cell in the same support image
    outcomes: Tensor  # int64 [n], position in OUTCOMES


@dataclass(frozen=True)
class Selections:
    """The selections of N episodes, one row each."""

    labels: np.ndarray  # int64 [N], class index in the catalogue
    precisions: Floats  # [N] in [0, 1], share of the weight on the object
    recalls: Floats  # [N] in [0, 1]
    ious: Floats  # [N] in [0, 1], of the predicted masks
    oracle_ious: Floats  # [N] in [0, 1], of the masks that the same head predicts from a perfect selection
    places: Floats  # [N, 5], share of the weight in each of PLACES
    areas: Floats  # [N, 5], share of the query's cells in each of PLACES
    outcomes: Floats  # [N, 4], share of the ways with each of OUTCOMES
    signs: dict[str, Floats]  # [N] for each of SIGNS: a higher value should mean a better selection


def land_cover(toy: ToyEpisodes, episode: Episode) -> Tensor:
    """What the query shows in each cell, float32 [5, h, w]: share of each of PLACES, adding up to 1.

    "Same outline" and "same texture" are objects of other classes that share this half of their name with the
    episode's class; "other object" shares neither.
    """
    labels = toy.world[episode.query].labels.long()  # [H, W]: 0 the background, k class k - 1
    classes, own = labels - 1, episode.class_index
    n_textures = len(CLASS_TEXTURES)
    target, background = classes == own, labels == 0
    outline = (classes // n_textures == own // n_textures) & ~target & ~background
    texture = (classes % n_textures == own % n_textures) & ~target & ~background
    rest = ~(target | background | outline | texture)
    cells = (int(toy.bank.features.shape[2]), int(toy.bank.features.shape[3]))
    return masks_at(torch.stack([target, outline, texture, rest, background]), cells)


def shown_in_cells(labels: Tensor, cells: tuple[int, int]) -> Tensor:
    """The label that fills most of each cell, of labels uint8 [H, W]: int64 [h * w]."""
    values = labels.unique()
    shares = masks_at(torch.stack([labels == value for value in values]), cells)  # [n, h, w]
    return values.long()[shares.argmax(dim=0)].flatten()


def weight_places(weights: Tensor, cover: Tensor) -> Tensor:
    """Share of the weight [h, w] that lies in each place of a cover [n, h, w]: float [n], adding up to 1."""
    return (weights * cover).sum(dim=(1, 2)) / weights.sum()


def all_cycles(opened: OpenedEpisode) -> Cycles:
    """Every way that starts inside a support mask, and how it ends.

    A way is kept where it lands inside the mask of its own support image; it is right where at least half of its
    match in the query is the object.

    Raises:
        ValueError: the head matched all shots as one set, or did not match at all.
    """
    n_shots = len(opened.support_masks)
    if len(opened.trace.matches) != n_shots:
        raise ValueError(f"there are matches of {len(opened.trace.matches)} sets of pixels; ask for one per shot")
    on_object = opened.truth_shares.flatten() >= 0.5  # [N_q]
    columns: list[tuple[Tensor, ...]] = []
    for shot, found in enumerate(opened.trace.matches):
        inside = membership(opened.trace.support_masks[:, shot].flatten(1))[0]  # [h, w] -> [N_s]
        starts = inside.nonzero().flatten()
        matches = found.forward_match[0, starts]
        landings = found.backward_match[0, matches]
        outcomes = 2 * (~inside[landings]).long() + (~on_object[matches]).long()
        columns.append((torch.full_like(starts, shot), starts, matches, landings, outcomes))
    return Cycles(*(torch.cat(column) for column in zip(*columns, strict=True)))


def trust_signs(opened: OpenedEpisode) -> dict[str, float]:
    """What a method could know of its own selection without the truth, by the names in SIGNS."""
    trace = opened.trace
    weights = trace.reliable[0] / trace.reliable[0].sum()  # [h, w]
    similarity = cosine_map(trace.query, trace.prototype)[0]  # [h, w]
    grid = torch.stack(torch.meshgrid(*(torch.arange(n) for n in weights.shape), indexing="ij")).float()  # [2, h, w]
    middle = (weights * grid).sum(dim=(1, 2), keepdim=True)  # [2, 1, 1]
    spread = float((weights * (grid - middle).square().sum(dim=0)).sum().sqrt())  # cells
    values = (
        float((all_cycles(opened).outcomes < 2).float().mean()),
        float(functional.cosine_similarity(trace.prototype, trace.pseudo_prototype)[0]),
        float((weights * similarity).sum()),
        float(similarity.max() - similarity.mean()),
        -spread,
    )
    return dict(zip(SIGNS, values, strict=True))


def survey(toy: ToyEpisodes, episodes: Sequence[Episode], **switches: Any) -> Selections:
    """Run the toy's head, with some switches changed, on each episode, and keep what its selection was like.

    Raises:
        ValueError: there are no episodes.
    """
    if not episodes:
        raise ValueError("there are 0 episodes; give at least one")
    rows = [_row(toy, episode, switches) for episode in episodes]
    quality, places, areas, outcomes, signs = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    labels = np.array([episode.class_index for episode in episodes])
    precisions, recalls, ious, oracle_ious = quality.T
    named = dict(zip(SIGNS, signs.T, strict=True))
    return Selections(labels, precisions, recalls, ious, oracle_ious, places, areas, outcomes, named)


def _row(toy: ToyEpisodes, episode: Episode, switches: dict[str, Any]) -> tuple[Sequence[float], ...]:
    """Of one episode: precision, recall, IoU and that of the oracle; places; areas; outcomes; signs."""
    opened, perfect = toy.open(episode, **switches), toy.open(episode, **{**switches, "selection": "oracle"})
    cover = land_cover(toy, episode)
    outcomes = all_cycles(opened).outcomes.bincount(minlength=len(OUTCOMES)).double()
    return (
        (*selection_quality(opened.trace.reliable[0], opened.truth_shares), opened.iou, perfect.iou),
        weight_places(opened.trace.reliable[0], cover).tolist(),
        cover.mean(dim=(1, 2)).tolist(),
        (outcomes / outcomes.sum()).tolist(),
        list(trust_signs(opened).values()),
    )
