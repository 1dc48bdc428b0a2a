"""The feature bank: in memory, on disk, interrupted; and how it gathers episodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.datasets.transforms import normalise, resize_sample
from dpnet_lite.episodes import Episode
from dpnet_lite.features import CHUNK, FeatureBank, binary

SIZE, N_IMAGES = 32, 2 * CHUNK + 3


@pytest.fixture(scope="module")
def world():
    return ToyWorld(N_IMAGES, seed=5, size=48)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("tiny", "random")


@pytest.fixture(scope="module")
def bank(world, backbone):
    return FeatureBank(world, backbone, size=SIZE, flip=True)


class CountingBackbone(torch.nn.Module):
    """Counts the images that go through a backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.images = backbone, 0
        self.stride, self.out_channels = backbone.stride, backbone.out_channels
        self.cache_key = backbone.cache_key

    def forward(self, images):
        self.images += len(images)
        return self.backbone(images)


def test_features_are_the_backbones_to_half_precision(bank, world, backbone):
    assert bank.features.shape == (N_IMAGES, 2, 8, 8, backbone.out_channels)
    assert bank.features.dtype == np.float16
    for index in (0, CHUNK - 1, CHUNK, N_IMAGES - 1):
        sample = resize_sample(world[index], SIZE)
        image = normalise(sample.image[None])
        assert torch.equal(bank.labels[index], sample.labels)
        for view, pixels in ((0, image), (1, image.flip(-1))):
            expected = backbone(pixels)[0]
            found = bank.take(index, view)
            assert found.dtype == torch.float32 and found.shape == expected.shape
            torch.testing.assert_close(found, expected, atol=1e-3, rtol=2e-3)
    assert not torch.equal(bank.take(0, 1), bank.take(0, 0))


def test_a_cache_on_disk_equals_memory_and_is_found_again(bank, world, backbone, tmp_path):
    counting = CountingBackbone(backbone)
    folder = tmp_path / "not" / "there yet"
    first = FeatureBank(world, counting, size=SIZE, flip=True, cache_folder=folder)
    assert counting.images == 2 * N_IMAGES
    again = FeatureBank(world, counting, size=SIZE, flip=True, cache_folder=folder)
    assert counting.images == 2 * N_IMAGES  # nothing was computed again
    for other in (first, again):
        assert np.array_equal(other.features, bank.features)
        assert torch.equal(other.labels, bank.labels)
    assert isinstance(again.features, np.memmap)


def test_other_settings_get_caches_of_their_own(world, backbone, tmp_path):
    other_world = ToyWorld(N_IMAGES, seed=6, size=48)
    other_backbone = build_backbone("tiny", "random", seed=1)
    cases = [(world, backbone, 32), (world, backbone, 16), (other_world, backbone, 16), (world, other_backbone, 16)]
    for dataset, network, size in cases:
        cached = FeatureBank(dataset, network, size=size, cache_folder=tmp_path)
        assert np.array_equal(cached.features, FeatureBank(dataset, network, size=size).features)
    assert len(list(tmp_path.glob("*.npy"))) == len(cases)


@pytest.mark.parametrize("chunks_done", [0, 1, 2])
def test_an_interrupted_cache_is_continued(bank, world, backbone, tmp_path, chunks_done):
    class Interrupted(Exception):
        pass

    def stop(chunks):
        for number, chunk in enumerate(chunks):
            if number == chunks_done:
                raise Interrupted
            yield chunk

    counting = CountingBackbone(backbone)
    with pytest.raises(Interrupted):
        FeatureBank(world, counting, size=SIZE, flip=True, cache_folder=tmp_path, progress=stop)
    assert counting.images == 2 * chunks_done * CHUNK
    finished = FeatureBank(world, counting, size=SIZE, flip=True, cache_folder=tmp_path)
    assert counting.images == 2 * N_IMAGES  # each view of each image once in all
    assert np.array_equal(finished.features, bank.features)
    assert torch.equal(finished.labels, bank.labels)


def test_a_cache_that_does_not_say_how_far_it_got_is_computed_anew(world, backbone, tmp_path):
    counting = CountingBackbone(backbone)
    first = FeatureBank(world, counting, size=16, cache_folder=tmp_path)
    expected = np.array(first.features)
    first.features[:] = 0
    next(tmp_path.glob("*.done")).write_text("")
    again = FeatureBank(world, counting, size=16, cache_folder=tmp_path)
    assert counting.images == 2 * N_IMAGES
    assert np.array_equal(again.features, expected)


def test_progress_sees_every_chunk(world, backbone):
    seen = []
    FeatureBank(world, backbone, size=16, progress=lambda chunks: seen.extend(chunks) or chunks)
    assert seen == [0, CHUNK, 2 * CHUNK]


def test_binary_labels_worked_by_hand():
    labels = torch.tensor([[0, 3, 255], [2, 3, 0]], dtype=torch.uint8)
    assert binary(labels, 3).tolist() == [[0, 1, 255], [0, 1, 0]]
    assert binary(labels, 255).tolist() == [[0, 0, 255], [0, 0, 0]]  # 255 is never a class
    assert binary(labels, 3).dtype == torch.int64


def slow_mask(labels, class_index, cells):
    """Share of the class in each cell, by loops."""
    side = len(labels) // cells
    mask = np.zeros((cells, cells), dtype=np.float32)
    for y in range(cells):
        for x in range(cells):
            patch = labels[y * side : (y + 1) * side, x * side : (x + 1) * side]
            mask[y, x] = np.mean(patch == class_index + 1)
    return mask


def test_a_batch_gathers_what_its_episodes_name(bank):
    labels = bank.labels.numpy()
    shown = [sorted(set(np.unique(labels[i])) - {0, 255}) for i in range(N_IMAGES)]
    episodes = [
        Episode(class_index=int(shown[4][0]) - 1, query=4, support=(7, 0)),
        Episode(class_index=int(shown[9][0]) - 1, query=20, support=(9, 9)),
    ]
    views = [[0, 1, 0], [1, 0, 1]]
    batch = bank.batch(episodes, views)
    assert [x.dtype for x in batch] == [torch.float32] * 4 + [torch.int64]
    for row, (episode, view) in enumerate(zip(episodes, views, strict=True)):
        assert torch.equal(batch.query_features[row], bank.take(episode.query, view[0]))
        own = labels[episode.query][:, :: -1 if view[0] else 1]
        expected = np.where(own == 255, 255, own == episode.class_index + 1)
        assert np.array_equal(batch.query_labels[row], expected)
        for k, index in enumerate(episode.support):
            assert torch.equal(batch.support_features[row, k], bank.take(index, view[1 + k]))
            own = labels[index][:, :: -1 if view[1 + k] else 1]
            mask = slow_mask(own, episode.class_index, 8)
            np.testing.assert_allclose(batch.support_masks[row, k], mask, atol=1e-6)
            # [32, 32] -> [8, 8]
            rest = ((own != 255) & (own != episode.class_index + 1)).reshape(8, 4, 8, 4).mean(axis=(1, 3))
            np.testing.assert_allclose(batch.support_background[row, k], rest, atol=1e-6)
    assert batch.query_labels[0].max() == 1 and batch.support_masks[1].max() > 0


def test_without_views_nothing_is_mirrored(bank):
    episodes = [Episode(3, 1, (2,)), Episode(5, 2, (3,))]
    plain, explicit = bank.batch(episodes), bank.batch(episodes, [[0, 0], [0, 0]])
    assert all(torch.equal(a, b) for a, b in zip(plain, explicit, strict=True))
    assert not torch.equal(plain.query_features, bank.batch(episodes, [[1, 0], [1, 0]]).query_features)


def test_ignored_pixels_are_255_in_the_query_and_outside_the_support_mask(bank):
    labels = bank.labels.clone()
    labels[:, :8] = 255
    view = TrainingView(bank.dataset, [], "background")
    changed = bank.seen_by_training(view)
    changed.labels = labels
    batch = changed.batch([Episode(int(labels[0].masked_fill(labels[0] == 255, 0).max()) - 1, 0, (0,))])
    assert bool((batch.query_labels[0, :8] == 255).all()) and bool((batch.query_labels[0, 8:] < 255).all())
    assert batch.support_masks[0, 0, :2].sum() == 0 and batch.support_masks.sum() > 0
    assert batch.support_background[0, 0, :2].sum() == 0
    assert torch.equal(
        (batch.support_masks + batch.support_background)[0, 0, 2:], torch.ones_like(labels[0, 8::4, ::4]).float()
    )


def test_a_training_view_shares_features_and_changes_labels(bank, world):
    novel = sorted({int(v) - 1 for v in bank.labels[0].unique() if v > 0})
    seen = bank.seen_by_training(TrainingView(world, novel, "ignore"))
    assert seen.features is bank.features
    hidden = torch.isin(bank.labels[0].long(), torch.tensor(novel) + 1)
    assert bool(hidden.any())
    assert torch.equal(seen.labels[0] == 255, hidden)
    assert bool((bank.labels[0] != 255).all())  # the bank itself is as it was
    assert seen.dataset.class_areas[:, novel].sum() == 0
    with pytest.raises(ValueError, match="the view is of toy, the features are of toy"):
        bank.seen_by_training(TrainingView(ToyWorld(3, seed=0), novel, "ignore"))
