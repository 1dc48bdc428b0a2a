"""PASCAL-5i on the real masks of VOC2012 and SBD, where they lie beside the project: the published facts."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from places import SHARED
from published_files import hsnet_classes, write_hsnet_list, write_lines
from torch import Tensor

from dpnet_lite.episodes import class_pools
from dpnet_lite.published.list_files import ClassPair, read_hsnet_list, read_ids, read_pfenet_list
from dpnet_lite.published.pascal import Pascal5i, fold_pairs
from dpnet_lite.published.pascal_facts import NOVEL_SHARES, PASCAL5I_FACTS, differences, measured_facts
from dpnet_lite.published.registry import MIN_PIXELS, fold_classes

ARCHIVE, LISTS = SHARED / "voc2012" / "SegmentationClassAug.tar.xz", SHARED / "lists"
pytestmark = [
    pytest.mark.slow,  # 12,031 masks are counted; test_check.py has the facts by hand on a few
    pytest.mark.skipif(not (ARCHIVE.is_file() and LISTS.is_dir()), reason="needs ../shared"),
]


class Recording(Pascal5i):
    """Notes the classes by HSNet's rule while the masks are counted, so that each is decoded once."""

    def read_labels(self, index: int) -> Tensor:
        labels = super().read_labels(index)
        if not hasattr(self, "kept"):
            self.kept, self.undecided = set[ClassPair](), set[ClassPair]()
        classes = hsnet_classes(labels)
        self.kept |= {ClassPair(self.ids[index], class_index) for class_index in classes.kept}
        self.undecided |= {ClassPair(self.ids[index], class_index) for class_index in classes.undecided}
        return labels


class Real(NamedTuple):
    train: Recording
    val: Recording
    rest: Recording  # the masks of SegmentationClassAug that PASCAL-5i does not use


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    root = tmp_path_factory.mktemp("real")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(root, filter="data")
    train = Recording(root, "train", lists=LISTS / "pfenet_pascal")
    val = Recording(root, "val", lists=LISTS / "pfenet_pascal")
    used = {*train.ids, *val.ids}
    write_lines(root / "rest.txt", sorted(set(train.folders.mask_names) - used))
    result = Real(train, val, Recording(root, "train", lists=root / "rest.txt"))
    for dataset in result:
        assert len(dataset.index) == len(dataset.ids)  # counts now
    return result


def test_numbers_of_images_and_of_vocs_own_masks(real: Real) -> None:
    """VOC2012's train has 1,464 images and its val 1,449: their masks are VOC's and not SBD's, which have no 255."""
    assert (len(real.train), len(real.val), len(real.rest)) == (5953, 1449, 12031 - 5953 - 1449)
    assert set(real.train.ids).isdisjoint(real.val.ids)
    assert [int((dataset.index.ignored > 0).sum()) for dataset in real] == [1464, 1449, 0]


def test_facts_per_fold(real: Real) -> None:
    """Counted here in another way than in the package: image by image, by sets."""
    for fold, fact in enumerate(PASCAL5I_FACTS.folds):
        novel = set(range(5 * fold, 5 * fold + 5))
        n_train = n_mixed = n_val = 0
        for counts in real.train.class_pixels.tolist():
            if any(pixels >= 2048 for index, pixels in enumerate(counts) if index not in novel):
                n_train += 1
                n_mixed += any(counts[index] > 0 for index in novel)
        for counts in real.val.class_pixels.tolist():
            n_val += any(counts[index] >= 2048 for index in novel)
        assert (n_train, n_mixed, n_val) == (fact.train_images, fact.of_them_with_novel, fact.val_images)
    facts = zip(*PASCAL5I_FACTS.folds, strict=True)
    assert list(facts)[:3] == [(4760, 4588, 4097, 5108), (552, 862, 1345, 598), (364, 445, 592, 336)]


def test_share_of_novel_pixels(real: Real) -> None:
    """Counted here in the masks themselves, file by file, and not in the index."""
    novel_pixels, all_pixels = [0] * 4, [0] * 4
    for path in real.train.mask_paths:
        with Image.open(path) as mask:
            counts = mask.histogram()  # of 256 values; class c is the value c + 1
        for fold in range(4):
            novel = range(5 * fold + 1, 5 * fold + 6)
            if any(counts[value] >= 2048 for value in range(1, 21) if value not in novel):
                novel_pixels[fold] += sum(counts[value] for value in novel)
                all_pixels[fold] += sum(counts)
    assert novel_pixels == [fact.novel_pixels for fact in PASCAL5I_FACTS.folds]
    shares = [part / whole for part, whole in zip(novel_pixels, all_pixels, strict=True)]
    assert shares == list(NOVEL_SHARES)
    assert [round(100 * share, 2) for share in NOVEL_SHARES] == [0.85, 2.54, 5.96, 1.96]


def test_the_check_measures_the_same(real: Real) -> None:
    counts = real.train.class_pixels
    assert (int((counts > 0).sum()), int(((counts > 0) & (counts < MIN_PIXELS)).sum())) == (8843, 940)  # lesson 13
    measured = measured_facts(counts, real.val.class_pixels)
    assert measured == PASCAL5I_FACTS and not differences(measured)


def test_pools_of_episodes_are_the_counted_images(real: Real) -> None:
    for fold, fact in enumerate(PASCAL5I_FACTS.folds):
        classes = fold_classes("pascal5i", fold, "val")
        for dataset, own, n_images in ((real.val, classes.novel, fact.val_images), (real.train, classes.base, fact[0])):
            pools = class_pools(dataset, own, min_area=0.0, min_pixels=MIN_PIXELS)
            assert len(np.unique(np.concatenate(list(pools.values())))) == n_images


def hsnet_lists(split: str) -> set[ClassPair]:
    return {pair for fold in range(4) for pair in read_hsnet_list(LISTS / "hsnet_pascal" / split / f"fold{fold}.txt")}


class Expected(NamedTuple):
    shown: int  # (image, class) pairs of which the mask has any pixel
    listed: int
    undecided: int  # left open by ties
    more: int  # ours, not listed
    fewer: int


@pytest.mark.parametrize(
    ("split", "expected"), [("val", Expected(2148, 1868, 57, 3, 5)), ("trn", Expected(15555, 13680, 259, 52, 50))]
)
def test_hsnet_lists_follow_oslsms_rule_exactly_but_for_ties(real: Real, split: str, expected: Expected) -> None:
    """trn covers all 10,582 masks outside VOC2012 val, not PASCAL-5i's 5,953: 4,629 images more than PFENet."""
    datasets = [real.val] if split == "val" else [real.train, real.rest]
    assert sum(map(len, datasets)) == (1449 if split == "val" else 10582)
    shown = sum(int((dataset.class_pixels > 0).sum()) for dataset in datasets)
    kept = set().union(*(dataset.kept for dataset in datasets))
    undecided = set().union(*(dataset.undecided for dataset in datasets))
    listed = hsnet_lists(split)
    assert listed - undecided == kept - undecided  # exact wherever the rule alone decides
    assert Expected(shown, len(listed), len(undecided), len(kept - listed), len(listed - kept)) == expected


@pytest.mark.parametrize(("split", "expected"), [("val", (67, 12)), ("trn", (414, 78))])
def test_pfenets_area_rule_is_not_hsnets(real: Real, split: str, expected: tuple[int, int]) -> None:
    datasets = [real.val] if split == "val" else [real.train, real.rest]
    large = {
        ClassPair(dataset.ids[row], int(class_index))
        for dataset in datasets
        for row, class_index in np.argwhere(dataset.class_pixels >= MIN_PIXELS)
    }
    assert (len(large - hsnet_lists(split)), len(hsnet_lists(split) - large)) == expected


def test_hsnet_lists_make_sense(real: Real) -> None:
    """Every listed class is in its mask and of the file's fold, no pair comes twice, and trn has no image of val."""
    rows = {name: (dataset, row) for dataset in real for row, name in enumerate(dataset.ids)}
    for split in ("trn", "val"):
        for fold in range(4):
            pairs = read_hsnet_list(LISTS / "hsnet_pascal" / split / f"fold{fold}.txt")
            assert len(set(pairs)) == len(pairs)
            for name, class_index in pairs:
                dataset, row = rows[name]
                assert dataset.class_pixels[row, class_index] > 0 and class_index // 5 == fold
                assert (dataset is real.val) == (split == "val")
    for fold in range(4):  # so no line is refused
        novel = fold_classes("pascal5i", fold, "val").novel
        assert fold_pairs(LISTS / "hsnet_pascal", fold, novel, real.val.ids, real.val.class_pixels)
    assert {pair.id for pair in hsnet_lists("trn")} - set(real.train.ids) <= set(real.rest.ids)


def test_real_lists_are_read_whole(tmp_path: Path) -> None:
    for source in (LISTS / "hsnet_pascal").rglob("*.txt"):
        assert write_hsnet_list(tmp_path / "copy.txt", read_hsnet_list(source)).read_bytes() == source.read_bytes()
    source = LISTS / "pfenet_pascal" / "train_ids.txt"
    assert write_lines(tmp_path / "copy.txt", read_pfenet_list(source)).read_bytes() == source.read_bytes()
    assert len(read_ids(LISTS / "hsnet_pascal", "val")) == len({pair.id for pair in hsnet_lists("val")})
