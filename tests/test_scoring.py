"""Scoring loops against scikit-learn; a perfect prediction scores exactly 1."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import jaccard_score

from dpnet_lite import scoring
from dpnet_lite.comparison import folder_bank
from dpnet_lite.datasets.folder import FolderDataset
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.features import FeatureBank
from dpnet_lite.model.backbone import build_backbone
from dpnet_lite.scoring import predicted_mask, score_episodes


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> FeatureBank:
    """Eight photographs of odd sizes with three classes and ignored pixels."""
    root = tmp_path_factory.mktemp("photographs")
    for name in ("images", "masks"):
        (root / name).mkdir()
    (root / "classes.txt").write_text("cat\ndog\ncow\n")
    rng = np.random.default_rng(0)
    for number in range(8):
        height, width = (int(v) for v in rng.integers(33, 90, 2))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / f"images/{number}.png")
        values = [[0, 1, 3, 255], [0, 2, 3, 255], [0, 1, 255], [0, 1, 2]][number % 4]
        coarse = rng.choice(np.array(values, dtype=np.uint8), (4, 5))
        mask = np.kron(coarse, np.ones((-(-height // 4), -(-width // 5)), dtype=np.uint8))[:height, :width]
        Image.fromarray(mask).save(root / f"masks/{number}.png")
    backbone = build_backbone("tiny", "random")
    return folder_bank([root], backbone, size=32, cache_folder=None)


@pytest.fixture(scope="module")
def episodes(bank):
    return draw_episodes(bank.dataset, (0, 1, 2), fold=0, n_shot=1, count=23, seed=3, min_area=0.0)


def truth_segmenter(bank, episodes, original_size):
    """Logits whose arg-max is the truth at the size that is scored, fed in the order of the episodes."""
    queue = iter(episodes)

    def segment(batch):
        rows = []
        for _ in range(len(batch.query_labels)):
            episode = next(queue)
            labels = bank.dataset[episode.query].labels if original_size else bank.labels[episode.query]
            foreground = (labels == episode.class_index + 1).float()
            rows.append(torch.stack([1 - foreground, foreground]))
        return rows

    return segment


@pytest.mark.parametrize("original_size", [False, True])
def test_a_perfect_prediction_scores_exactly_one(bank, episodes, original_size):
    scores = score_episodes(truth_segmenter(bank, episodes, original_size), bank, episodes, original_size=original_size)
    assert scores.miou == scores.fb_iou == scores.episode_miou == 1.0


def noise_segmenter(batch):
    """Some prediction that depends on the episode alone."""
    signal = batch.query_features.sum(dim=1) - batch.support_features.sum(dim=(1, 2))
    return torch.stack(
        [torch.zeros_like(signal), signal - signal.flatten(1).median(dim=1).values[:, None, None]], dim=1
    )


@pytest.mark.parametrize("original_size", [False, True])
def test_scores_equal_those_of_scikit_learn(bank, episodes, original_size):
    scores = score_episodes(noise_segmenter, bank, episodes, original_size=original_size)
    predicted: dict[int, list[np.ndarray]] = {}
    wanted: dict[int, list[np.ndarray]] = {}
    for episode in episodes:
        labels = (bank.dataset[episode.query].labels if original_size else bank.labels[episode.query]).numpy()
        logits = noise_segmenter(bank.batch([episode]))[0]
        mask = predicted_mask(logits, labels.shape).numpy()
        valid = labels != 255
        predicted.setdefault(episode.class_index, []).append(mask[valid])
        wanted.setdefault(episode.class_index, []).append(labels[valid] == episode.class_index + 1)
    for index, iou in scores.class_iou().items():
        expected = jaccard_score(np.concatenate(wanted[index]), np.concatenate(predicted[index]) == 1)
        assert iou == pytest.approx(expected, abs=1e-12)
    everything = [np.concatenate([np.concatenate(v) for v in part.values()]) for part in (wanted, predicted)]
    both = [jaccard_score(everything[0] == value, everything[1] == value) for value in (0, 1)]
    assert scores.fb_iou == pytest.approx(np.mean(both), abs=1e-12)


def test_the_batch_size_does_not_matter(bank, episodes, monkeypatch):
    whole = score_episodes(noise_segmenter, bank, episodes)
    monkeypatch.setattr(scoring, "BATCH", 3)
    assert json.dumps(score_episodes(noise_segmenter, bank, episodes).to_dict()) == json.dumps(whole.to_dict())


def test_episodes_of_another_data_set_are_refused(bank):
    view = TrainingView(bank.dataset, (1,), "ignore")
    other = draw_episodes(view, (0, 2), fold=0, n_shot=1, count=4, seed=0, min_area=0.0)
    with pytest.raises(ValueError, match="another data set"):
        score_episodes(noise_segmenter, bank, other)


def masks_of(dataset: FolderDataset) -> list[np.ndarray]:
    return [dataset[i].labels.numpy() for i in range(len(dataset))]


def test_novel_objects_in_training_images(bank):
    original = masks_of(bank.dataset)
    with_dogs = {i for i, mask in enumerate(original) if (mask == 2).any()}
    assert with_dogs and len(with_dogs) < len(original)
    for policy in ("background", "ignore", "drop"):
        view = TrainingView(bank.dataset, (1,), policy)
        changed = masks_of(view)
        assert (view.class_areas[:, 1] == 0).all()
        for i, (mask, before) in enumerate(zip(changed, original, strict=True)):
            expected = np.where(before == 2, 255, before) if policy == "ignore" else before
            np.testing.assert_array_equal(mask, expected)
            if policy == "drop" and i in with_dogs:
                assert (view.class_areas[i] == 0).all()
            else:
                np.testing.assert_array_equal(view.class_areas[i, [0, 2]], bank.dataset.class_areas[i, [0, 2]])
        training = bank.seen_by_training(view)
        np.testing.assert_array_equal(training.labels.numpy() == 255, view.relabel(bank.labels).numpy() == 255)
        np.testing.assert_array_equal(training.features, bank.features)


def test_a_scored_photograph_is_never_trained_on_under_drop(bank):
    view = TrainingView(bank.dataset, (1,), "drop")
    trained = draw_episodes(view, (0, 2), fold=0, n_shot=1, count=50, seed=0, min_area=0.0)
    scored = draw_episodes(bank.dataset, (1,), fold=0, n_shot=1, count=50, seed=0, min_area=0.0)
    seen = {image for e in trained for image in (e.query, *e.support)}
    assert not seen & {image for e in scored for image in (e.query, *e.support)}


def test_an_unknown_policy_is_refused(bank):
    with pytest.raises(ValueError, match="'hide'; choose one of background, ignore, drop"):
        TrainingView(bank.dataset, (1,), "hide")
