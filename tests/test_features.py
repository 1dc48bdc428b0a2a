"""Features of a data set: in memory, in a cache, interrupted, damaged, shared; and how they are gathered to batches."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from core_fixtures import block_means
from places import ROOT

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import KnownAreas, Sample
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.datasets.transforms import normalise, resize_sample
from dpnet_lite.episodes import Episode, StepParts
from dpnet_lite.experiments import kept_features
from dpnet_lite.experiments.kept_features import CHUNK, compute_features
from dpnet_lite.features import binary
from dpnet_lite.storage.caches import default_cache, usable_cache

SIZE, N_IMAGES = 32, 2 * CHUNK + 3


@pytest.fixture(scope="module")
def world():
    return ToyWorld(N_IMAGES, seed=5, size=48)


@pytest.fixture(scope="module")
def backbone():
    return build_backbone("tiny", "random")


@pytest.fixture(scope="module")
def bank(world, backbone):
    return compute_features(world, backbone, size=SIZE, flip=True)


def features(bank, index, view=0):
    """Of one image as the network takes them, float32 [D, h, w]."""
    return torch.from_numpy(np.array(bank.features[index, view], dtype=np.float32)).permute(2, 0, 1)


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
    assert bank.features.dtype == np.float16 and bank.dataset is world and bank.size == SIZE
    for index in (0, CHUNK - 1, CHUNK, N_IMAGES - 1):
        sample = resize_sample(world[index], SIZE)
        image = normalise(sample.image[None])
        assert torch.equal(bank.labels[index], sample.labels)
        for view, pixels in ((0, image), (1, image.flip(-1))):
            torch.testing.assert_close(features(bank, index, view), backbone(pixels)[0], atol=1e-3, rtol=2e-3)
    assert not torch.equal(features(bank, 0, 1), features(bank, 0, 0))


# The cache


def test_a_cache_on_disk_equals_memory_and_is_found_again(bank, world, backbone, tmp_path):
    counting = CountingBackbone(backbone)
    folder = tmp_path / "not" / "there yet"
    settings = {"size": SIZE, "flip": True, "cache_folder": folder}
    first = compute_features(world, counting, **settings)
    assert counting.images == 2 * N_IMAGES

    class Drawn(ToyWorld):
        def __getitem__(self, index):
            raise AssertionError("a world that is found again is not drawn")

    again = compute_features(Drawn(N_IMAGES, seed=5, size=48), counting, **settings)
    np.testing.assert_array_equal(again.dataset.class_areas, world.class_areas)
    assert counting.images == 2 * N_IMAGES  # nothing was computed again
    for other in (first, again):
        assert np.array_equal(other.features, bank.features) and torch.equal(other.labels, bank.labels)
    assert isinstance(again.features, np.memmap)


def test_what_is_written_into_found_features_stays_out_of_the_cache(world, backbone, tmp_path):
    changed, plain = (compute_features(world, backbone, size=16, cache_folder=tmp_path) for _ in range(2))
    expected = np.array(plain.features)
    changed.features[:], changed.labels[:] = 0, 9
    again = compute_features(world, backbone, size=16, cache_folder=tmp_path)
    assert np.array_equal(again.features, expected) and torch.equal(again.labels, plain.labels)


def test_known_areas_leave_the_rest_to_the_data_set(world):
    areas = np.full((N_IMAGES, 80), 0.25, dtype=np.float32)
    known = KnownAreas(world, areas)
    assert known.class_areas is areas and len(known) == N_IMAGES
    for name in ("name", "fingerprint", "class_names", "class_pixels"):
        assert getattr(known, name) == getattr(world, name), name
    for found, expected in ((known[3], world[3]), ((known.read_labels(3),), (world[3].labels,))):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    class Renumbered(ToyWorld):
        def label_value(self, index, class_index):
            return 100 * index + class_index

    assert KnownAreas(Renumbered(2, seed=0), areas).label_value(1, 7) == 107


def test_other_settings_get_caches_of_their_own(world, backbone, tmp_path):
    other_world = ToyWorld(N_IMAGES, seed=6, size=48)
    other_backbone = build_backbone("tiny", "random", seed=1)
    cases = [(world, backbone, 32), (world, backbone, 16), (other_world, backbone, 16), (world, other_backbone, 16)]
    for dataset, network, size in cases:
        cached = compute_features(dataset, network, size=size, cache_folder=tmp_path)
        assert np.array_equal(cached.features, compute_features(dataset, network, size=size).features)
    compute_features(world, backbone, size=16, flip=True, cache_folder=tmp_path)
    assert len(list(tmp_path.glob("*/features.npy"))) == len(cases) + 1


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
    settings = {"size": SIZE, "flip": True, "cache_folder": tmp_path}
    with pytest.raises(Interrupted):
        compute_features(world, counting, progress=stop, **settings)
    assert counting.images == 2 * chunks_done * CHUNK
    finished = compute_features(world, counting, **settings)
    assert counting.images == 2 * N_IMAGES  # each view of each image once in all
    assert np.array_equal(finished.features, bank.features) and torch.equal(finished.labels, bank.labels)


def flip(path, place):
    data = bytearray(path.read_bytes())
    data[place] ^= 0x01
    path.write_bytes(bytes(data))


DAMAGES = {  # of a cache of 3 chunks, and how many images go through the backbone again
    "done is empty": (lambda path: (path / "done").write_text(""), N_IMAGES),
    "done is gone": (lambda path: (path / "done").unlink(), N_IMAGES),
    "a digest is flipped": (lambda path: flip(path / "done", 40), CHUNK),
    "features are gone": (lambda path: (path / "features.npy").unlink(), N_IMAGES),
    "a feature is flipped": (lambda path: flip(path / "features.npy", -1), N_IMAGES % CHUNK),
    "features have another kind": (lambda path: flip(path / "features.npy", 23), N_IMAGES),
    "features are cut": (lambda path: os.truncate(path / "features.npy", 9_000), N_IMAGES),
    "features are padded": (
        lambda path: [os.truncate(path / "features.npy", n) for n in (90_000, 161_408)],
        N_IMAGES - CHUNK,
    ),
    "a label is flipped": (lambda path: flip(path / "labels.npy", 128), CHUNK),
    "an area is flipped": (lambda path: flip(path / "areas.npy", -1), 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_computed_anew(world, backbone, tmp_path, damage, caplog):
    """No byte of it is trusted: a damaged file was padded with zeros once, and used."""
    whole = compute_features(world, backbone, size=16, cache_folder=tmp_path)
    expected, counting = np.array(whole.features), CountingBackbone(backbone)
    (path,) = tmp_path.iterdir()
    do_damage, n_images = DAMAGES[damage]
    do_damage(path)
    for _ in range(2):
        again = compute_features(world, counting, size=16, cache_folder=tmp_path)
        assert np.array_equal(again.features, expected) and torch.equal(again.labels, whole.labels)
        np.testing.assert_array_equal(again.dataset.class_areas, world.class_areas)
        assert counting.images == n_images
    assert len(caplog.records) == (not damage.startswith("done"))
    assert all(re.search("[1-4] parts are damaged, or of other images, ", text) for text in caplog.messages)


def test_a_cache_of_other_images_that_lies_in_its_place_is_computed_anew(world, backbone, tmp_path, caplog):
    """Its digests are right, and were taken for those of these images."""
    other = ToyWorld(N_IMAGES, seed=6, size=48)
    paths = []
    for dataset in (other, world):
        compute_features(dataset, backbone, size=16, cache_folder=tmp_path / str(dataset.seed))
        paths += (tmp_path / str(dataset.seed)).iterdir()
    shutil.copytree(*paths, dirs_exist_ok=True)
    found = compute_features(world, backbone, size=16, cache_folder=tmp_path / str(world.seed))
    expected = compute_features(world, backbone, size=16)
    assert np.array_equal(found.features, expected.features) and torch.equal(found.labels, expected.labels)
    assert "4 parts are damaged, or of other images, and are computed again" in caplog.text


def test_a_cache_that_another_process_takes_away_loses_nothing(world, backbone, tmp_path):
    """A second start once emptied the files under the first, which had its rows marked as done in the new ones."""
    expected = compute_features(world, backbone, size=16).features

    def taken_away(chunks):
        for chunk in chunks:
            if chunk == CHUNK and not list(tmp_path.glob("*/old")):
                (path,) = tmp_path.iterdir()
                (path / "old").touch()
                (path / "features.npy").unlink()
                np.save(path / "features.npy", np.zeros_like(expected))
            yield chunk

    for _ in range(2):
        found = compute_features(world, backbone, size=16, cache_folder=tmp_path, progress=taken_away)
        assert np.array_equal(found.features, expected)


def test_a_full_disk_is_told_before_anything_is_computed(world, backbone, tmp_path, monkeypatch):
    """Features that found no room ended the process with a bus error."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept_features, "_reserve", full)
    counting, n_bytes = CountingBackbone(backbone), N_IMAGES * (4 * 4 * 144 * 2 + 16 * 16 + 80 * 4)
    with pytest.raises(OSError, match=rf"\(No space left on device; {n_bytes:,} bytes are needed\): .* with --cache$"):
        compute_features(world, counting, size=16, cache_folder=tmp_path)
    assert counting.images == 0 and not list(tmp_path.glob("*/*.npy"))


def test_case_10_without_a_folder_for_caches_features_stay_in_memory(monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", Path("/proc/none")):
        assert usable_cache(folder) is None
        assert f"features are not kept for the next run: {folder} cannot be written (" in caplog.messages[-1]
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert usable_cache() is None and caplog.messages[-1].endswith("a cache in; name a folder with --cache")
    assert usable_cache(tmp_path / "new") == tmp_path / "new" and (tmp_path / "new").is_dir()


PROGRAM = """
import sys
from pathlib import Path
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.backbones.backbone import build_backbone

def waiting(chunks):
    for chunk in chunks:
        if chunk == 0:
            print("begun", flush=True)
            sys.stdin.readline()
        yield chunk

world, backbone = ToyWorld(35, seed=5, size=48), build_backbone("tiny", "random")
compute_features(world, backbone, size=32, flip=True, cache_folder=Path(sys.argv[1]), progress=waiting)
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True])
def test_another_process_that_fills_the_cache_is_waited_for(bank, world, backbone, tmp_path, is_killed):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT, text=True, **pipes) as other:
        assert other.stdout.readline() == "begun\n"
        if is_killed:
            other.kill()
        else:
            other.stdin.write("go on\n")
            other.stdin.flush()
        counting = CountingBackbone(backbone)
        found = compute_features(world, counting, size=SIZE, flip=True, cache_folder=tmp_path)
    assert counting.images == (2 * N_IMAGES if is_killed else 0)
    assert np.array_equal(found.features, bank.features) and torch.equal(found.labels, bank.labels)


def test_samples_of_ones_own_are_checked(world, backbone):
    class Made(KnownAreas):
        wide, strange = 0, 0

        def __getitem__(self, index):
            image, labels = world[index]
            return Sample(image[:, self.wide :], labels.long() + self.strange)

    made = Made(world, world.class_areas)
    made.name, made.wide = "made", 1
    with pytest.raises(
        ValueError, match=r"^image 0 of made: the image is \[3, 47, 48\], its labels are \[48, 48\]; gi"
    ):
        compute_features(made, backbone, size=32)
    made.wide, made.strange = 0, 300
    with pytest.raises(ValueError, match=r"^image 0 of made has labels 300 to \d+; give 0 to 255$"):
        compute_features(made, backbone, size=32)
    for odd, told in (({"size": 1.5}, "size is 1.5"), ({"size": 32, "device": "cuda:9"}, "device is 'cuda:9'")):
        with pytest.raises(ValueError, match=f"^{told}"):
            compute_features(world, backbone, **odd)
    made.strange = 100
    with pytest.raises(ValueError, match=r"^image 0 of made holds the value 100, but there are 80 classes$"):
        compute_features(made, backbone, size=32)


def test_progress_sees_every_chunk(world, backbone):
    seen = []
    compute_features(world, backbone, size=16, progress=lambda chunks: seen.extend(chunks) or chunks)
    assert seen == [0, CHUNK, 2 * CHUNK]


def test_the_cache_lies_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "dpnet_lite"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache().parts[-2:] == (".cache", "dpnet_lite")


# Batches


def test_binary_labels_worked_by_hand():
    labels = torch.tensor([[0, 3, 255], [2, 3, 0]], dtype=torch.uint8)
    assert binary(labels, 3).tolist() == [[0, 1, 255], [0, 1, 0]]
    assert binary(labels, 255).tolist() == [[0, 0, 255], [0, 0, 0]]  # 255 is never a class
    assert binary(labels, 3).dtype == torch.int64


def slow_mask(labels, class_index, cells):
    """Share of the class in each cell, by loops."""
    side = len(labels) // cells
    mask = np.zeros((cells, cells), dtype=np.float32)
    for y, x in np.ndindex(mask.shape):
        mask[y, x] = np.mean(labels[y * side : (y + 1) * side, x * side : (x + 1) * side] == class_index + 1)
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
    assert batch.cells == (8, 8)
    for row, (episode, view) in enumerate(zip(episodes, views, strict=True)):
        assert torch.equal(batch.query_features[row], features(bank, episode.query, view[0]))
        own = labels[episode.query][:, :: -1 if view[0] else 1]
        expected = np.where(own == 255, 255, own == episode.class_index + 1)
        assert np.array_equal(batch.query_labels[row], expected)
        for k, index in enumerate(episode.support):
            assert torch.equal(batch.support_features[row, k], features(bank, index, view[1 + k]))
            own = labels[index][:, :: -1 if view[1 + k] else 1]
            mask = slow_mask(own, episode.class_index, 8)
            np.testing.assert_allclose(batch.support_masks[row, k], mask, atol=1e-6)
            rest = block_means((own != 255) & (own != episode.class_index + 1), (8, 8))
            np.testing.assert_allclose(batch.support_background[row, k], rest, atol=1e-6)
    assert batch.query_labels[0].max() == 1 and batch.support_masks[1].max() > 0


def test_support_labels_can_be_edited_before_they_become_masks(bank):
    episodes, seen = [Episode(3, 1, (2, 4)), Episode(5, 2, (3, 6))], []

    def edit(labels):
        seen.append(labels.clone())
        return torch.where(labels == 1, 255, 1)

    plain, edited = bank.batch(episodes), bank.batch(episodes, edit_support=edit)
    assert seen[0].shape == (4, SIZE, SIZE) and seen[0].dtype == torch.int64
    torch.testing.assert_close(edited.support_masks, plain.support_background)
    assert not edited.support_background.any()
    assert torch.equal(edited.query_labels, plain.query_labels)


def test_nothing_is_mirrored_without_views_or_without_the_setting(bank):
    episodes = [Episode(3, 1, (2,)), Episode(5, 2, (3,))]
    plain, explicit = bank.batch(episodes), bank.batch(episodes, [[0, 0], [0, 0]])
    assert all(torch.equal(a, b) for a, b in zip(plain, explicit, strict=True))
    assert not torch.equal(plain.query_features, bank.batch(episodes, [[1, 0], [1, 0]]).query_features)
    config = TrainingConfig(steps=1, batch_size=2)
    parts = StepParts(episodes, config, range(1))
    one_view = replace(bank, features=bank.features[:, :1])
    for source, flip in ((bank, False), (one_view, True)):
        (batch,) = source.training_batches(parts, replace(config, flip=flip))
        assert torch.equal(batch.query_features, plain.query_features)
    flipped = [next(iter(bank.training_batches(parts, replace(config, seed=seed)))) for seed in range(4)]
    assert any(not torch.equal(batch.query_features, plain.query_features) for batch in flipped)


def test_ignored_pixels_are_255_in_the_query_and_outside_the_support_mask(bank):
    labels = bank.labels.clone()
    labels[:, :8] = 255
    class_index = int(labels[0].masked_fill(labels[0] == 255, 0).max()) - 1
    batch = replace(bank, labels=labels).batch([Episode(class_index, 0, (0,))])
    assert bool((batch.query_labels[0, :8] == 255).all()) and bool((batch.query_labels[0, 8:] < 255).all())
    assert batch.support_masks[0, 0, :2].sum() == 0 and batch.support_masks.sum() > 0
    known = (batch.support_masks + batch.support_background)[0, 0]
    assert not known[:2].any() and torch.equal(known[2:], torch.ones(6, 8))


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
