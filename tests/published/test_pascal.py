"""PASCAL-5i on made-up trees: splits, counts, layouts, filters, whose mask counts, mistakes."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_pascal import PascalTree, classes_of, draw_labels, write_pascal
from PIL import Image
from published_files import write_lines

from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.images import read_mask, voc_colours
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import class_pools, draw_episodes
from dpnet_lite.published.check import examine
from dpnet_lite.published.mask_index import MaskIndex
from dpnet_lite.published.pascal import VOC_CLASSES, Pascal5i
from dpnet_lite.published.registry import MIN_PIXELS, PUBLISHED, fold_classes, open_published, published


@pytest.fixture(scope="module")
def train(pascal_tree: PascalTree) -> Pascal5i:
    return Pascal5i(pascal_tree.root, "train")


def test_union_of_voc_and_sbd_without_duplicates_and_without_val(
    pascal_tree: PascalTree, train: Pascal5i, copy_of
) -> None:
    assert len(pascal_tree.voc_train) + len(pascal_tree.sbd_train_noval) == 40 + 5  # five images are in both lists
    assert train.ids == tuple(sorted(pascal_tree.train_ids)) and len(train) == 40
    assert Pascal5i(pascal_tree.root, "val").ids == tuple(sorted(pascal_tree.val_ids))
    assert train.class_names == VOC_CLASSES and len(set(VOC_CLASSES)) == 20 and train.name == "pascal5i-train"
    tree = copy_of(pascal_tree)
    for path in (tree.root / "sbd" / "train_noval.txt", tree.base / "ImageSets" / "Segmentation" / "train.txt"):
        path.write_text(path.read_text() + tree.val_ids[3] + "\n")
    assert Pascal5i(tree.root, "train").ids == train.ids


def test_counts_equal_a_loop_over_pixels(pascal_tree: PascalTree, train: Pascal5i) -> None:
    for row in (0, 4, 17, 39):
        counts, ignored = [0] * 20, 0
        mask = pascal_tree.labels[train.ids[row]]
        for value in mask.ravel().tolist():
            if value == IGNORE_LABEL:
                ignored += 1
            elif value:
                counts[value - 1] += 1
        assert train.class_pixels[row].tolist() == counts and train.index.ignored[row] == ignored
        assert train.index.sizes[row].tolist() == list(mask.shape)
        assert train.class_areas[row] == pytest.approx(np.array(counts) / mask.size)


def test_samples_are_the_files(pascal_tree: PascalTree, train: Pascal5i) -> None:
    for row in (0, 25):
        sample = train[row]
        assert torch.equal(sample.labels, torch.from_numpy(pascal_tree.labels[train.ids[row]]))
        pixels = np.array(Image.open(pascal_tree.base / "JPEGImages" / f"{train.ids[row]}.jpg"))
        assert torch.equal(sample.image, torch.from_numpy(pixels).permute(2, 0, 1))
        assert torch.equal(train.read_labels(row), sample.labels)
    with pytest.raises(IndexError):
        train[40]


def test_every_layout_gives_the_same_fingerprint(pascal_tree: PascalTree, train: Pascal5i, tmp_path: Path) -> None:
    common = write_pascal(tmp_path / "common", "common", with_images=False)
    moved = tmp_path / "moved"
    shutil.copytree(pascal_tree.base, moved / "VOC2012")
    shutil.copy(pascal_tree.root / "sbd" / "train_noval.txt", moved)
    assert not (common.root / "JPEGImages").exists()
    for root in (common.root, moved):
        for split in ("train", "val"):
            assert Pascal5i(root, split).fingerprint == Pascal5i(pascal_tree.root, split).fingerprint


def test_the_fingerprint_follows_masks_ids_and_split(
    pascal_tree: PascalTree, train: Pascal5i, copy_of, tmp_path: Path
) -> None:
    tree, cache = copy_of(pascal_tree), tmp_path / "cache"
    assert Pascal5i(tree.root, "train", cache_folder=cache).fingerprint == train.fingerprint
    path = Pascal5i(tree.root, "train").mask_paths[5]
    mask = np.array(Image.open(path))
    mask[0, 0] = 3
    Image.fromarray(mask).save(path)
    assert Pascal5i(tree.root, "train", cache_folder=cache).fingerprint != train.fingerprint
    same = write_lines(tmp_path / "same.txt", tree.val_ids)
    first, second = (Pascal5i(tree.root, split, lists=same) for split in ("train", "val"))
    assert first.index.sha256 == second.index.sha256 and first.fingerprint != second.fingerprint
    arrays = (np.ones((1, 2), np.int32), np.zeros((1, 20), np.int32), np.zeros(1, np.int32))
    assert MaskIndex(("a",), *arrays).sha256 != MaskIndex(("b",), *arrays).sha256


def test_counts_come_from_the_cache_and_a_broken_file_is_written_anew(pascal_tree: PascalTree, tmp_path: Path) -> None:
    looked_at: list[int] = []

    def count() -> Pascal5i:
        progress = lambda rows: (looked_at.append(row) or row for row in rows)  # noqa: E731
        dataset = Pascal5i(pascal_tree.root, "val", cache_folder=tmp_path, progress=progress)
        assert dataset.class_pixels.shape == (40, 20)
        return dataset

    expected = count().fingerprint
    assert looked_at == list(range(40)) and count().fingerprint == expected and len(looked_at) == 40
    (path,) = tmp_path.glob("index-*.npz")
    whole, other = path.read_bytes(), io.BytesIO()
    np.savez_compressed(other, sizes=np.zeros((3, 2), np.int32), pixels=np.zeros((3, 20)), ignored=np.zeros(3))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    foreign = tmp_path / "other" / path.name  # counts of other masks, whole but for another key
    Pascal5i(pascal_tree.root, "train", cache_folder=foreign.parent).fingerprint.strip()
    (foreign,) = foreign.parent.iterdir()
    for broken in (b"", whole[:100], whole[:-30], other.getvalue(), bytes(flipped), foreign.read_bytes()):
        path.write_bytes(broken)
        assert count().fingerprint == expected
        with np.load(path) as arrays:
            assert arrays["pixels"].shape == (40, 20)


def test_vocs_own_mask_counts_before_sbds(pascal_tree: PascalTree, train: Pascal5i, copy_of) -> None:
    """VOC's masks have a border of 255, SBD's have none."""
    both = set(pascal_tree.voc_train) & set(pascal_tree.sbd_train_noval)
    assert len(both) == 5
    for row, name in enumerate(train.ids):
        assert (train.index.ignored[row] > 0) == (name in pascal_tree.voc_train)
    tree = copy_of(pascal_tree)
    for name in both:
        made = np.where(tree.labels[name] == 255, 0, tree.labels[name]).astype(np.uint8)
        Image.fromarray(made).save(tree.base / "SegmentationClassAug" / f"{name}.png")
    assert Pascal5i(tree.root, "train").fingerprint == train.fingerprint


def test_masks_in_vocs_colours_are_read_as_numbers_and_said_to_be(
    pascal_tree: PascalTree, copy_of, tmp_path: Path
) -> None:
    tree = copy_of(pascal_tree)
    palette = {0: (0, 0, 0), 1: (128, 0, 0), 7: (128, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}  # VOC's table
    assert {number: tuple(voc_colours(np.array([[number]]))[0, 0]) for number in palette} == palette
    for path in (tree.base / "SegmentationClass").iterdir():
        Image.fromarray(voc_colours(tree.labels[path.stem].astype(int)).astype(np.uint8)).save(path)
    dataset = Pascal5i(tree.root, "val")
    said = r"^masks in VOC's colours are read as the class numbers"
    with pytest.warns(UserWarning, match=said):
        assert dataset.fingerprint == Pascal5i(pascal_tree.root, "val").fingerprint
    with pytest.warns(UserWarning, match=said) as warned:
        assert not [finding for finding in examine("pascal5i", tree.root) if finding.kind in ("missing", "wrong")]
    assert len(warned) == 10 + 40  # one a mask; Python shows the first
    cars = tmp_path / "cars.png"  # in a colour that is grey, too, and without a border, as of SBD
    Image.new("RGB", (3, 2), (128, 128, 128)).save(cars)
    with pytest.warns(UserWarning, match="VOC's colours"):
        assert read_mask(cars, of_voc=True).unique().tolist() == [7] and read_mask(cars).unique().tolist() == [128]


def test_lists_of_the_user_take_the_place_of_the_rule(pascal_tree: PascalTree, tmp_path: Path) -> None:
    ids = pascal_tree.train_ids
    lines = [f"JPEGImages/{name}.jpg SegmentationClassAug/{name}.png" for name in (ids[7], ids[2], ids[7])]
    mine = write_lines(tmp_path / "mine.txt", lines)
    assert Pascal5i(pascal_tree.root, "train", lists=mine).ids == (ids[2], ids[7])
    bad = write_lines(tmp_path / "bad.txt", [ids[0], "2007_999999"])
    with pytest.raises(FileNotFoundError, match="1 of 2 images have no mask, first 2007_999999"):
        Pascal5i(pascal_tree.root, "train", lists=bad)


@pytest.mark.parametrize(
    ("name", "splits", "origin"),
    [
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", ("val", "train"), "VOC2012's trainval archive"),
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", ("train",), "VOC2012's trainval archive"),
        ("sbd/train_noval.txt", ("train",), "SBD"),
    ],
)
def test_absent_lists_are_named(
    pascal_tree: PascalTree, copy_of, name: str, splits: tuple[str, ...], origin: str
) -> None:
    root = copy_of(pascal_tree).root
    (root / name).unlink()
    for split in splits:
        with pytest.raises(FileNotFoundError, match=rf"there is no .*{name}; it comes with {origin}.*or give lists"):
            Pascal5i(root, split)
    for split in {"train", "val"} - set(splits):
        Pascal5i(root, split)


def test_absent_folders_and_masks_are_named(pascal_tree: PascalTree, copy_of, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; give the one that holds VOCdevkit"):
        Pascal5i(tmp_path / "nowhere", "val")
    with pytest.raises(ValueError, match="split is 'test'; choose one of train, val"):
        Pascal5i(pascal_tree.root, "test")
    tree = copy_of(pascal_tree)
    shutil.rmtree(tree.base / "SegmentationClassAug")
    with pytest.raises(FileNotFoundError, match=r"30 of 40 images have no mask, .* data prepare pascal5i"):
        Pascal5i(tree.root, "train")
    shutil.rmtree(tree.base / "SegmentationClass")
    with pytest.raises(FileNotFoundError, match="has no masks in SegmentationClassAug or SegmentationClass"):
        Pascal5i(tree.root, "val")


def test_images_are_looked_for_when_they_are_read(pascal_tree: PascalTree, copy_of) -> None:
    tree = copy_of(pascal_tree)
    images, name = tree.base / "JPEGImages", tree.sbd_train_noval[0]
    (tree.root / "sbd" / "img").mkdir()
    shutil.move(images / f"{name}.jpg", tree.root / "sbd" / "img")
    dataset = Pascal5i(tree.root, "train")
    assert dataset[dataset.ids.index(name)].image.shape[1:] == tree.labels[name].shape
    val = Pascal5i(tree.root, "val")
    (images / f"{val.ids[4]}.jpg").unlink()
    Image.new("RGB", (50, 40)).save(images / f"{val.ids[0]}.jpg")
    assert val.class_pixels.shape == (40, 20)
    with pytest.raises(FileNotFoundError, match=rf"there is no image .*{val.ids[4]}.jpg; it comes with VOC2012"):
        val[4]
    with pytest.raises(ValueError, match=r"is 50 x 40 pixels, but its mask is .*; get the original files again"):
        val[0]


def test_the_tree_keeps_its_promises(pascal_tree: PascalTree, train: Pascal5i) -> None:
    """20 classes twice and twice again above the area rule, bars and specks below it; shots 1 and 2 in every fold."""
    for dataset in (train, Pascal5i(pascal_tree.root, "val")):
        assert ((dataset.class_pixels >= MIN_PIXELS).sum(axis=0) == 4).all()
        small = (dataset.class_pixels > 0) & (dataset.class_pixels < MIN_PIXELS)
        assert sorted(dataset.class_pixels[small].tolist()) == [81] * 5 + [1200] * 5
        for fold in range(4):
            for classes in fold_classes("pascal5i", fold, "val"):
                for n_shot in (1, 2):
                    episodes = draw_episodes(
                        dataset, classes, fold=fold, n_shot=n_shot, count=30, seed=0, min_area=0, min_pixels=MIN_PIXELS
                    )
                    assert all(len({episode.query, *episode.support}) == n_shot + 1 for episode in episodes)
    assert len({mask.shape for mask in pascal_tree.labels.values()}) > 20
    assert not np.array_equal(draw_labels(0, 0, ignored_border=False), draw_labels(20, 0, ignored_border=False))


def test_area_rule_in_pixels(train: Pascal5i) -> None:
    pools = class_pools(train, range(20), min_area=0.0, min_pixels=MIN_PIXELS)
    for class_index, pool in pools.items():
        slow = [row for row in range(len(train)) if (train.read_labels(row) == class_index + 1).sum() >= MIN_PIXELS]
        assert pool.tolist() == slow
    unfiltered = class_pools(train, [5], min_area=0.0)[5]
    assert len(unfiltered) > len(pools[5])  # the bars and specks


@pytest.mark.parametrize("fold", range(4))
def test_novel_objects_in_training_images(pascal_tree: PascalTree, train: Pascal5i, fold: int) -> None:
    novel, base = novel_classes(20, fold, 4, "blocked"), base_classes(20, fold, 4, "blocked")
    rows = {name: row for row, name in enumerate(train.ids)}
    shows_novel = {
        rows[name] for number, name in enumerate(pascal_tree.train_ids) if set(classes_of(number)) & set(novel)
    }
    mixed = next(row for row in sorted(shows_novel) if train.class_pixels[row, base].any())
    views = {policy: TrainingView(train, novel, policy) for policy in ("background", "ignore", "drop")}
    for policy, view in views.items():
        assert view.class_pixels is not None and not view.class_pixels[:, novel].any()
        served = set(np.flatnonzero(view.class_pixels.any(axis=1)).tolist())
        assert (mixed in served) == (policy != "drop") and served.isdisjoint(shows_novel) == (policy == "drop")
    labels = train[mixed].labels
    is_novel = torch.isin(labels, torch.tensor([index + 1 for index in novel]))
    assert is_novel.any()
    assert torch.equal(views["background"][mixed].labels, labels)  # a binary mask makes it background
    assert torch.equal(views["ignore"][mixed].labels, labels.masked_fill(is_novel, IGNORE_LABEL))


def test_registry_opens_pascal_and_knows_the_folds(pascal_tree: PascalTree, train: Pascal5i) -> None:
    assert open_published("pascal5i", pascal_tree.root, "train").fingerprint == train.fingerprint
    assert fold_classes("pascal5i", 2, "val").novel == (10, 11, 12, 13, 14)
    coco = fold_classes("coco20i", 1, "val")
    assert coco.novel[:3] == (1, 5, 9) and len(coco.base) == 60
    assert fold_classes("fss1000", 0, "train", n_split_classes=520) == (tuple(range(520)), ())
    assert fold_classes("fss1000", 0, "test", n_split_classes=240) == ((), tuple(range(240)))
    least = {name: entry.min_pixels for name, entry in PUBLISHED.items()}
    assert least == {"pascal5i": 2048, "coco20i": 2048, "fss1000": 0}
    with pytest.raises(ValueError, match="no published data set 'pascal'; choose one of pascal5i, coco20i, fss1000"):
        published("pascal")
    with pytest.raises(ValueError, match="fold is 1, but FSS-1000 has no folds"):
        fold_classes("fss1000", 1, "test", n_split_classes=3)
    with pytest.raises(ValueError, match="split is 'test'; PASCAL-5i has train, val"):
        open_published("pascal5i", pascal_tree.root, "test")
