"""Planned scenes: labels as the world paints them, and facts against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dpnet_lite.course.analysis.scenes import (
    FACTS,
    PlannedScenes,
    ScenePlan,
    class_facts,
    episode_facts,
    hidden_share,
    scene_plan,
    scored_scenes,
)
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED, toy_test_world


@pytest.fixture(scope="module")
def world():
    return ToyWorld(80, seed=3, targets=range(0, 80, 4), others=range(80), gap=0.75)


def top_object(masks):
    """Number of the last object that covers each pixel, -1 where none does, pixel by pixel."""
    top = -np.ones(masks.shape[1:], dtype=int)
    for k, y, x in np.argwhere(masks):
        top[y, x] = k
    return top


@pytest.mark.parametrize("gap", [0.0, 0.5, 1.0])
def test_planned_labels_are_the_worlds(gap):
    world = ToyWorld(40, seed=TEST_SEED, targets=range(1, 80, 4), others=range(80), gap=gap)
    for index in range(len(world)):
        assert np.array_equal(scene_plan(world, index).labels, world[index].labels.numpy())


def test_a_class_that_is_too_well_hidden_comes_to_the_front(monkeypatch):
    """The world hardly ever needs its rule, since it looks for room; here all objects lie in one place."""
    place, before = ToyWorld._place, []

    def heaped(self, classes, looks, rng):
        placed = [replace(item, centre=(48.0, 48.0)) for item in place(self, classes, looks, rng)]
        before.append([item.class_index for item in placed])
        return placed

    monkeypatch.setattr(ToyWorld, "_place", heaped)
    world = ToyWorld(20, seed=3, targets=range(0, 80, 4), others=range(80))
    plans = [scene_plan(world, index) for index in range(len(world))]
    brought = sum(list(plan.classes) != order for plan, order in zip(plans, before, strict=True))
    assert 0 < brought < len(world)
    for index, plan in enumerate(plans):
        assert np.array_equal(plan.labels, world[index].labels.numpy())


def test_an_unknown_scene_is_named(world):
    with pytest.raises(IndexError, match="scene 80 is not in 0 to 79"):
        scene_plan(world, 80)


def test_hidden_share_is_that_of_a_loop_over_pixels():
    generator = np.random.default_rng(0)
    for _ in range(20):
        masks = generator.random((4, 5, 6)) < 0.5
        own = np.array([True, False, True, False])[generator.permutation(4)]
        top = top_object(masks)
        whole = [(y, x) for y in range(5) for x in range(6) if masks[own, y, x].any()]
        hidden = sum(not own[top[y, x]] for y, x in whole)
        assert hidden_share(masks, own) == pytest.approx(hidden / len(whole))


def test_hidden_share_by_hand():
    masks = np.zeros((3, 1, 8), dtype=bool)
    masks[0, 0, :4] = True  # own
    masks[1, 0, 3:6] = True  # another one hides one of four
    masks[2, 0, 5:7] = True  # own, before the other one
    assert hidden_share(masks, [True, False, True]) == pytest.approx(1 / 6)
    assert hidden_share(masks, [False, True, False]) == pytest.approx(1 / 3)


def test_facts_of_a_scene_by_hand():
    masks = np.zeros((5, 4, 4), dtype=bool)
    for k in range(5):
        masks[k, k % 4] = True
    # Class index = 10 * outline + texture: 12 shares its outline with 17 and its texture with 42.
    facts = class_facts(ScenePlan((12, 17, 42, 55, 12), masks), 12)
    assert (facts.objects, facts.same_outline, facts.same_texture, facts.others) == (2, 1, 1, 1)
    assert facts.area == 4 / 16 and facts.hidden == 0
    with pytest.raises(ValueError, match="class 3 is not in this scene"):
        class_facts(ScenePlan((12, 17, 42, 55, 12), masks), 3)


def test_planned_scenes_have_the_areas_and_the_episodes_of_the_world():
    world = ToyWorld(100, seed=TEST_SEED, targets=range(0, 80, 4), others=range(80))
    scenes = PlannedScenes(world, 0)
    assert np.array_equal(scenes.class_areas, world.class_areas) and scenes.class_areas.dtype == np.float32
    wanted = draw_episodes(world, world.targets, fold=0, n_shot=2, count=40, seed=TEST_SEED)
    assert scenes.episodes(n_shot=2, count=40).sha256 == wanted.sha256


def test_the_scored_scenes_are_those_of_the_test_world():
    assert scored_scenes(2, 0.25).fingerprint == toy_test_world(2, gap=0.25).fingerprint


def test_facts_of_episodes():
    world = ToyWorld(100, seed=5, targets=range(0, 80, 4), others=range(80))
    scenes = PlannedScenes(world, 0)
    episodes = scenes.episodes(n_shot=3, count=30)
    facts = episode_facts(scenes, episodes)
    assert tuple(facts) == FACTS
    for number, episode in enumerate(episodes):
        plan = scene_plan(world, episode.query)
        own = episode.class_index
        others = [c for c in plan.classes if c != own]
        area = np.mean([(world[i].labels.numpy() == own + 1).mean() for i in episode.support])
        wanted = (
            (world[episode.query].labels.numpy() == own + 1).mean(),
            area,
            len(plan.classes) - len(others),
            len(others),
            sum(c // 10 == own // 10 for c in others),
            sum(c % 10 == own % 10 for c in others),
            1 - (plan.labels == own + 1).sum() / plan.masks[[c == own for c in plan.classes]].any(axis=0).sum(),
        )
        assert [facts[name][number] for name in FACTS] == pytest.approx(wanted)
