"""When does one variant pay against another: along a study's conditions, by facts of the episodes, and where most.

Everything comes from a study's labelled rows; the facts come from the planned scenes. All measures are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dpnet_lite.ablation.comparisons import Judged, judge
from dpnet_lite.ablation.studies import Condition, Study, load_study
from dpnet_lite.ablation.table import Row, shipped_rows
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
from dpnet_lite.course.analysis.strata import PairedEpisodes, Stratified, quantile_edges, stratified
from dpnet_lite.datasets.toy import DEFAULT_GAP
from dpnet_lite.evaluation import Floats

PRECISION = "precision of the selection"
MAIN = "full network"  # the comparison of full with support only, in every study
# Fixed strata: their edges and names. Of all other facts the strata are quarters of the episodes.
_STRATA: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    OBJECTS: ((1, 2, 3, 99), ("1", "2", "3 or more")),
    DISTRACTORS: ((0, 3, 4, 99), ("up to 2", "3", "4 or more")),
    SAME_OUTLINE: ((0, 1, 2, 99), ("none", "1", "2 or more")),
    SAME_TEXTURE: ((0, 1, 2, 99), ("none", "1", "2 or more")),
    HIDDEN: ((0, 0.001, 0.05, 1), ("none", "up to 5 %", "above 5 %")),
    PRECISION: ((0, 0.2, 0.5, 0.8, 0.95, 1), ("0 to 0.2", "0.2 to 0.5", "0.5 to 0.8", "0.8 to 0.95", "0.95 to 1")),
}
_QUARTERS = 4


@lru_cache(maxsize=16)
def study_rows(name: str, data: str = "toy") -> tuple[Row, ...]:
    """The shipped rows of a study on "toy" or "photos", read once; errors as in `shipped_rows`."""
    return tuple(shipped_rows(name, data))


@lru_cache(maxsize=8)
def judged_along(name: str, data: str = "toy") -> tuple[Study, list[Judged]]:
    """A shipped study, and full against support only under each of its conditions.

    The p-values are corrected over all that the study asks.
    """
    study, rows = load_study(name), study_rows(name, data)
    return study, [entry for entry in judge(study, rows) if entry.comparison.name == MAIN]


def scores_along(study: Study, rows: Sequence[Row], variant: str) -> Floats:
    """Mean mIoU of a variant under each condition, [conditions]."""
    own: dict[str, list[float]] = {condition.name: [] for condition in study.conditions}
    for row in rows:
        if row["variant"] == variant:
            own[row["condition"]].append(row["miou"])
    return np.array([np.mean(mious) for mious in own.values()])


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


def by_fact(
    paired: PairedEpisodes, facts: dict[str, Floats], name: str, *, level: float = 0.95, n_resamples: int = 1000
) -> tuple[Stratified, list[str]]:
    """The difference by strata of one fact, and their names; `level` and `n_resamples` as in `stratified`."""
    values = facts[name]
    if name in _STRATA:
        edges, names = _STRATA[name]
        table = stratified(paired, values, edges, level=level, n_resamples=n_resamples)
        return table, [names[edges.index(stratum.low)] for stratum in table.strata]
    edges = tuple(quantile_edges(values, _QUARTERS))
    table = stratified(paired, values, edges, level=level, n_resamples=n_resamples)
    return table, [f"{100 * stratum.low:.0f} to {100 * stratum.high:.0f} %" for stratum in table.strata]


def extremes(paired: PairedEpisodes, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in 0 to N - 1 of the k episodes with the largest loss, and of the k with the largest win.

    By the mean over seeds of variant minus control, the largest first; of equals the earlier one.
    """
    means = paired.differences.mean(axis=0)  # [S, N] -> [N]
    return np.argsort(means, kind="stable")[:k], np.argsort(-means, kind="stable")[:k]
