"""What training sees of novel objects, against labels drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.datasets.base import DatasetDefaults, Sample
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.kept_features import compute_features

# Rows of 2 x 4 pixels. Classes: 1 cat, 2 dog, 3 cow, 4 emu; 255 is ignored.
LABELS = [
    [[1, 1, 0, 0], [1, 1, 0, 0]],
    [[1, 1, 2, 0], [1, 1, 0, 255]],
    [[3, 3, 3, 3], [0, 0, 1, 1]],
    [[2, 2, 2, 2], [2, 2, 2, 2]],
    [[4, 4, 0, 0], [3, 3, 0, 0]],
    [[3, 0, 0, 0], [1, 0, 255, 255]],
    [[2, 2, 3, 3], [255, 255, 255, 255]],
    [[4, 4, 4, 4], [0, 0, 0, 0]],
]


class HandMade(DatasetDefaults):
    """The labels above, each pixel drawn as a square of 16 pixels."""

    name, fingerprint, class_names = "hand-made", "0" * 64, ("cat", "dog", "cow", "emu")

    def __init__(self):
        self.labels = [torch.tensor(rows, dtype=torch.uint8).repeat_interleave(16, 0) for rows in LABELS]
        self.labels = [rows.repeat_interleave(8, 1) for rows in self.labels]  # [32, 4] -> [32, 32]
        counts = [[(np.array(rows) == value).mean() for value in range(1, 5)] for rows in LABELS]
        self.class_areas = np.array(counts, dtype=np.float32)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image = torch.full((3, 32, 32), 20 * index, dtype=torch.uint8)
        return Sample(image, self.labels[index].clone())


DOG = 1  # the novel class of most tests below
IGNORED_DOG = {1: [[1, 1, 255, 0], [1, 1, 0, 255]], 3: [[255] * 4] * 2, 6: [[255, 255, 3, 3], [255] * 4]}


def seen(view: TrainingView, index: int) -> list[list[int]]:
    return view[index].labels[::16, ::8].tolist()  # [32, 32] -> [2, 4]


@pytest.mark.parametrize("policy", ["background", "ignore", "drop"])
def test_labels_under_each_policy(policy):
    view = TrainingView(HandMade(), [DOG], policy)
    for index, rows in enumerate(LABELS):
        assert seen(view, index) == (IGNORED_DOG.get(index, rows) if policy == "ignore" else rows)
        assert torch.equal(view[index].image, view.dataset[index].image)
    assert len(view) == 8 and view.class_names == view.dataset.class_names


@pytest.mark.parametrize("policy", ["background", "ignore", "drop"])
def test_areas_under_each_policy(policy):
    dataset = HandMade()
    before = dataset.class_areas.copy()
    areas = TrainingView(dataset, [DOG], policy).class_areas
    expected = before.copy()
    expected[:, DOG] = 0
    if policy == "drop":
        expected[[1, 3, 6]] = 0
    np.testing.assert_array_equal(areas, expected)
    np.testing.assert_array_equal(dataset.class_areas, before)  # the data set itself keeps its dogs


@pytest.fixture(scope="module")
def bank():
    return compute_features(HandMade(), build_backbone("tiny", "random"), size=32)


def test_a_novel_pixel_in_a_training_query_is_background_or_ignored(bank):
    """The target of an episode of cats whose query also shows a dog."""
    targets = {}
    for policy in ("background", "ignore"):
        training = bank.seen_by_training(TrainingView(bank.dataset, [DOG], policy))
        targets[policy] = training.binary_labels(1, class_index=0)[::16, ::8].tolist()
        np.testing.assert_array_equal(training.features, bank.features)
    assert targets["background"] == [[1, 1, 0, 0], [1, 1, 0, 255]]
    assert targets["ignore"] == [[1, 1, 255, 0], [1, 1, 0, 255]]
    assert bank.binary_labels(1, class_index=DOG)[::16, ::8].tolist() == [[0, 0, 1, 0], [0, 0, 0, 255]]


def images_of(dataset, classes, fold=0) -> set[int]:
    """Of many episodes. Classes left with fewer than two photographs are left out."""
    episodes = draw_episodes(dataset, classes, fold=fold, n_shot=1, count=60, seed=0, min_area=0)
    assert {episode.class_index for episode in episodes} <= set(classes)
    return {image for episode in episodes for image in (episode.query, *episode.support)}


@pytest.mark.parametrize("novel", range(4))
def test_dropped_photographs_are_in_no_training_episode_and_scored_ones_are_dropped(novel):
    dataset, base = HandMade(), [index for index in range(4) if index != novel]
    trained = images_of(TrainingView(dataset, [novel], "drop"), base)
    scored = images_of(dataset, [novel])
    with_novel = {index for index, rows in enumerate(LABELS) if novel + 1 in np.array(rows)}
    assert trained and scored == with_novel and not trained & with_novel


@pytest.mark.parametrize("policy", ["background", "ignore"])
def test_the_other_policies_do_train_on_photographs_with_novel_objects(policy):
    images = images_of(TrainingView(HandMade(), [DOG], policy), [0, 2, 3])
    assert images & {1, 6} and 3 not in images


def test_counts_of_pixels_are_treated_like_areas():
    class Counted(HandMade):
        @property
        def class_pixels(self):
            return (1024 * self.class_areas).astype(np.int32)

    for policy in ("background", "drop"):
        view = TrainingView(Counted(), [DOG], policy)
        np.testing.assert_array_equal(view.class_pixels, 1024 * view.class_areas)
    assert TrainingView(HandMade(), [DOG], "drop").class_pixels is None


def test_novel_classes_cannot_be_drawn_from_a_training_view():
    for policy in ("background", "ignore", "drop"):
        view = TrainingView(HandMade(), [DOG, 3], policy)
        with pytest.raises(ValueError, match="no class has two images"):
            draw_episodes(view, [DOG, 3], fold=0, n_shot=1, count=4, seed=0, min_area=0)


def test_views_of_other_policies_or_classes_have_other_fingerprints():
    views = [TrainingView(HandMade(), novel, policy) for novel in ([0], [1]) for policy in ("ignore", "drop")]
    assert len({view.fingerprint for view in views} | {HandMade.fingerprint}) == 5
    assert views[0].fingerprint == TrainingView(HandMade(), [0], "ignore").fingerprint


def test_an_unknown_policy_or_a_view_of_other_data_is_refused(bank):
    with pytest.raises(ValueError, match="'hide'; choose one of background, ignore, drop"):
        TrainingView(HandMade(), [DOG], "hide")
    with pytest.raises(ValueError, match=r"^novel class -1 is none of 0 to 3$"):
        TrainingView(HandMade(), [-1], "drop")
    with pytest.raises(ValueError, match="the view is of hand-made"):
        bank.seen_by_training(TrainingView(HandMade(), [DOG], "drop"))
