"""Episodes straight from images: the same as from kept features, whoever decodes."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.base import DatasetDefaults, Sample
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.datasets.transforms import normalise, resize_sample
from dpnet_lite.episodes import Episode, StepParts, draw_episodes
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.features import FeatureBank
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.published.augmentation import draw_views
from dpnet_lite.published.image_source import _GRACE, ImageSource, _outlive_interrupts
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.scoring import score_episodes, training_free_segmenter
from dpnet_lite.training import Trainer, initial_network

TRAINING = TrainingConfig(
    steps=3, batch_size=2, n_shot=2, warmup_steps=1, scale=0.1, rotation=10.0, blur=0.5, checkpoint_every=0
)
PLAIN = replace(TRAINING, scale=0.0, rotation=0.0, blur=0.0, flip=False)


@pytest.fixture(scope="module")
def world() -> ToyWorld:
    return ToyWorld(48, seed=3, targets=range(8), others=range(8), size=64)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return build_backbone("tiny", "random", seed=1)


@pytest.fixture(scope="module")
def bank(world, backbone) -> FeatureBank:
    return compute_features(world, backbone, size=48)


def batches(source, config: TrainingConfig) -> list[EpisodeBatch]:
    episodes = draw_episodes(source.dataset, range(1, 8), fold=0, n_shot=2, count=6, seed=0)
    return list(source.training_batches(StepParts(episodes.episodes, config, range(3)), config))


def assert_equal(one: EpisodeBatch, other: EpisodeBatch, **tolerance) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("kept", [0, 3, 100])
def test_scoring_gets_what_kept_features_give(world, backbone, bank, kept):
    source = ImageSource(world, backbone, size=48, kept=kept)
    episodes = draw_episodes(world, [0, 3], fold=0, n_shot=2, count=8, seed=0)
    for start in (0, 4):
        chunk = list(episodes)[start : start + 4]
        # One image at a time or many: the last bit of float16 may differ.
        assert_equal(source.batch(chunk), bank.batch(chunk), rtol=2e-3, atol=2e-3)
    assert len(source._features) == min(kept, len({i for e in episodes for i in (e.query, *e.support)}))
    segment = training_free_segmenter(backbone.deep_channels)
    ours, theirs = (score_episodes(segment, s, episodes, original_size=True) for s in (source, bank))
    assert ours.miou == pytest.approx(theirs.miou, abs=5e-3)


def test_support_labels_can_be_edited(world, backbone):
    episodes = list(draw_episodes(world, [0, 3], fold=0, n_shot=2, count=2, seed=0))
    source = ImageSource(world, backbone, size=48)
    edited = source.batch(episodes, edit_support=lambda labels: torch.zeros_like(labels))
    assert not edited.support_masks.any() and (edited.support_background == 1).all()
    assert torch.equal(edited.query_labels, source.batch(episodes).query_labels)


def test_training_is_the_same_whoever_decodes(world, backbone, bank):
    plain = batches(ImageSource(world, backbone, size=48), PLAIN)
    for ours, theirs in zip(plain, batches(bank, PLAIN), strict=True):
        assert_equal(ours, theirs, rtol=2e-3, atol=2e-3)
    alone = batches(ImageSource(world, backbone, size=48), TRAINING)
    for one, other in zip(alone, batches(ImageSource(world, backbone, size=48, workers=2), TRAINING), strict=True):
        assert_equal(one, other)
    assert not torch.equal(alone[0].query_features, plain[0].query_features)
    assert any((batch.query_labels == 255).any() for batch in alone)  # turned corners are ignored
    shares = torch.cat([(b.support_masks + b.support_background).flatten() for b in alone])
    assert shares.max() <= 1 and shares.min() < 1


def test_ignored_novel_classes_stay_ignored(world, backbone):
    view = TrainingView(world, [0], "ignore")
    source = ImageSource(view, backbone, size=64)
    index = int(world.class_areas[:, 0].argmax())
    labels = world[index].labels
    other = 1 + next(int(c) for c in world.class_areas[index].argsort()[::-1] if c)
    got = source.batch([Episode(other - 1, index, (index,))]).query_labels[0]
    assert torch.equal(got == 255, labels == 1) and torch.equal(got == 1, labels == other)


class TwoKinds(DatasetDefaults):
    """A data set of more classes than labels hold: image i is of class i // 2, and its object has the value 1."""

    name, fingerprint = "two kinds", "f"
    class_names = tuple(f"class {number}" for number in range(300))

    def __len__(self) -> int:
        return 600

    def __getitem__(self, index: int) -> Sample:
        labels = torch.zeros(20, 20, dtype=torch.uint8)
        labels[5:15, 5:15] = 1
        return Sample(torch.full((3, 20, 20), index % 256, dtype=torch.uint8), labels)

    def label_value(self, index: int, class_index: int) -> int:
        return 1 if index // 2 == class_index else -1


def test_classes_beyond_eight_bits(backbone):
    source = ImageSource(TwoKinds(), backbone, size=20)
    batch = source.batch([Episode(270, 540, (541,)), Episode(271, 540, (543,))])
    assert int((batch.query_labels[0] == 1).sum()) == 100
    assert not (batch.query_labels[1] == 1).any() and batch.support_masks[1].any()


def test_a_network_trains_from_images_and_a_resumed_run_is_the_same(world, backbone, tmp_path):
    def trainer(path: Path) -> Trainer:
        source = ImageSource(world, backbone, size=48)
        network = initial_network(ModelConfig(channels=8), backbone, TRAINING.seed)
        return Trainer(network, TRAINING, source, range(1, 8), fold=0, folder=path)

    whole = trainer(tmp_path / "whole").run()
    trainer(tmp_path / "parts").run(stop_after=1)
    resumed = trainer(tmp_path / "parts").run(resume=True)
    for name, tensor in whole.head.state_dict().items():
        assert torch.equal(resumed.head.state_dict()[name], tensor)
    assert 0 < whole.waited <= whole.seconds


def test_a_broken_image_is_named_whoever_decodes(pascal_tree, copy_of, backbone, monkeypatch):
    def closed(dataset: Pascal5i, index: int) -> None:
        raise PermissionError(13, "Permission denied", "x.jpg")

    broken = Pascal5i(copy_of(pascal_tree).root, "train")
    for index in range(len(broken)):
        path = broken.image_path(index)
        path.write_bytes(path.read_bytes()[:100])
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r"\.jpg cannot be read as an image .* replace or remove it") as caught:
            batches(ImageSource(broken, backbone, size=48, workers=workers), PLAIN)
        assert "\n" not in str(caught.value)
        monkeypatch.setattr(Pascal5i, "image_path", closed)
        with pytest.raises(PermissionError, match=r"^\[Errno 13\] .*: 'x.jpg'; check the path and its rights$"):
            batches(ImageSource(broken, backbone, size=48, workers=workers), PLAIN)
        monkeypatch.undo()


def test_the_features_used_longest_ago_go_first(world, backbone):
    source = ImageSource(world, backbone, size=48, kept=2)
    for index in (0, 1, 0, 2):  # 1 was used longest ago when 2 comes
        source._image(index)
    assert list(source._features) == [0, 2]
    with pytest.raises(ValueError, match="workers is -1"):
        ImageSource(world, backbone, size=48, workers=-1)


def test_workers_leave_the_main_process_time_to_save():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _outlive_interrupts(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
        assert 0 < signal.alarm(0) <= _GRACE  # it ends later, by itself
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_every_image_is_mirrored_as_its_own_view_says(world, backbone):
    config = replace(PLAIN, flip=True)
    episodes = draw_episodes(world, range(1, 8), fold=0, n_shot=2, count=6, seed=0)
    source, parts = ImageSource(world, backbone, size=48), StepParts(episodes.episodes, config, range(3))
    seen = set()
    for part, batch in zip(parts, source.training_batches(parts, config), strict=True):
        views = iter(draw_views(part, config))
        for row, episode in enumerate(part.episodes):
            for place, index in enumerate(episode.images):
                flip = next(views).flip
                image = resize_sample(world[index], 48).image
                plain = backbone(normalise((image.flip(-1) if flip else image)[None]))[0]
                found = batch.query_features[row] if place == 0 else batch.support_features[row, place - 1]
                torch.testing.assert_close(found, plain, rtol=1e-3, atol=1e-4)
                seen.add((place > 0, flip))
    assert len(seen) == 4  # queries and support images, mirrored or not
