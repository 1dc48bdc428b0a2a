"""Checking a copy: what is there and right, what is missing, what is wrong, in one line each."""

from __future__ import annotations

import os
import shutil
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from coco_fss_trees import FSS_SPLITS, write_coco
from made_up_pascal import PascalTree
from PIL import Image
from published_files import write_lines

from dpnet_lite.datasets import images
from dpnet_lite.published import check
from dpnet_lite.published.check import Finding, check_data, examine, prepare_data
from dpnet_lite.published.fss import Fss1000
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.published.pascal_facts import PASCAL5I_FACTS, FoldFacts, PascalFacts, differences, measured_facts


def texts(findings: list[Finding], *kinds: str) -> list[str]:
    return [finding.text for finding in findings if finding.kind in (kinds or ("missing", "wrong"))]


@pytest.mark.parametrize("name", ["pascal5i", "coco20i", "fss1000"])
def test_a_folder_that_is_not_there(name: str, tmp_path: Path) -> None:
    assert [finding.kind for finding in examine(name, tmp_path / "none")] == ["missing"]
    with pytest.raises(ValueError, match="no published data set 'voc'"):
        examine("voc", tmp_path)


SHOWS_NOTHING = "have no value from 128 on, so no object, first {}; store the object as 255, or unpack FSS-1000 again"


def image(tree: PascalTree, name: str) -> Path:
    return tree.base / "JPEGImages" / f"{name}.jpg"


def test_pascal_whole(pascal_tree: PascalTree) -> None:
    findings = examine("pascal5i", pascal_tree.root)
    assert not texts(findings)
    found = texts(findings, "found")
    assert f"masks in {pascal_tree.base}: 50 from SegmentationClass, 30 from SegmentationClassAug" in found
    assert "train: 40 images listed, all of their masks can be read" in found
    assert texts(findings, "note")[0].startswith("images of train: 40 here, 5,953 in the published data; scores on")
    deep = examine("pascal5i", pascal_tree.root, deep=True)
    assert "val: 40 images listed, all of them and their masks can be read" in texts(deep, "found")


def test_differences_name_every_number() -> None:
    assert differences(PASCAL5I_FACTS) == []
    first, second, *others = PASCAL5I_FACTS.folds
    folds = (first, second._replace(of_them_with_novel=863, novel_pixels=20_874_678), *others)
    assert differences(PascalFacts(5953, 1400, folds)) == [
        "images of val: 1,400 here, 1,449 in the published data",
        "fold 1, of these with a novel class: 863 here, 862 in the published data",
        "fold 1, pixels of novel classes in its training images: 20,874,678 here, 20,874,677 in the published data",
    ]


def test_facts_by_hand() -> None:
    train, val = np.zeros((4, 20), np.int32), np.zeros((2, 20), np.int32)
    train[0, 0], train[0, 5] = 2048, 1  # fold 0: novel alone. fold 1: base, with a novel pixel. folds 2, 3: base
    train[1, 7] = 2047  # too small in every fold
    train[2, 19] = 5000
    val[0, 3], val[1, 3] = 2048, 2047
    expected = ((1, 0, 1, 0), (2, 1, 0, 1), (2, 0, 0, 0), (1, 0, 0, 0))
    assert measured_facts(train, val) == PascalFacts(4, 2, tuple(FoldFacts(*fold) for fold in expected))


def test_pascal_broken_files(pascal_tree: PascalTree, copy_of) -> None:
    tree = copy_of(pascal_tree)
    dataset = Pascal5i(tree.root, "val")
    cut, colour, odd = dataset.mask_paths[:3]
    resized, no_image, half = (image(tree, name) for name in dataset.ids[3:6])
    cut.write_bytes(cut.read_bytes()[:-60])
    Image.open(colour).convert("RGB").save(colour)
    Image.fromarray(np.full((100, 120), 77, np.uint8)).save(odd)
    Image.new("RGB", (50, 40)).save(resized)
    no_image.write_bytes(b"no image")
    half.write_bytes(half.read_bytes()[:-400])  # the header is whole: only the deep check sees it
    findings = examine("pascal5i", tree.root)
    wrong = "\n".join(texts(findings))
    assert f"{cut} cannot be read as an image" in wrong and f"{colour} is a colour mask" in wrong
    assert f"{odd} holds the value 77, but there are 20 classes; get the file again" in wrong
    assert f"{resized} is 50 x 40 pixels, but its mask" in wrong and f"{no_image} cannot be read as an image" in wrong
    assert len(texts(findings)) == 5 and not texts(findings, "note")  # without numbers no facts
    deep = texts(examine("pascal5i", tree.root, deep=True))
    assert len(deep) == 6 and deep[5].startswith(f"{half} cannot be read as an image")
    for path in dataset.mask_paths[:23]:
        path.write_bytes(b"")
    wrong = texts(examine("pascal5i", tree.root), "wrong")
    assert len(wrong) == 21 and wrong[20] == "val: 3 more of this kind; get the folder again"


def test_pascal_absent_files_and_lists(pascal_tree: PascalTree, copy_of, tmp_path: Path) -> None:
    tree, lists = copy_of(pascal_tree), tmp_path / "lists"
    image(tree, tree.train_ids[2]).unlink()
    (tree.base / "SegmentationClass" / f"{tree.val_ids[1]}.png").unlink()
    (tree.root / "sbd" / "train_noval.txt").unlink()
    without, no_list = texts(examine("pascal5i", tree.root), "missing")
    assert "train_noval.txt; it comes with SBD" in no_list
    assert without == (
        f"val: 1 of 40 listed images have no mask, first {tree.val_ids[1]}; VOC2012's own are "
        f"among them, such as that of {tree.val_ids[1]}: unpack its trainval archive again, or correct the list"
    )
    write_lines(lists / "train_ids.txt", tree.train_ids)
    write_lines(lists / "val_ids.txt", tree.val_ids[2:])
    assert texts(examine("pascal5i", tree.root, lists), "missing") == [
        f"train: 1 of 40 images are absent, first {tree.train_ids[2]}.jpg; they come with VOC2012's trainval archive"
    ]
    shutil.rmtree(tree.base / "JPEGImages")
    missing = texts(examine("pascal5i", tree.root, lists), "missing")
    assert len(missing) == 2 and all("masks alone do to draw episodes" in text for text in missing)
    write_lines(lists / "val_ids.txt", ["a b c"])
    assert "val_ids.txt line 1 is 'a b c'" in texts(examine("pascal5i", tree.root, lists), "wrong")[0]
    shared = f"train and val share 40 images, first {min(tree.train_ids)}; give a folder with a list of each"
    assert texts(examine("pascal5i", tree.root, lists / "train_ids.txt"), "wrong") == [shared]
    shutil.rmtree(tree.base / "SegmentationClass")
    shutil.rmtree(tree.base / "SegmentationClassAug")
    assert "has no masks; give another root, or run: " in texts(examine("pascal5i", tree.root))[0]


def test_coco_whole(coco_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = examine("coco20i", coco_root, deep=True)
    assert not texts(findings)
    found = texts(findings, "found")
    assert "instances_val2017.json: 80 classes, 13 images, 12 of them with annotations" in found
    assert f"{coco_root / 'val2017'}/: all 12 annotated images" in found
    assert f"{coco_root / 'val2017'}/: 12 images can be read" in found
    assert "val is of 2017; published work uses 2014" in texts(findings, "note")
    write_coco(tmp_path, 2014)
    assert sum("PFENet's list of this split" in text for text in texts(examine("coco20i", tmp_path), "note")) == 2
    monkeypatch.setattr(check, "_ANNOTATED_IN_2014", {"train": 12, "val": 12})
    assert {finding.kind for finding in examine("coco20i", tmp_path)} == {"found"}
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    (missing,) = examine("coco20i", tmp_path)
    assert missing.kind == "missing" and "pip install 'dpnet-lite[benchmarks]'" in missing.text


def test_coco_of_two_years(tmp_path: Path) -> None:
    write_coco(tmp_path, 2017, pictures=False)
    write_coco(tmp_path, 2014, splits=["train"], pictures=False)
    assert not [text for text in texts(examine("coco20i", tmp_path)) if "two years" in text]
    (tmp_path / "annotations" / "instances_train2017.json").unlink()
    (mixed,) = texts(examine("coco20i", tmp_path), "wrong")
    assert mixed.startswith("train and val are of two years")


def test_coco_broken_images(coco_root: Path, copy_of, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_of(coco_root)
    train, val = root / "train2017", root / "val2017"
    monkeypatch.setattr(check, "_SHOWN", 5)
    for path in sorted(train.iterdir())[:7]:
        path.write_bytes(path.read_bytes()[:-300])  # the header is whole
    odd = min(val.iterdir())
    Image.new("RGB", (7, 5)).save(odd)
    seen: list[int] = []
    progress = lambda rows: (seen.append(row) or row for row in rows)  # noqa: E731
    wrong = texts(examine("coco20i", root, deep=True, progress=progress))
    assert len(seen) == 24 and all("cannot be read as an image" in text for text in wrong[:5])
    assert wrong[5:] == [
        f"{train}/: 2 more of this kind; unpack it again",
        f"{odd} is 7 x 5 pixels, but its mask is 120 x 100; get the original files again",
    ]


def test_coco_absent_empty_and_closed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path, 2014)
    val, train = tmp_path / "val2014", tmp_path / "annotations" / "instances_train2014.json"
    names = sorted(os.listdir(val))
    (val / names[1]).unlink()
    (val / names[2]).write_bytes(b"")
    (val / names[-1]).unlink()  # has no annotation: not missed
    (val / names[4]).unlink()
    (val / names[4]).mkdir()
    may_read = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != val / names[3] and may_read(path, mode))
    train.write_text(train.read_text()[:500])
    assert texts(examine("coco20i", tmp_path)) == [
        f"{train} is not whole JSON; unpack it again",
        f"{val}/ lacks 1 of 12 images, first {names[1]}; unpack it again",
        f"{val}/ has 3 files that are empty or closed, first {names[2]}; unpack it again",
    ]
    train.unlink()
    shutil.rmtree(val)
    missing = texts(examine("coco20i", tmp_path), "missing")
    assert missing[0].endswith("unpack COCO's annotations_trainval2014.zip")
    assert missing[1:] == [f"{val}/; unpack val2014.zip there"]
    with pytest.raises(ValueError, match="leave it out"):
        examine("coco20i", tmp_path, tmp_path)


def test_coco_is_prepared_by_drawing_and_counting_both_splits(coco_root: Path, tmp_path: Path) -> None:
    arguments = {"workers": 1, "cache_folder": tmp_path, "steps": lambda name: iter}
    train, val = prepare_data("coco20i", coco_root, download=False, **arguments)
    assert train.startswith("train 2017: 12 masks in ") and val.startswith("val 2017: 12 masks in ")
    assert len(list(tmp_path.glob("index-*.npz"))) == 2 and len(list(tmp_path.glob("*/*.png"))) == 24
    with pytest.raises(FileNotFoundError, match=r"none is not a folder; give the one that holds the data set$"):
        prepare_data("fss1000", tmp_path / "none", download=False, **arguments)
    with pytest.raises(ValueError, match=r"COCO-20i is not downloaded by this command; unpack train2014\.zip"):
        prepare_data("coco20i", coco_root, download=True, **arguments)


def test_fss_whole(fss_root: Path, copy_of, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_of(fss_root)
    for name in ("._1.jpg", "._1.png"):
        (root / "mug" / name).write_bytes(b"what macOS notes beside a file")
    findings = examine("fss1000", root)
    assert texts(findings, "found") == [
        "trn.txt: 6 classes of train",
        "train: 10 images with masks in each of 6 classes",
        "val.txt: 4 classes of val",
        "val: 10 images with masks in each of 4 classes",
        "test.txt: 4 classes of test",
        "test: 10 images with masks in each of 4 classes",
    ]
    # A small tree is not the official split, and the check says so; with the sizes of the tree it has nothing to say.
    assert {finding.kind for finding in examine("fss1000", root, deep=True)} == {"found", "note"}
    monkeypatch.setattr(check, "SPLIT_SIZES", {split: len(names) for split, names in FSS_SPLITS.items()})
    assert {finding.kind for finding in examine("fss1000", root)} == {"found"}
    (root / "test.txt").rename(root / "fss_test_set.txt")
    assert "fss_test_set.txt: 4 classes of test" in texts(examine("fss1000", root), "found")


def test_fss_missing_and_wrong(fss_root: Path, copy_of) -> None:
    root = copy_of(fss_root)
    (root / "mug" / "3.png").unlink()
    ladder, nail = root / "ladder", root / "nail" / "2.jpg"
    nail.write_bytes(b"")
    Image.new("L", (5, 4)).save(ladder / "9.png")
    Image.new("RGB", (5, 4)).save(ladder / "11.jpg")
    (root / "hat").rename(root / "hut")
    (root / "trn.txt").write_text("egg\nmug\n")
    amiss = [finding for finding in examine("fss1000", root) if finding.kind in ("missing", "wrong")]
    assert amiss == [
        ("missing", f"{root / 'mug' / '3.png'}; unpack FSS-1000 again"),
        ("missing", f"{root} lacks 1 of 4 classes, first hat/; unpack FSS-1000 there"),
        ("wrong", f"{root / 'test.txt'} names 'mug', and so does the list of train; get the lists again"),
        ("wrong", f"{ladder / '11.jpg'} is not one of the images 1 to 10; remove it"),
        ("wrong", f"{ladder / '9.jpg'} is 120 x 100 pixels, but its mask is 5 x 4; get the original files again"),
        ("wrong", f"{ladder}: 1 of 10 masks {SHOWS_NOTHING.format('9.png')}"),
        ("missing", f"{root / 'mug' / '3.png'}; unpack FSS-1000 again"),
        (
            "wrong",
            f"{nail} cannot be read as an image (cannot identify image file {str(nail)!r}); replace or remove it",
        ),
    ]
    for name, number in product(("abe's_fish", "ladder"), range(1, 11)):  # many faults are counted, not listed
        (root / name / f"{number}.png").unlink()
    assert "test: 3 more of this kind; unpack FSS-1000 again" in texts(examine("fss1000", root))


def test_case_04_masks_stored_as_0_and_1_are_found_beforehand(fss_root: Path, copy_of) -> None:
    root = copy_of(fss_root)
    for path in (root / "nail").glob("*.png"):
        Image.fromarray((np.array(Image.open(path).convert("L")) >= 128).astype(np.uint8)).save(path)
    Image.fromarray(np.full_like(Image.open(root / "mug/2.png").convert("L"), 255)).save(root / "mug/2.png")
    assert texts(examine("fss1000", root)) == [f"{root / 'nail'}: 10 of 10 masks {SHOWS_NOTHING.format('1.png')}"]
    assert f"{root / 'mug'}: 1 of 10 masks are object all over, first 2.png" in texts(examine("fss1000", root), "note")


@pytest.mark.parametrize("name", ["pascal5i", "coco20i", "fss1000"])
def test_folders_that_may_not_be_read_are_listed(
    name: str, pascal_tree: PascalTree, coco_root: Path, fss_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = {"pascal5i": pascal_tree.root, "coco20i": coco_root, "fss1000": fss_root}
    whole = Path.iterdir

    def refused(folder: Path):
        if folder.name in ("SegmentationClass", "train2017", "mug"):
            raise PermissionError(13, "Permission denied", str(folder))
        return whole(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    closed = " cannot be read (Permission denied); change its owner or its permissions"
    (wrong,) = texts(examine(name, roots[name]))
    assert wrong.endswith(closed)
    monkeypatch.undo()

    def never(path: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(images.Image, "open", never)
    wrong, *others = texts(examine(name, roots[name], deep=True))
    assert wrong.endswith(closed) and wrong.count("/") == wrong.partition(closed)[0].count("/") and others


def test_damaged_lists_are_listed_and_names_that_are_no_text_refused(fss_root: Path, copy_of) -> None:
    root = copy_of(fss_root)
    (root / "trn.txt").write_bytes(b"egg\n" + bytes(4))
    (root / "val.txt").write_bytes(b"\xff\xfe")
    assert texts(examine("fss1000", root)) == [
        f"{root / name} is not a text file; get the list again" for name in ("trn.txt", "val.txt")
    ]
    (root / "mug" / "\udcff.jpg").touch()  # a byte that is no UTF-8
    with pytest.raises(ValueError, match=r"mug holds '\\udcff.jpg', which is no name in plain text; rename it$"):
        Fss1000(root, "test")
    (root / "test.txt").write_text("mug\n")
    assert "mug/\udcff.jpg is not one of the images 1 to 10; remove it" in "\n".join(check_data("fss1000", root).lines)
