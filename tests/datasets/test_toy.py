"""The toy world: repeatable scenes, honest labels, a gap that grows, and no novel class in the pretraining."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from places import ROOT

from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import CATALOGUES, ToyWorld, catalogue_names
from dpnet_lite.datasets.toy_outlines import AUXILIARY_OUTLINES, CLASS_OUTLINES
from dpnet_lite.datasets.toy_scene import object_mask
from dpnet_lite.datasets.toy_textures import AUXILIARY_TEXTURES, CLASS_TEXTURES
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments import pretraining
from dpnet_lite.experiments.pretraining import PretrainingConfig, pretrain

N_TEXTURES = 10


def digest(world):
    """Hash of all scenes, in order."""
    total = hashlib.sha256()
    for index in range(len(world)):
        for part in world[index]:
            total.update(part.numpy().tobytes())
    return total.hexdigest()


# Scenes


def test_a_sample_is_an_image_with_labels():
    world: SegmentationDataset = ToyWorld(3, seed=0, size=64)
    assert len(world) == 3 and len(world.class_names) == 80
    image, labels = world[0]
    assert image.shape == (3, 64, 64) and labels.shape == (64, 64)
    assert image.dtype == labels.dtype == torch.uint8
    assert labels.max() <= 80 and labels.max() > 0
    assert image.float().std() > 10


def test_scenes_and_episodes_are_the_same_in_another_process():
    program = (
        "import torch, numpy, random; torch.manual_seed(9); numpy.random.seed(9)\n"
        "from dpnet_lite.datasets.toy import ToyWorld\n"
        "from dpnet_lite.episodes import draw_episodes\n"
        "world = ToyWorld(6, seed=4, gap=0.8)\n"
        "import hashlib; total = hashlib.sha256()\n"
        "[total.update(p.numpy().tobytes()) for i in range(6) for p in world[i]]\n"
        "episodes = draw_episodes(world, range(80), fold=0, n_shot=5, count=40, seed=0, min_area=0, repeats=True)\n"
        "print(total.hexdigest(), world.fingerprint, episodes.sha256)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    world = ToyWorld(6, seed=4, gap=0.8)
    episodes = draw_episodes(world, range(80), fold=0, n_shot=5, count=40, seed=0, min_area=0, repeats=True)
    assert run.stdout.split() == [digest(world), world.fingerprint, episodes.sha256]


def test_scenes_do_not_depend_on_the_order_of_access():
    forward, backward = ToyWorld(8, seed=1), ToyWorld(8, seed=1)
    backward_scenes = {i: backward[i] for i in reversed(range(8))}
    _ = forward.class_areas
    for i in range(8):
        assert torch.equal(forward[i].image, backward_scenes[i].image)
        assert torch.equal(forward[i].labels, backward_scenes[i].labels)
    longer = ToyWorld(20, seed=1)
    assert torch.equal(longer[7].image, forward[7].image)


def test_changing_a_sample_leaves_the_world_as_it_was():
    world = ToyWorld(1, seed=0)
    before = [part.clone() for part in world[0]]
    for part in world[0]:
        part.zero_()
    assert torch.equal(world[0].image, before[0]) and torch.equal(world[0].labels, before[1])


def test_every_setting_changes_scenes_and_fingerprint():
    settings = {"seed": 1, "targets": range(10), "others": range(20, 30), "gap": 0.9, "size": 64}
    plain = {"seed": 0, "targets": None, "others": None, "gap": 0.1, "size": 96}
    worlds = [ToyWorld(3, **plain)] + [ToyWorld(3, **{**plain, name: value}) for name, value in settings.items()]
    worlds.append(ToyWorld(3, **plain, catalogue="auxiliary"))
    assert len({digest(world) for world in worlds}) == len(worlds)
    assert len({world.fingerprint for world in worlds}) == len(worlds)
    assert ToyWorld(4, **plain).fingerprint != worlds[0].fingerprint
    assert ToyWorld(3, **plain).fingerprint == worlds[0].fingerprint


def test_class_areas_count_pixels():
    world = ToyWorld(10, seed=2, size=40)
    assert world.class_areas.shape == (10, 80) and world.class_areas.dtype == np.float32
    for index in range(10):
        labels = world[index].labels.flatten().tolist()
        for class_index in range(80):
            count = sum(value == class_index + 1 for value in labels)
            assert world.class_areas[index, class_index] == pytest.approx(count / 1600)


def test_targets_take_turns_and_only_allowed_classes_appear():
    targets, others = [3, 17, 44], [17, 50, 51, 60]
    world = ToyWorld(60, seed=3, targets=targets, others=others)
    shown = world.class_areas > 0
    assert set(np.flatnonzero(shown.any(axis=0))) == {3, 17, 44, 50, 51, 60}
    for index in range(60):
        assert shown[index, targets[index % 3]]
        for other_target in {3, 44} - {targets[index % 3]}:  # 17 is a distractor as well
            assert not shown[index, other_target]


def test_training_scenes_of_a_fold_hold_no_novel_class():
    base, novel = base_classes(80, 1), novel_classes(80, 1)
    areas = ToyWorld(80, seed=5, targets=base).class_areas
    assert areas[:, list(novel)].sum() == 0
    assert areas[:, list(base)].sum() > 0


def test_the_target_is_well_visible_in_its_scenes():
    world = ToyWorld(240, seed=6)
    own = world.class_areas[np.arange(240), np.arange(240) % 80]
    assert (own > 0).all()
    assert (own >= 0.02).mean() >= 0.9  # the smallest share for which episodes are drawn
    assert ((own >= 0.02).reshape(3, 80).sum(axis=0) >= 1).all()  # of every class


def test_a_scene_has_distractors_that_share_outline_or_texture():
    world = ToyWorld(160, seed=7)
    same_outline = same_texture = alike = 0
    for index in range(160):
        main = index % 80
        others = set(np.flatnonzero(world.class_areas[index])) - {main}
        outline = any(c // N_TEXTURES == main // N_TEXTURES for c in others)
        texture = any(c % N_TEXTURES == main % N_TEXTURES for c in others)
        same_outline, same_texture, alike = same_outline + outline, same_texture + texture, alike + (outline or texture)
    assert alike > 0.8 * 160
    assert min(same_outline, same_texture) > 0.3 * 160


@pytest.mark.parametrize("catalogue", ["classes", "auxiliary"])
def test_the_objects_of_a_plan_painted_in_order_are_the_labels(catalogue):
    world = ToyWorld(40, seed=11, size=48, catalogue=catalogue)
    hidden = 0
    for index in range(40):
        labels = torch.zeros(48, 48, dtype=torch.uint8)
        plan = world.plan(index)
        for item in plan:
            mask = torch.from_numpy(object_mask(item, 48))
            hidden += int((labels[mask] > 0).sum())
            labels[mask] = item.class_index + 1
        assert torch.equal(labels, world[index].labels), index
        assert plan[0].class_index in world.targets and index % 80 in {item.class_index for item in plan}
    assert hidden > 100  # so the order matters


def test_a_plan_paints_nothing_and_does_not_change_the_scene(monkeypatch):
    expected = ToyWorld(2, seed=0)[1]
    planned = ToyWorld(2, seed=0)
    first, again = planned.plan(1), planned.plan(1)
    assert [vars(a)["centre"] for a in first] == [vars(b)["centre"] for b in again]
    assert torch.equal(planned[1].image, expected.image)
    forbid(monkeypatch, "textures")
    assert len(ToyWorld(2, seed=0).plan(1)) == len(first)


# The gap


def mean_colours(gap, n_scenes=60):
    """Mean colour of one class in many scenes, [n, 3] in [0, 1]. Each scene holds that class and nothing else."""
    world = ToyWorld(n_scenes, seed=8, targets=[12], others=[12], gap=gap)
    colours = []
    for image, labels in (world[i] for i in range(n_scenes)):
        colours.append((image[:, labels == 13].float() / 255).mean(dim=1).numpy())
    return np.stack(colours)


def test_looks_differ_more_as_the_gap_grows():
    distances = []
    for gap in (0.0, 0.5, 1.0):
        colours = mean_colours(gap)
        distances.append(np.linalg.norm(colours[::2] - colours[1::2], axis=1).mean())
    assert distances[0] < 0.06  # alike: only size, shading at the edge and noise differ
    assert distances[1] > 2 * distances[0]
    assert distances[2] > 1.3 * distances[1]


def test_pose_differs_more_as_the_gap_grows():
    def spread(gap):
        """How much one outline's elongation along x differs between scenes."""
        world = ToyWorld(40, seed=9, targets=[12], others=[12], gap=gap, size=96)  # a kite, twice as high as wide
        ratios = []
        for _, labels in (world[i] for i in range(40)):
            y, x = np.nonzero(labels.numpy() == 13)
            ratios.append(np.log(y.std() / x.std()))
        return np.std(ratios)

    assert catalogue_names()[12].endswith("kite")
    assert spread(1.0) > 1.3 * spread(0.0)


# No novel class leaks into the pretraining


def test_catalogues_share_no_name_and_no_drawing_function():
    for classes, auxiliary in ((CLASS_OUTLINES, AUXILIARY_OUTLINES), (CLASS_TEXTURES, AUXILIARY_TEXTURES)):
        assert not set(classes) & set(auxiliary)
        functions = [*classes.values(), *auxiliary.values()]
        assert len(set(functions)) == len(functions)
        assert len({function.__code__ for function in functions}) == len(functions)
    names = catalogue_names("classes") + catalogue_names("auxiliary")
    assert len(set(names)) == 160
    words = [{word for name in catalogue_names(c) for word in name.split()} for c in CATALOGUES]
    assert not words[0] & words[1]
    assert catalogue_names()[0] == "striped star" and catalogue_names()[79] == "netted flower"
    assert "dotted kite" in catalogue_names()


def test_no_auxiliary_outline_draws_a_class_outline_whatever_its_turn():
    axis = np.linspace(-1.1, 1.1, 61, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)

    def turned(outline, angle):
        cosine, sine = np.cos(angle), np.sin(angle)
        return outline(cosine * x + sine * y, cosine * y - sine * x) > 0

    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    for name, outline in CLASS_OUTLINES.items():
        still = outline(x, y) > 0
        assert 0.1 < still.mean() < 0.7, name
        for auxiliary_name, auxiliary in AUXILIARY_OUTLINES.items():
            shapes = [turned(auxiliary, angle) for angle in angles]
            overlap = max((still & shape).sum() / (still | shape).sum() for shape in shapes)
            assert overlap < 0.85, (name, auxiliary_name)
        assert max((still & turned(outline, a)).sum() / (still | turned(outline, a)).sum() for a in angles) == 1


def test_textures_differ_from_one_another():
    axis = np.linspace(-2, 2, 80, dtype=np.float32)
    u, v = np.meshgrid(axis, axis)
    textures = {**CLASS_TEXTURES, **AUXILIARY_TEXTURES}
    drawn = {name: texture(u, v) for name, texture in textures.items()}
    for name, mix in drawn.items():
        assert mix.shape == u.shape and mix.min() >= 0 and mix.max() <= 1, name
        for other, other_mix in drawn.items():
            if name < other:
                assert np.abs(mix - other_mix).mean() > 0.1, (name, other)


def forbid(monkeypatch, what):
    """Make every drawing function of a catalogue, or all "textures", raise."""

    def forbidden(*_):
        raise AssertionError(f"something of {what} is drawn")

    for functions in CATALOGUES.get(what, [CLASS_TEXTURES]):
        for name in functions:
            monkeypatch.setitem(functions, name, forbidden)


def test_pretraining_draws_nothing_of_the_few_shot_classes(monkeypatch, tmp_path):
    forbid(monkeypatch, "classes")
    with pytest.raises(AssertionError, match="something of classes is drawn"):
        ToyWorld(1, seed=0)[0]  # so the trap works
    monkeypatch.setattr(pretraining, "HELD_OUT_SCENES", 8)
    config = PretrainingConfig(n_scenes=8, steps=2, batch_size=4, precision="32-true")
    metadata = pretrain(tmp_path / "tiny.safetensors", config)
    assert 0 <= metadata["score"] <= 1
    forbid(monkeypatch, "auxiliary")
    with pytest.raises(AssertionError, match="something of auxiliary is drawn"):
        pretrain(tmp_path / "tiny.safetensors", config)


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gap": 1.5}, "gap is 1.5; choose a number from 0"),
        ({"gap": -0.1}, "gap is -0.1"),
        ({"catalogue": "novel"}, "catalogue is 'novel'; choose one of classes, auxiliary"),
        ({"length": 0}, "length is 0"),
        ({"size": 31}, "size is 31; give a whole number of at least 32"),
        ({"size": 64.0}, r"size is 64\.0; give a whole number"),
        ({"seed": -1}, "seed is -1; give a whole number of at least 0"),
        ({"targets": [80]}, "class index 80 is not in 0 to 79"),
        ({"others": [-1]}, "class index -1 is not in 0 to 79"),
        ({"targets": []}, "must each hold at least one class index"),
        ({"others": []}, "must each hold at least one class index"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    kinds = ((3, range(4), 1.0), (np.int64(3), np.arange(4), 1))
    plain, numpys = (ToyWorld(4, seed=seed, targets=targets, gap=gap) for seed, targets, gap in kinds)
    assert plain.fingerprint == numpys.fingerprint
    with pytest.raises(ValueError, match=message) as caught:
        ToyWorld(**{"length": 4, "seed": 0, **settings})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("index", [-1, 4])
def test_scenes_outside_the_world_do_not_exist(index):
    world = ToyWorld(4, seed=0)
    for read in (world.plan, world.__getitem__):
        with pytest.raises(IndexError, match="is not in 0 to 3"):
            read(index)
