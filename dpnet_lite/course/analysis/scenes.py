"""What a toy scene holds that its labels do not say: how many objects of a class, what else, how much is hidden.

scenes = scored_scenes(fold=0, gap=0.5)
facts = episode_facts(scenes, scenes.episodes())
facts["hidden share"], facts["distractors"] ...

Scenes are planned, not painted. All measures are our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from dpnet_lite.datasets.base import DatasetDefaults, Sample
from dpnet_lite.datasets.toy import CATALOGUES, DEFAULT_GAP, ToyWorld
from dpnet_lite.datasets.toy_scene import object_mask
from dpnet_lite.episodes import Episode, EpisodeList, draw_episodes
from dpnet_lite.evaluation import Floats
from dpnet_lite.experiments.experiment import TEST_SEED, toy_test_world

Masks = NDArray[np.bool_]
_SCORED_EPISODES = 500  # per fold in the studies of one shot
FACTS = (  # of an episode
    "object size, query",
    "object size, support",
    "objects of the class",
    "distractors",
    "distractors, same outline",
    "distractors, same texture",
    "hidden share",
)
OBJECTS, DISTRACTORS, SAME_OUTLINE, SAME_TEXTURE, HIDDEN = FACTS[2:]


@dataclass(frozen=True)
class ScenePlan:
    """The objects of a scene in the order of painting: a later one hides an earlier one."""

    classes: tuple[int, ...]  # class index of each object
    masks: Masks  # [n, S, S], where each object would be seen if it were alone

    @cached_property
    def labels(self) -> np.ndarray:
        """uint8 [S, S]: 0 the background, k class k - 1. They equal the world's."""
        labels = np.zeros(self.masks.shape[1:], dtype=np.uint8)
        for class_index, mask in zip(self.classes, self.masks, strict=True):
            labels[mask] = class_index + 1
        return labels


@dataclass(frozen=True)
class ClassFacts:
    """What a scene holds for a task that asks for one class. Counts are of objects as planned, hidden ones too."""

    area: float  # share of the scene's pixels that the class covers, in [0, 1]
    hidden: float  # share of the class's own pixels that other objects hide, in [0, 1]
    objects: int  # of the class
    same_outline: int  # objects of other classes with the class's outline
    same_texture: int  # with its texture
    others: int  # with neither


def scene_plan(world: ToyWorld, index: int) -> ScenePlan:
    """The plan of scene `index`.

    Raises:
        IndexError: the world has no such scene.
    """
    objects = world.plan(index)
    masks = np.stack([object_mask(item, world.size) for item in objects])
    return ScenePlan(tuple(item.class_index for item in objects), masks)


def hidden_share(masks: Masks, own: Sequence[bool] | Masks) -> float:
    """Share of a class's pixels that later objects of other classes hide, in [0, 1].

    Args:
        masks: bool [n, H, W] of the objects in the order of painting.
        own: bool [n], which of them are the class's. A pixel of two own objects counts once.
    """
    union = np.zeros(masks.shape[1:], dtype=bool)
    seen = np.zeros(masks.shape[1:], dtype=bool)
    for mask, is_own in zip(masks, own, strict=True):
        union |= mask & bool(is_own)
        seen = (seen | mask) if is_own else (seen & ~mask)
    return 1 - int(seen.sum()) / int(union.sum())


def class_facts(plan: ScenePlan, class_index: int, *, n_textures: int = len(CATALOGUES["classes"][1])) -> ClassFacts:
    """The facts of a planned scene for one of its classes.

    Raises:
        ValueError: the scene has no object of the class.
    """
    if class_index not in plan.classes:
        raise ValueError(f"class {class_index} is not in this scene, which holds {sorted(set(plan.classes))}")
    others = [c for c in plan.classes if c != class_index]
    outline = sum(c // n_textures == class_index // n_textures for c in others)
    texture = sum(c % n_textures == class_index % n_textures for c in others)
    return ClassFacts(
        area=float((plan.labels == class_index + 1).mean()),
        hidden=hidden_share(plan.masks, [c == class_index for c in plan.classes]),
        objects=len(plan.classes) - len(others),
        same_outline=outline,
        same_texture=texture,
        others=len(others) - outline - texture,
    )


class PlannedScenes(DatasetDefaults):
    """All scenes of a world, planned but not painted: enough to draw its episodes and to tell their facts.

    Attributes:
        facts: for each scene, by class index, what it holds.
        class_areas: float32 [n, n_classes], as the world's.
    """

    def __init__(self, world: ToyWorld, fold: int) -> None:
        self.world, self.fold, self.name = world, fold, world.name
        self.class_names, self.fingerprint = world.class_names, world.fingerprint
        self.facts: list[dict[int, ClassFacts]] = []
        counts = np.zeros((len(world), len(world.class_names)))
        for index in range(len(world)):
            plan = scene_plan(world, index)
            self.facts.append({c: class_facts(plan, c) for c in dict.fromkeys(plan.classes)})
            counts[index] = np.bincount(plan.labels.ravel(), minlength=counts.shape[1] + 1)[1:]
        self.class_areas = (counts / world.size**2).astype(np.float32)

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> Sample:
        return self.world[index]

    def episodes(self, *, n_shot: int = 1, count: int = _SCORED_EPISODES) -> EpisodeList:
        """The list that the studies score on this world: `ablation.execution` draws the same."""
        how = {"fold": self.fold, "n_shot": n_shot, "count": count, "seed": TEST_SEED}
        return draw_episodes(self, self.world.targets, **how, repeats=True)


@lru_cache(maxsize=8)
def scored_scenes(fold: int, gap: float = DEFAULT_GAP) -> PlannedScenes:
    """The scenes that the studies score a fold of Toy-20^i on, planned; kept, so that a second look costs nothing."""
    return PlannedScenes(toy_test_world(fold, gap=gap), fold)


def episode_facts(scenes: PlannedScenes, episodes: Sequence[Episode] | EpisodeList) -> dict[str, Floats]:
    """The facts of N episodes by the names in FACTS, [N] each; sizes are the mean over the support images."""
    rows = []
    for episode in episodes:
        query = scenes.facts[episode.query][episode.class_index]
        support = np.mean([scenes.facts[index][episode.class_index].area for index in episode.support])
        alike = (query.same_outline, query.same_texture)
        rows.append((query.area, support, query.objects, sum(alike) + query.others, *alike, query.hidden))
    return dict(zip(FACTS, np.array(rows, dtype=float).T, strict=True))
