"""PASCAL-5i on made-up trees: splits, counts, layouts, filters, mistakes."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpnet_lite.course.made_up_pascal import PascalTree, classes_of, draw_labels, write_pascal
from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import class_pools, draw_episodes
from dpnet_lite.published.list_files import write_pfenet_list
from dpnet_lite.published.pascal import VOC_CLASSES, Pascal5i
from dpnet_lite.published.registry import MIN_PIXELS, PUBLISHED, fold_classes, open_published, published


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> PascalTree:
    return write_pascal(tmp_path_factory.mktemp("voc"), "torchvision")


@pytest.fixture(scope="module")
def train(tree: PascalTree) -> Pascal5i:
    return Pascal5i(tree.root, "train")


def copy_of(tree: PascalTree, folder: Path) -> Path:
    return Path(shutil.copytree(tree.root, folder / "copy"))


def test_union_of_voc_and_sbd_without_duplicates(tree: PascalTree, train: Pascal5i) -> None:
    assert len(tree.voc_train) + len(tree.sbd_train_noval) == 40 + 5  # five images are in both lists
    assert train.ids == tuple(sorted(tree.train_ids)) and len(train) == 40
    assert Pascal5i(tree.root, "val").ids == tuple(sorted(tree.val_ids))
    assert train.class_names == VOC_CLASSES and len(set(VOC_CLASSES)) == 20 and train.name == "pascal5i-train"


def test_images_of_val_never_come_into_train(tree: PascalTree, tmp_path: Path) -> None:
    root = copy_of(tree, tmp_path)
    noval = root / "sbd" / "train_noval.txt"
    noval.write_text(noval.read_text() + tree.val_ids[3] + "\n")
    assert Pascal5i(root, "train").ids == tuple(sorted(tree.train_ids))


def test_counts_equal_a_loop_over_pixels(tree: PascalTree, train: Pascal5i) -> None:
    for row in (0, 4, 17, 39):
        counts, ignored = [0] * 20, 0
        mask = tree.labels[train.ids[row]]
        for value in mask.ravel().tolist():
            if value == IGNORE_LABEL:
                ignored += 1
            elif value:
                counts[value - 1] += 1
        assert train.class_pixels[row].tolist() == counts and train.index.ignored[row] == ignored
        assert train.index.sizes[row].tolist() == list(mask.shape)
        assert train.class_areas[row] == pytest.approx(np.array(counts) / mask.size)


def test_samples_are_the_files(tree: PascalTree, train: Pascal5i) -> None:
    for row in (0, 25):
        sample = train[row]
        assert torch.equal(sample.labels, torch.from_numpy(tree.labels[train.ids[row]]))
        pixels = np.array(Image.open(tree.base / "JPEGImages" / f"{train.ids[row]}.jpg"))
        assert torch.equal(sample.image, torch.from_numpy(pixels).permute(2, 0, 1))
        assert torch.equal(train.read_labels(row), sample.labels)
    with pytest.raises(IndexError):
        train[40]


def test_every_layout_gives_the_same_fingerprint(tree: PascalTree, train: Pascal5i, tmp_path: Path) -> None:
    common = write_pascal(tmp_path / "common", "common", with_images=False)
    moved = tmp_path / "moved"
    shutil.copytree(tree.base, moved / "VOC2012")
    shutil.copy(tree.root / "sbd" / "train_noval.txt", moved)
    assert not (common.root / "JPEGImages").exists()
    for root in (common.root, moved):
        for split in ("train", "val"):
            assert Pascal5i(root, split).fingerprint == Pascal5i(tree.root, split).fingerprint  # type: ignore[arg-type]
    assert train.fingerprint != Pascal5i(tree.root, "val").fingerprint


def test_fingerprint_follows_the_masks(tree: PascalTree, train: Pascal5i, tmp_path: Path) -> None:
    root = copy_of(tree, tmp_path)
    cache = tmp_path / "cache"
    assert Pascal5i(root, "train", cache_folder=cache).fingerprint == train.fingerprint
    path = Pascal5i(root, "train").mask_paths[5]
    mask = np.array(Image.open(path))
    mask[0, 0] = 3
    Image.fromarray(mask).save(path)
    assert Pascal5i(root, "train", cache_folder=cache).fingerprint != train.fingerprint


def test_counts_come_from_the_cache(tree: PascalTree, tmp_path: Path) -> None:
    looked_at: list[int] = []

    def progress(rows):
        for row in rows:
            looked_at.append(row)
            yield row

    first = Pascal5i(tree.root, "val", cache_folder=tmp_path, progress=progress).class_pixels
    second = Pascal5i(tree.root, "val", cache_folder=tmp_path, progress=progress).class_pixels
    assert looked_at == list(range(40)) and np.array_equal(first, second)


def test_voc_mask_counts_where_both_have_one(tree: PascalTree, train: Pascal5i) -> None:
    """VOC's masks have a border of 255, SBD's have none."""
    both = set(tree.voc_train) & set(tree.sbd_train_noval)
    assert len(both) == 5
    for row, name in enumerate(train.ids):
        assert (train.index.ignored[row] > 0) == (name in tree.voc_train)


def test_lists_of_the_user_take_the_place_of_the_rule(tree: PascalTree, tmp_path: Path) -> None:
    write_pfenet_list(tmp_path / "mine.txt", [tree.train_ids[7], tree.train_ids[2], tree.train_ids[7]], form="paths")
    assert Pascal5i(tree.root, "train", lists=tmp_path / "mine.txt").ids == (tree.train_ids[2], tree.train_ids[7])
    write_pfenet_list(tmp_path / "bad.txt", [tree.train_ids[0], "2007_999999"])
    with pytest.raises(FileNotFoundError, match="1 of 2 images have no mask, first 2007_999999"):
        Pascal5i(tree.root, "train", lists=tmp_path / "bad.txt")


@pytest.mark.parametrize(
    ("name", "splits", "origin"),
    [
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", ("val", "train"), "VOC2012's trainval archive"),
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt", ("train",), "VOC2012's trainval archive"),
        ("sbd/train_noval.txt", ("train",), "SBD"),
    ],
)
def test_absent_lists_are_named(
    tree: PascalTree, tmp_path: Path, name: str, splits: tuple[str, ...], origin: str
) -> None:
    root = copy_of(tree, tmp_path)
    (root / name).unlink()
    for split in ("train", "val"):
        if split in splits:
            with pytest.raises(
                FileNotFoundError, match=rf"there is no .*{name}; it comes with {origin}.*or give lists"
            ):
                Pascal5i(root, split)  # type: ignore[arg-type]
        else:
            Pascal5i(root, split)  # type: ignore[arg-type]


def test_absent_folders_and_masks_are_named(tree: PascalTree, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder; give the one that holds VOCdevkit"):
        Pascal5i(tmp_path / "nowhere", "val")
    with pytest.raises(ValueError, match="split is 'test'; choose one of train, val"):
        Pascal5i(tree.root, "test")  # type: ignore[arg-type]
    root = copy_of(tree, tmp_path)
    shutil.rmtree(root / "VOCdevkit" / "VOC2012" / "SegmentationClassAug")
    with pytest.raises(FileNotFoundError, match=r"30 of 40 images have no mask, .* data prepare pascal5i"):
        Pascal5i(root, "train")
    shutil.rmtree(root / "VOCdevkit" / "VOC2012" / "SegmentationClass")
    with pytest.raises(FileNotFoundError, match="has no masks in SegmentationClassAug or SegmentationClass"):
        Pascal5i(root, "val")


def test_an_absent_image_is_an_error_only_when_it_is_read(tmp_path: Path) -> None:
    tree = write_pascal(tmp_path, "common", n_train=20, n_val=20, with_images=False)
    dataset = Pascal5i(tmp_path, "val")
    assert dataset.class_pixels.shape == (20, 20)
    with pytest.raises(FileNotFoundError, match=rf"there is no image .*{tree.val_ids[4]}.jpg; it comes with VOC2012"):
        dataset[4]


def test_images_may_lie_in_sbd_alone(tree: PascalTree, tmp_path: Path) -> None:
    root = copy_of(tree, tmp_path)
    name = tree.sbd_train_noval[0]
    (root / "sbd" / "img").mkdir()
    shutil.move(root / "VOCdevkit/VOC2012/JPEGImages" / f"{name}.jpg", root / "sbd" / "img")
    dataset = Pascal5i(root, "train")
    assert dataset[dataset.ids.index(name)].image.shape[1:] == tree.labels[name].shape


def test_a_resized_image_is_refused(tree: PascalTree, tmp_path: Path) -> None:
    root = copy_of(tree, tmp_path)
    dataset = Pascal5i(root, "val")
    Image.new("RGB", (50, 40)).save(dataset.folders.image_path(dataset.ids[0]))
    with pytest.raises(ValueError, match=r"but .* is 50 x 40; get the original image"):
        dataset[0]


def test_the_tree_keeps_its_promises(tree: PascalTree, train: Pascal5i) -> None:
    """20 classes twice and twice again above the area rule, bars and specks below it; shots 1 and 2 in every fold."""
    for dataset in (train, Pascal5i(tree.root, "val")):
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
    assert len({mask.shape for mask in tree.labels.values()}) > 20
    assert not np.array_equal(draw_labels(0, 0, ignored_border=False), draw_labels(20, 0, ignored_border=False))


def test_area_rule_in_pixels(train: Pascal5i) -> None:
    pools = class_pools(train, range(20), min_area=0.0, min_pixels=MIN_PIXELS)
    for class_index, pool in pools.items():
        slow = [row for row in range(len(train)) if (train.read_labels(row) == class_index + 1).sum() >= MIN_PIXELS]
        assert pool.tolist() == slow
    unfiltered = class_pools(train, [5], min_area=0.0)[5]
    assert len(unfiltered) > len(pools[5])  # the bars and specks


@pytest.mark.parametrize("fold", range(4))
def test_novel_objects_in_training_images(tree: PascalTree, train: Pascal5i, fold: int) -> None:
    novel, base = novel_classes(20, fold, 4, "blocked"), base_classes(20, fold, 4, "blocked")
    rows = {name: row for row, name in enumerate(train.ids)}
    shows_novel = {rows[name] for number, name in enumerate(tree.train_ids) if set(classes_of(number)) & set(novel)}
    mixed = next(row for row in sorted(shows_novel) if train.class_pixels[row, base].any())
    views = {policy: TrainingView(train, novel, policy) for policy in ("background", "ignore", "drop")}
    for policy, view in views.items():
        assert view.class_pixels is not None and not view.class_pixels[:, novel].any()
        served = set(np.flatnonzero(view.class_pixels.any(axis=1)).tolist())
        assert (mixed in served) == (policy != "drop") and served.isdisjoint(shows_novel) == (policy == "drop")
    is_novel = torch.isin(train[mixed].labels, torch.tensor([index + 1 for index in novel]))
    assert is_novel.any()
    assert torch.equal(views["background"][mixed].labels, train[mixed].labels)  # a binary mask makes it background
    ignoring = views["ignore"][mixed].labels
    assert (ignoring[is_novel] == IGNORE_LABEL).all() and torch.equal(
        ignoring[~is_novel], train[mixed].labels[~is_novel]
    )


def test_registry_opens_pascal_and_knows_the_folds(tree: PascalTree, train: Pascal5i) -> None:
    dataset = open_published("pascal5i", tree.root, "train")
    assert dataset.fingerprint == train.fingerprint
    assert fold_classes("pascal5i", 2, "val").novel == (10, 11, 12, 13, 14)
    assert (
        fold_classes("coco20i", 1, "val").novel[:3] == (1, 5, 9) and len(fold_classes("coco20i", 1, "val").base) == 60
    )
    assert fold_classes("fss1000", 0, "train", n_split_classes=520) == (tuple(range(520)), ())
    assert fold_classes("fss1000", 0, "test", n_split_classes=240) == ((), tuple(range(240)))
    assert {name: entry.min_pixels for name, entry in PUBLISHED.items()} == {
        "pascal5i": 2048,
        "coco20i": 2048,
        "fss1000": 0,
    }
    with pytest.raises(ValueError, match="no published data set 'pascal'; choose one of pascal5i, coco20i, fss1000"):
        published("pascal")
    with pytest.raises(ValueError, match="fold is 1, but FSS-1000 has no folds"):
        fold_classes("fss1000", 1, "test", n_split_classes=3)
    with pytest.raises(ValueError, match="split is 'test'; PASCAL-5i has train, val"):
        open_published("pascal5i", tree.root, "test")
