"""Scoring loops against scikit-learn; a perfect prediction scores exactly 1."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from core_fixtures import block_means
from PIL import Image
from sklearn.metrics import jaccard_score

from dpnet_lite import scoring
from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import ModelConfig
from dpnet_lite.datasets.folder import FolderDataset
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import Episode, draw_episodes
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.features import FeatureBank
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.scoring import head_segmenter, predicted_mask, score_episodes, training_free_segmenter


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
    return compute_features(FolderDataset(root), build_backbone("tiny", "random"), size=32)


@pytest.fixture(scope="module")
def episodes(bank):
    return draw_episodes(bank.dataset, (0, 1, 2), fold=0, n_shot=1, count=23, seed=3, min_area=0.0)


def test_networks_of_no_numbers_and_images_that_are_not_there_are_refused(bank, episodes):
    head = DPNet(ModelConfig(channels=4), 144, 96).eval()
    torch.nn.init.constant_(next(head.parameters()), float("nan"))
    with pytest.raises(ValueError, match=r"^the network gives NaN or infinity in episode 0; load or train it anew$"):
        score_episodes(head_segmenter(head), bank, episodes)
    elsewhere = replace(episodes, episodes=(Episode(0, 999, (1,)),))
    with pytest.raises(ValueError, match=r"^the episodes name image 999 of 8; draw them anew$"):
        score_episodes(head_segmenter(head), bank, elsewhere)
    with pytest.raises(TypeError, match=r"^episodes is a tuple; give the list that was drawn, of fewer with count$"):
        score_episodes(head_segmenter(head), bank, episodes.episodes[:3])
    with pytest.raises(ValueError, match=r"^the network is in training mode; call head\.eval\(\)$"):
        score_episodes(head_segmenter(head.train()), bank, episodes)


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


def test_the_photographs_are_of_odd_sizes_and_are_squashed(bank):
    sizes = {tuple(bank.dataset[i].labels.shape) for i in range(len(bank.dataset))}
    assert len(sizes) > 4 and all(height != width for height, width in sizes) and bank.labels.shape[1:] == (32, 32)


@pytest.mark.parametrize("original_size", [False, True])
def test_a_perfect_prediction_scores_exactly_one(bank, episodes, original_size):
    scores = score_episodes(truth_segmenter(bank, episodes, original_size), bank, episodes, original_size=original_size)
    assert scores.miou == scores.fb_iou == scores.episode_miou == 1.0
    assert scores.episodes_sha256 == episodes.sha256


def test_case_04_a_class_that_the_networks_size_loses_is_scored_at_the_images_own(tmp_path):
    """Rows of one pixel in eight: at 8 of 64 pixels none is left, and the class would leave the mean."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.txt").write_text("stripes\n")
    labels = np.zeros((64, 64), dtype=np.uint8)
    labels[::8] = 1
    for number in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(labels).save(tmp_path / f"masks/{number}.png")
    bank = compute_features(FolderDataset(tmp_path), build_backbone("tiny", "random"), size=8)
    assert not bank.labels.any()
    episodes = draw_episodes(bank.dataset, (0,), fold=0, n_shot=1, count=4, seed=0)
    everything = score_episodes(
        lambda batch: torch.tensor([0.0, 1.0])[None, :, None, None].expand(4, 2, 2, 2), bank, episodes
    )
    assert everything.counts.tolist() == [[512, 4096, 0, 3584]] * 4 and everything.miou == 0.125
    nothing = score_episodes(lambda batch: torch.zeros(4, 2, 2, 2), bank, episodes)
    assert nothing.miou == 0 and nothing.fb_iou == 0.4375


def test_one_wrong_pixel_is_no_longer_perfect(bank, episodes):
    segment, flipped = truth_segmenter(bank, episodes, True), []

    def almost(batch):
        rows = segment(batch)
        if not flipped:
            labels = bank.dataset[episodes[0].query].labels
            row, column = (int(v) for v in torch.nonzero(labels != 255)[0])
            rows[0][:, row, column] = 1 - rows[0][:, row, column]
            flipped.append(int(labels[row, column]))
        return rows

    scores = score_episodes(almost, bank, episodes, original_size=True)
    assert scores.fb_iou < 1.0 and scores.miou < 1.0
    intersection, union = scores.counts[0, 0], scores.counts[0, 1]
    assert union - intersection == 1 and (scores.counts[1:, 0] == scores.counts[1:, 1]).all()


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


def test_real_segmenters_treat_each_episode_by_itself(bank, episodes):
    """Dropout is off, and nothing looks at another episode of the batch."""
    torch.manual_seed(0)
    head = DPNet(ModelConfig(channels=8, dropout=0.9), bank.backbone.out_channels, bank.backbone.deep_channels).eval()
    for segment in (head_segmenter(head), training_free_segmenter(bank.backbone.deep_channels)):
        with torch.no_grad():
            together = segment(bank.batch(list(episodes)))
            alone = torch.cat([segment(bank.batch([episode])) for episode in episodes])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        assert float((together[0] - together[1]).abs().max()) > 1e-3


def test_the_baseline_is_the_nearest_of_two_prototypes(bank, episodes):
    """With one foreground and one background mean per support image, in NumPy."""
    deep = bank.backbone.deep_channels
    batch = bank.batch([episodes[i] for i in range(4)])
    known = torch.ones_like(batch.support_background)
    known[:, :, :, 5:] = 0  # nothing is known there: 255
    batch = batch._replace(support_background=batch.support_background * known)
    logits = training_free_segmenter(deep)(batch)
    for row in range(4):
        episode = episodes[row]
        support, query = (
            bank.features[index, 0, :, :, -deep:].astype(np.float64) for index in (episode.support[0], episode.query)
        )
        labels = bank.labels[episode.support[0]].numpy()
        inside = labels == episode.class_index + 1
        share, rest = (block_means(mask, (8, 8)) for mask in (inside, ~inside & (labels != 255)))
        prototypes = [(support * w[..., None]).sum((0, 1)) / w.sum() for w in (share, rest * known[0, 0].numpy())]
        cosines = [(query @ p) / np.linalg.norm(p) / np.linalg.norm(query, axis=2) for p in prototypes]
        np.testing.assert_array_equal(logits[row].argmax(dim=0).numpy() == 1, cosines[0] > cosines[1])


def test_an_observer_sees_every_batch_and_changes_nothing(bank, episodes):
    torch.manual_seed(1)
    head, seen = DPNet(ModelConfig(channels=8), bank.backbone.out_channels, bank.backbone.deep_channels).eval(), []
    watched = head_segmenter(head, observe=lambda batch, trace: seen.append((len(batch.query_labels), trace.reliable)))
    plain, observed = (score_episodes(segment, bank, episodes) for segment in (head_segmenter(head), watched))
    assert observed.to_dict() == plain.to_dict()
    assert [n for n, _ in seen] == [10, 10, 3] and all(len(reliable) == n for n, reliable in seen)


def test_edited_support_labels_reach_the_segmenter(bank, episodes):
    def full(batch):
        assert bool((batch.support_masks == 1).all()) and not batch.support_background.any()
        return torch.stack([batch.support_masks[:, 0], batch.support_masks[:, 0]], dim=1)

    progressed = []
    scores = score_episodes(
        full, bank, episodes, edit_support=torch.ones_like, progress=lambda rows: progressed.extend(rows) or rows
    )
    assert scores.counts[:, 0].sum() == 0 and progressed == [0, 10, 20]


@pytest.mark.parametrize("edit", [lambda labels: None, lambda labels: labels[:1], lambda labels: labels * 0.9])
def test_edits_that_are_no_labels_are_refused(bank, episodes, edit):
    with pytest.raises(ValueError, match=r"^edit_support must return labels \[10, 32, 32\] with 0, 1 and 255 alone$"):
        score_episodes(training_free_segmenter(96), bank, episodes, edit_support=edit)


def test_what_is_no_answer_for_two_classes_is_refused_and_lost_masks_are_told(bank, episodes, caplog):
    plain = training_free_segmenter(bank.backbone.deep_channels)
    for answer, shape in (
        (lambda batch: plain(batch)[:, :1], r"\[1, 8, 8\]"),
        (lambda b: plain(b).argmax(1), r"\[8, 8\]"),
    ):
        with pytest.raises(ValueError, match=f"^the segmenter gives {shape} for an episode; give \\[2, h, w\\]"):
            score_episodes(answer, bank, episodes)
    for channels in (0, -3, 5000):
        with pytest.raises(ValueError, match=rf"^deep_channels is {channels}, of 144; give the backbone's$"):
            score_episodes(training_free_segmenter(channels), bank, episodes)
    score_episodes(plain, bank, episodes)
    assert not caplog.messages
    score_episodes(plain, bank, episodes, edit_support=torch.zeros_like)
    assert caplog.messages == ["support masks are empty at 32 pixels in 23 of 23 episodes"]


def test_ties_are_background_and_labels_are_not_resized():
    assert predicted_mask(torch.zeros(2, 3, 3), (7, 5)).sum() == 0
    left = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])  # [2, 1, 2]: foreground on the left
    np.testing.assert_array_equal(predicted_mask(left, (1, 6)).numpy(), [[1, 1, 1, 0, 0, 0]])


def test_episodes_of_another_data_set_are_refused(bank):
    view = TrainingView(bank.dataset, (1,), "ignore")
    other = draw_episodes(view, (0, 2), fold=0, n_shot=1, count=4, seed=0, min_area=0.0)
    with pytest.raises(ValueError, match="another data set"):
        score_episodes(noise_segmenter, bank, other)
