"""When does one variant pay against another: along a study's conditions, by facts of the episodes, and where most.

Everything comes from a study's labelled rows; the facts come from the planned scenes. All measures are our choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from dpnet_lite.ablation.comparisons import JUDGED_RESAMPLES, label, runs_of
from dpnet_lite.ablation.studies import Condition, Study
from dpnet_lite.ablation.table import Row, shipped_rows, unpack_scores
from dpnet_lite.checkpoints import load_trained, shipped_head
from dpnet_lite.course.analysis.scenes import (
    DISTRACTORS,
    FACTS,
    HIDDEN,
    OBJECTS,
    SAME_OUTLINE,
    SAME_TEXTURE,
    episode_facts,
    scored_scenes,
)
from dpnet_lite.course.analysis.strata import (
    PairedEpisodes,
    Stratified,
    overall,
    paired_ious,
    quantile_edges,
    stratified,
)
from dpnet_lite.course.opened_episode import OpenedEpisode, open_episode
from dpnet_lite.datasets.base import DatasetDefaults, Sample
from dpnet_lite.datasets.toy import DEFAULT_GAP, ToyWorld
from dpnet_lite.episodes import Episode
from dpnet_lite.evaluation import Floats
from dpnet_lite.experiments.experiment import toy_test_world
from dpnet_lite.experiments.intervals import Interval, mean_paired_difference
from dpnet_lite.features import compute_features

PRECISION = "precision of the selection"
# Fixed strata: their edges and names. Of all other facts the strata are quarters of the episodes.
_STRATA: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    OBJECTS: ((1, 2, 3, 99), ("1", "2", "3 or more")),
    DISTRACTORS: ((0, 3, 4, 99), ("up to 2", "3", "4 or more")),
    SAME_OUTLINE: ((0, 1, 2, 99), ("none", "1", "2 or more")),
    SAME_TEXTURE: ((0, 1, 2, 99), ("none", "1", "2 or more")),
    HIDDEN: ((0, 0.001, 0.05, 1), ("none", "up to 5 %", "more")),
    PRECISION: ((0, 0.2, 0.5, 0.8, 0.95, 1), ("0 to 0.2", "to 0.5", "to 0.8", "to 0.95", "to 1")),
}
_QUARTERS = 4


@dataclass(frozen=True)
class Along:
    """A quantity under each condition of a study, with its 95 % intervals."""

    conditions: tuple[str, ...]
    values: Floats  # [conditions]
    intervals: tuple[Interval, ...]
    ways: tuple[slice, ...]  # conditions that are steps along one way


@lru_cache(maxsize=4)
def study_rows(name: str) -> list[Row]:
    """The shipped rows of a study on the toy world, read once."""
    return shipped_rows(name)


def _along(study: Study, found: Iterable[tuple[float, Interval]]) -> Along:
    values, intervals = zip(*found, strict=True)
    return Along(tuple(condition.name for condition in study.conditions), np.array(values), intervals, study.ways)


def differences_along(
    study: Study, rows: Sequence[Row], variant: str, control: str, *, n_resamples: int = JUDGED_RESAMPLES
) -> Along:
    """mIoU of `variant` minus that of `control` under each condition, paired as `judge` does it."""
    scores = {label(row): unpack_scores(row["scores"]) for row in rows if row["variant"] in (variant, control)}
    found = []
    for condition in study.conditions:
        ours, theirs = (runs_of(scores, name, condition.name) for name in (variant, control))
        if not ours or ours.keys() != theirs.keys():
            raise ValueError(f"{variant!r} and {control!r} need the same runs under {condition.name!r}")
        found.append(mean_paired_difference([*ours.values()], [*theirs.values()], n_resamples=n_resamples))
    return _along(study, found)


def scores_along(study: Study, rows: Sequence[Row], variant: str) -> Floats:
    """Mean mIoU of a variant under each condition, [conditions]."""
    own: dict[str, list[float]] = {condition.name: [] for condition in study.conditions}
    for row in rows:
        if row["variant"] == variant:
            own[row["condition"]].append(row["miou"])
    return np.array([np.mean(mious) for mious in own.values()])


def precision_along(study: Study, rows: Sequence[Row], variant: str) -> Along:
    """Mean precision of a variant's selection under each condition; the variant must have a selection."""
    found = []
    for condition in study.conditions:
        paired = paired_ious(rows, variant, variant, condition.name)
        whole = overall(replace(paired, variant=paired.precision, control=np.zeros_like(paired.precision)))
        found.append((whole.difference, whole.interval))
    return _along(study, found)


def facts_of(paired: PairedEpisodes, condition: Condition) -> dict[str, Floats]:
    """The facts of a study's episodes, [N] each, and the precision of the variant's selection, [S, N].

    Raises:
        ValueError: the episodes drawn anew are not those of the rows.
    """
    gap = DEFAULT_GAP if condition.gap is None else condition.gap
    parts = []
    for fold, wanted in paired.episodes_sha256.items():
        scenes = scored_scenes(fold, gap)
        episodes = scenes.episodes(n_shot=condition.n_shot, count=int((paired.folds == fold).sum()))
        if episodes.sha256 != wanted:
            raise ValueError(f"the episodes of fold {fold} under {condition.name!r} are not those of the rows")
        parts.append(episode_facts(scenes, episodes))
    facts = {name: np.concatenate([part[name] for part in parts]) for name in FACTS}
    return {**facts, PRECISION: paired.precision}


def by_fact(paired: PairedEpisodes, facts: dict[str, Floats], name: str) -> tuple[Stratified, list[str]]:
    """The difference by strata of one fact, and the names of these strata."""
    values = facts[name]
    if name in _STRATA:
        edges, names = _STRATA[name]
        table = stratified(paired, values, edges)
        return table, [names[edges.index(stratum.low)] for stratum in table.strata]
    table = stratified(paired, values, quantile_edges(values, _QUARTERS))
    return table, [f"{100 * stratum.low:.0f} to {100 * stratum.high:.0f} %" for stratum in table.strata]


def extremes(paired: PairedEpisodes, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in 0 to N - 1 of the k episodes with the largest loss, and of the k with the largest win.

    By the mean over seeds of variant minus control, the largest first; of equals the earlier one.
    """
    means = paired.differences.mean(axis=0)  # [S, N] -> [N]
    return np.argsort(means, kind="stable")[:k], np.argsort(-means, kind="stable")[:k]


class _SomeScenes(DatasetDefaults):
    """Some scenes of a world in their order, as a data set of their own."""

    def __init__(self, world: ToyWorld, indices: Sequence[int]) -> None:
        self.world, self.indices = world, tuple(indices)
        self.name, self.class_names = world.name, world.class_names
        self.fingerprint = f"{world.fingerprint} {self.indices}"

    @cached_property
    def class_areas(self) -> np.ndarray:
        return self.world.class_areas[list(self.indices)]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.world[self.indices[index]]


def scored_episodes(fold: int, episodes: Sequence[Episode], gap: float = DEFAULT_GAP) -> list[OpenedEpisode]:
    """Scored episodes of a fold as the shipped head sees them; features of their scenes alone are computed."""
    trained, world = load_trained(shipped_head(fold)), toy_test_world(fold, gap=gap)
    wanted = sorted({index for episode in episodes for index in (episode.query, *episode.support)})
    bank = compute_features(_SomeScenes(world, wanted), trained.backbone, size=world.size)
    places = {index: place for place, index in enumerate(wanted)}
    opened = []
    for episode in episodes:
        there = Episode(episode.class_index, places[episode.query], tuple(places[index] for index in episode.support))
        opened.append(replace(open_episode(trained.head, bank, there), episode=episode))
    return opened
