"""COCO-20i: masks from annotations by a stated rule, the cache that a kill does not harm, mistakes."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_fss_trees import CATEGORY_IDS, write_coco
from PIL import Image
from places import SHARED

from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.datasets.images import read_mask
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.published import coco_masks
from dpnet_lite.published.check import examine, prepare_data
from dpnet_lite.published.coco import Coco20i, find_year
from dpnet_lite.published.coco_faults import _uncompressed
from dpnet_lite.published.coco_masks import (
    COCO_CLASSES,
    Instance,
    _instance_pixels,
    _mask_of,
    draw_masks,
    read_annotations,
)
from dpnet_lite.storage import files

PHOTOS = SHARED / "photos"
MIN_PIXELS = 2048


def run_lengths(rows: list[str]) -> dict[str, Any]:
    """Uncompressed run-length code of a drawing in which "#" is inside; COCO's runs go down the columns."""
    inside = np.array([[letter == "#" for letter in row] for row in rows])
    counts, value = [0], False
    for pixel in inside.T.ravel():
        if pixel != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return {"counts": counts, "size": list(inside.shape)}


def tree_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".lock"}


def annotation_file(root: Path, split: str = "val") -> Path:
    return root / "annotations" / f"instances_{split}2017.json"


def test_smaller_instances_lie_on_top_and_a_crowd_only_where_nothing_is() -> None:
    large = Instance(4, False, run_lengths(["####..", "####..", "####..", "......"]))
    small = Instance(8, False, run_lengths(["......", "..##..", "..##..", "......"]))
    first_of_equals = Instance(20, False, run_lengths(["......", "......", "......", "##...."]))
    second_of_equals = Instance(30, False, run_lengths(["......", "......", "......", ".##..."]))
    crowd = Instance(50, True, run_lengths(["...###", "...###", "...###", "...###"]))
    expected = [[5, 5, 5, 5, 255, 255], [5, 5, 9, 9, 255, 255], [5, 5, 9, 9, 255, 255], [21, 31, 31, 255, 255, 255]]
    mask = _mask_of([crowd, small, large, first_of_equals, second_of_equals], 4, 6)
    assert mask.dtype == np.uint8
    assert mask.tolist() == expected


def test_masks_are_those_of_pycocotools_put_together_pixel_by_pixel(coco_root: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(annotation_file(coco_root))
    dataset = Coco20i(coco_root, "val", cache_folder=tmp_path)
    column = {category: index for index, category in enumerate(sorted(coco.getCatIds()))}
    overlaps = crowds = 0
    for row, image_id in enumerate(sorted(coco.imgToAnns)):
        with warnings.catch_warnings():  # see _instance_pixels
            warnings.simplefilter("ignore", DeprecationWarning)
            entries = [(entry, coco.annToMask(entry).astype(bool)) for entry in coco.imgToAnns[image_id]]
        labels = dataset.read_labels(row).numpy()
        for place in np.ndindex(labels.shape):
            here = [(pixels.sum(), entry) for entry, pixels in entries if pixels[place]]
            solid = [(size, entry) for size, entry in here if not entry["iscrowd"]]
            overlaps += len(solid) > 1
            if solid:
                smallest = min(solid, key=lambda pair: (pair[0], -pair[1]["id"]))[1]
                assert labels[place] == column[smallest["category_id"]] + 1
            else:
                crowds += bool(here)
                assert labels[place] == (255 if here else 0)
    assert overlaps > 100 and crowds > 500  # the tree has what the rule is about


def test_segmentations_of_every_form() -> None:
    from pycocotools import mask as coder

    drawing = ["..##", ".###", "...."]
    inside = np.array([[letter == "#" for letter in row] for row in drawing])
    plain = run_lengths(drawing)
    packed = coder.encode(np.asfortranarray(inside.astype(np.uint8)))
    for segmentation in (plain, {**packed, "counts": packed["counts"].decode()}):  # the second as a JSON holds it
        np.testing.assert_array_equal(_instance_pixels(segmentation, 3, 4), inside)
    square, two_points = [1.0, 0.0, 3.0, 0.0, 3.0, 2.0, 1.0, 2.0], [0.0, 0.0, 3.0, 2.0]
    expected = np.zeros((3, 4), bool)
    expected[:2, 1:3] = True
    for polygons in ([square], [square, two_points]):
        np.testing.assert_array_equal(_instance_pixels(polygons, 3, 4), expected)
    assert not _instance_pixels([], 3, 4).any() and not _instance_pixels([two_points], 3, 4).any()  # and no box
    for seed in range(20):  # the text is read as pycocotools writes it
        drawn = np.random.default_rng(seed).random((7, 9)) < 0.1 * (seed % 10)
        text = coder.encode(np.asfortranarray(drawn.astype(np.uint8)))["counts"].decode()
        rows = ["".join("#" if pixel else "." for pixel in row) for row in drawn]
        assert _uncompressed(text) == run_lengths(rows)["counts"]


def test_the_data_set_holds_what_the_annotations_say(coco_root: Path, tmp_path: Path) -> None:
    dataset = Coco20i(coco_root, "train", cache_folder=tmp_path)
    content = json.loads(annotation_file(coco_root, "train").read_text())
    assert len(dataset) == len(content["images"]) - 1  # the last has no annotation
    assert dataset.ids == tuple(sorted(Path(image["file_name"]).stem for image in content["images"][:-1]))
    assert dataset.class_names == COCO_CLASSES and len(set(COCO_CLASSES)) == 80
    for row in range(len(dataset)):
        image, labels = dataset[row]
        assert image.shape == (3, *labels.shape) and image.dtype == labels.dtype == torch.uint8
        counts = np.bincount(labels.numpy().ravel(), minlength=256)
        np.testing.assert_array_equal(dataset.class_pixels[row], counts[1:81])
        np.testing.assert_allclose(dataset.class_areas[row], counts[1:81] / labels.numel(), rtol=1e-6)
        assert dataset.index.ignored[row] == counts[255]
    assert dataset.class_areas.dtype == np.float32 and dataset.class_pixels.dtype == np.int32
    assert dataset.index.ignored[0] > 0 and not dataset.index.ignored[1:].any()


def test_every_fold_has_episodes_of_its_interleaved_classes(coco_root: Path, tmp_path: Path) -> None:
    dataset = Coco20i(coco_root, "val", cache_folder=tmp_path)
    third = ["boat", "traffic light", "fire hydrant", "stop sign"]  # the ids 9, 10, 11 and 13: there is no 12
    for fold in range(4):
        novel = novel_classes(80, fold)
        assert dataset.class_names[novel[2]] == third[fold] and len(novel) == 20
        rule = {"min_area": 0, "min_pixels": MIN_PIXELS}
        episodes = draw_episodes(dataset, novel, fold=fold, n_shot=1, count=9, seed=0, **rule)
        assert {episode.class_index for episode in episodes} == {fold, fold + 4, fold + 8}


@pytest.mark.parametrize(("year", "images_folder"), [(2014, False), (2014, True), (2017, True)])
def test_both_years_and_both_places_of_images(year: int, images_folder: bool, tmp_path: Path) -> None:
    write_coco(tmp_path, year, splits=["val"], n_classes=2, images_folder=images_folder)
    dataset = Coco20i(tmp_path, "val", cache_folder=tmp_path / "cache")
    assert dataset.year == year and dataset.name == "coco20i-val"
    assert dataset.ids[0] == ("COCO_val2014_000000005001" if year == 2014 else "000000005001")
    assert dataset[0].image.shape == (3, 100, 120)


def test_one_year_serves_both_splits_and_that_is_2014_where_there_is_a_choice(tmp_path: Path) -> None:
    write_coco(tmp_path, 2017, n_classes=2, pictures=False)
    write_coco(tmp_path, 2014, splits=["train"], n_classes=2, pictures=False)
    assert (find_year(tmp_path, "train"), find_year(tmp_path, "val")) == (2017, 2017)
    write_coco(tmp_path, 2014, splits=["val"], n_classes=2, pictures=False)
    assert Coco20i(tmp_path, "val", cache_folder=tmp_path / "cache").year == 2014
    assert Coco20i(tmp_path, "val", year=2017, cache_folder=tmp_path / "cache").year == 2017
    annotation_file(tmp_path, "train").unlink()
    (tmp_path / "annotations" / "instances_val2014.json").unlink()
    assert (find_year(tmp_path, "train"), find_year(tmp_path, "val")) == (2014, 2017)


def test_instances_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    content = write_coco(tmp_path, splits=["val"], pictures=False)["val"]
    before = read_annotations(annotation_file(tmp_path))
    content["annotations"].reverse()
    annotation_file(tmp_path).write_text(json.dumps(content))
    assert read_annotations(annotation_file(tmp_path)) == before


def test_the_fingerprint_depends_on_split_and_masks_alone(coco_root: Path, tmp_path: Path) -> None:
    here = Coco20i(coco_root, "val", cache_folder=tmp_path / "a")
    written = write_coco(tmp_path / "elsewhere", splits=["val"], pictures=False)["val"]  # no image is needed
    elsewhere = Coco20i(tmp_path / "elsewhere", "val", cache_folder=tmp_path / "b")
    assert elsewhere.fingerprint == here.fingerprint
    assert Coco20i(coco_root, "train", cache_folder=tmp_path / "a").fingerprint != here.fingerprint
    path = annotation_file(tmp_path / "elsewhere")
    written["categories"].reverse()
    written["images"].reverse()
    path.write_text(json.dumps(written))
    assert Coco20i(tmp_path / "elsewhere", "val", cache_folder=tmp_path / "b").fingerprint == here.fingerprint
    written["annotations"][0]["category_id"] = CATEGORY_IDS[79]
    path.write_text(json.dumps(written))
    changed = Coco20i(tmp_path / "elsewhere", "val", cache_folder=tmp_path / "b")
    assert changed.fingerprint != here.fingerprint
    assert changed.class_pixels[:, 79].sum() > MIN_PIXELS
    with pytest.raises(FileNotFoundError, match=r"000000005001\.jpg is not a file"):
        changed[0]


def test_a_second_opening_draws_nothing_and_a_lost_mask_is_drawn_again(
    coco_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = draw_masks(annotation_file(coco_root), cache_folder=tmp_path)
    before = tree_bytes(masks.folder)
    lost, kept = masks.mask_path(3), masks.mask_path(4)
    lost.unlink()
    drawn_at = kept.stat().st_mtime_ns
    steps: list[int] = []
    draw_masks(annotation_file(coco_root), cache_folder=tmp_path, progress=lambda items: steps.extend(items) or steps)
    assert steps == [0]  # one missing, one drawn
    assert tree_bytes(masks.folder) == before and kept.stat().st_mtime_ns == drawn_at

    def parsed_again(path: Path) -> None:
        raise AssertionError("the annotations were parsed although all masks are there")

    monkeypatch.setattr(coco_masks, "read_annotations", parsed_again)
    assert draw_masks(annotation_file(coco_root), cache_folder=tmp_path) == masks


@pytest.mark.slow
def test_killed_in_the_middle_and_gone_on_with_in_parallel_gives_the_same_bytes(tmp_path: Path) -> None:
    write_coco(tmp_path, splits=["val"], n_classes=40, pictures=False)
    whole = draw_masks(annotation_file(tmp_path), cache_folder=tmp_path / "whole")
    program = f"""
import os, signal
from pathlib import Path
from dpnet_lite.published.coco_masks import draw_masks

def kill_at_5(items):
    for item in items:
        if item == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield item

root = Path({str(tmp_path)!r})
annotations = root / "annotations" / "instances_val2017.json"
draw_masks(annotations, cache_folder=root / "killed", progress=kill_at_5)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == -signal.SIGKILL, result.stderr
    folder = tmp_path / "killed" / whole.folder.name
    assert len(list(folder.glob("*.png"))) == 5 and not (folder / "list.json").exists()
    (folder / ".000000005006.png.4194305.tmp").write_bytes(b"half")  # what a kill within a write leaves
    drawn: list[int] = []
    masks = draw_masks(
        annotation_file(tmp_path),
        cache_folder=tmp_path / "killed",
        workers=2,
        progress=lambda items: (drawn.append(item) or item for item in items),
    )
    assert len(drawn) == 40 - 5
    assert tree_bytes(masks.folder) == tree_bytes(whole.folder)


POINTS = [5, 5, 30, 5, 30, 30]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"segmentation": [[[5, 5], [30, 5], [30, 30]]]}, "has a segmentation that is neither polygons"),
        ({"segmentation": [["5", "5", "30", "5", "30", "30"]]}, "has a segmentation that is neither polygons"),
        ({"segmentation": [POINTS, [*POINTS, 1]]}, "has a segmentation that is neither polygons"),
        ({"segmentation": []}, "has no polygon of three points or more"),
        ({"segmentation": [[math.nan, *POINTS[1:]]]}, "has the coordinate nan, but its image is 120 x 100"),
        ({"segmentation": [[-1e9, *POINTS[1:]]]}, "has the coordinate -1e+09, but its image is 120 x 100"),
        ({"segmentation": {"counts": [5], "size": [1, 5]}}, "has a run-length code of height and width [1, 5], but"),
        ({"segmentation": {"counts": [100, 500], "size": [100, 120]}}, "has run lengths that do not fill its image"),
        ({"segmentation": {"counts": "n1", "size": [100, 120]}}, "has run lengths that do not fill its image"),
        ({"segmentation": [POINTS, [121, 5, 130, 5, 130, 30]]}, "has a polygon outside its image, which is 120 x 100"),
        ({"segmentation": [[5, -9, 30, -1, 30, -2]]}, "has a polygon outside its image, which is 120 x 100"),
        ({"iscrowd": "0"}, "has iscrowd '0', which is neither 0 nor 1"),
        ({"iscrowd": [0]}, "has iscrowd [0], which is neither 0 nor 1"),
        ({"image_id": "5002"}, "is not of COCO's form (image_id is '5002')"),
        ({"image_id": 7}, "is of image 7, category "),
        ({"category_id": 12}, "is of image 5002, category 12, one of which is not listed"),
        ({"id": 50010}, "has the id of another one"),
    ],
)
def test_cases_07_and_08_annotations_of_no_use_are_counted_and_named(tmp_path: Path, change, fault: str) -> None:
    """A faulty coordinate ended the process; annotations of other forms, and of unknown images, were lost."""
    content = write_coco(tmp_path, splits=["val"], n_classes=2, pictures=False)["val"]
    content["annotations"][2:4] = [{**entry, **change} for entry in content["annotations"][2:4]]
    path, (number, last) = annotation_file(tmp_path), (entry["id"] for entry in content["annotations"][2:4])
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(f"{path}: annotation {number} {fault}")) as caught:
        draw_masks(path, cache_folder=tmp_path / "cache")
    assert str(caught.value).endswith(" (2 such entries; see: dpnet-lite data check coco20i)")
    lines = [finding.text for finding in examine("coco20i", tmp_path) if finding.kind == "wrong"]
    assert len(lines) == 2 and lines[1].startswith(f"{path.name}: annotation {last} {fault}")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            '"categories"',
            '"annotations": [], "categories"',
            "has 'annotations' twice where it may stand once; unpack it",
        ),
        (
            '"iscrowd": 0',
            '"iscrowd": 0, "id": 7',
            "has 'id' twice where it may stand once; unpack it again, or join the",
        ),
        (
            '"annotations": [',
            '"annotations": [], "others": [',
            "has no annotation, so there is no mask to draw; unpack",
        ),
    ],
)
def test_annotations_that_would_be_lost_or_are_none_are_not_prepared(tmp_path, old: str, new: str, fault: str) -> None:
    write_coco(tmp_path, pictures=False)
    path = annotation_file(tmp_path)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=re.escape(f"{path} {fault}")):
        prepare_data(
            "coco20i", tmp_path, download=False, workers=1, cache_folder=tmp_path / "cache", steps=lambda name: iter
        )
    assert any(f"{path} {fault}" in text for kind, text in examine("coco20i", tmp_path) if kind == "wrong")


@pytest.mark.parametrize(
    ("segmentation", "is_told"),
    [
        ([POINTS], False),
        ([[119, 5, 121, 5, 121, 60]], False),  # covers pixels of the last column
        ([[96.65, 8.33, 96.65, 8.33, 97.68, 8.33, 97.68, 8.33]], True),  # no area, as two of COCO's own
        ([[20.1, 20.1, 20.3, 20.1, 20.3, 20.3]], True),  # between the pixels' middles
        ([POINTS, [40, 40, 50, 50]], True),
        ({"counts": [12000], "size": [100, 120]}, True),
        ({"counts": [11999, 1], "size": [100, 120]}, False),
    ],
)
def test_annotations_that_are_drawn_nowhere_are_counted_and_named(
    segmentation, is_told: bool, tmp_path: Path, caplog
) -> None:
    from pycocotools.coco import COCO

    content = write_coco(tmp_path, splits=["val"], n_classes=2, pictures=False)["val"]
    last = content["annotations"][-1]
    added = [{**last, "id": last["id"] + number, "segmentation": segmentation} for number in range(1, 8)]
    content["annotations"] += added
    annotation_file(tmp_path).write_text(json.dumps(content))
    draw_masks(annotation_file(tmp_path), cache_folder=tmp_path / "cache")
    (note, *others) = [finding.text for finding in examine("coco20i", tmp_path) if finding.kind == "note"]
    told = f"under three points): {', '.join(str(entry['id']) for entry in added[:5])} and 2 more"
    assert is_told == (told in note) == (told in caplog.text) and len(others) == is_told
    coco = COCO()
    coco.imgs = {last["image_id"]: {"height": 100, "width": 120}}
    with warnings.catch_warnings():  # see _instance_pixels
        warnings.simplefilter("ignore", DeprecationWarning)
        assert is_told == (not coco.annToMask(added[0]).any() or "[40, 40, 50, 50]" in str(segmentation))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"height": 10**5, "width": 10**5}, "image 5001 has 100000 x 100000 pixels; there must be 1 to 100,000,000"),
        ({"width": 0}, "image 5001 has 0 x 100 pixels"),
        ({"id": 5002}, "image 5002 has the id of another one"),
        ({"file_name": "\udcff.jpg"}, "image 5001 has the unreadable name '\\udcff.jpg'"),
        ({"file_name": "a\0.jpg"}, "image 5001 has the unreadable name 'a\\x00.jpg'"),
        ({"file_name": "x" * 300 + ".jpg"}, f"image 5001 has the file_name '{'x' * 79}, which is no file in"),
        ({"file_name": "other/000000005002.jpg"}, "2 images are called 000000005002"),
        ({"file_name": ""}, "image 5001 has the file_name '', which is no file in COCO's folder of images"),
        ({"file_name": "../../5001.jpg"}, "image 5001 has the file_name '../../5001.jpg', which is no file in"),
        ({"file_name": "/5001.jpg"}, "image 5001 has the file_name '/5001.jpg', which is no file in"),
        ({"file_name": "..\\000000005001.jpg"}, "image 5001 has the file_name '..\\\\000000005001.jpg', which is no"),
        ({"file_name": None}, "image 5001 is not of COCO's form (file_name is None)"),
    ],
)
def test_images_of_no_use_are_named(tmp_path: Path, change: dict[str, Any], fault: str) -> None:
    content = write_coco(tmp_path, splits=["val"], n_classes=2, pictures=False)["val"]
    content["images"] = [*content["images"][1:], {**content["images"][0], **change}]
    annotation_file(tmp_path).write_text(json.dumps(content))
    assert read_annotations(annotation_file(tmp_path)).faults[0].startswith(fault)


def test_cached_masks_that_changed_or_are_another_images_are_drawn_again(coco_root: Path, tmp_path: Path) -> None:
    masks = draw_masks(annotation_file(coco_root), cache_folder=tmp_path)
    before = tree_bytes(masks.folder)
    swapped, flipped, listing = masks.mask_path(2), masks.mask_path(5), masks.folder / "list.json"
    swapped.write_bytes(masks.mask_path(3).read_bytes())
    Image.fromarray(read_mask(masks.mask_path(4)).numpy()[::-1].copy()).save(masks.mask_path(4))  # a whole PNG
    for path in (flipped, listing):
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 1
        path.write_bytes(bytes(content))
    drawn: list[int] = []
    again = draw_masks(
        annotation_file(coco_root), cache_folder=tmp_path, progress=lambda rows: drawn.extend(rows) or rows
    )
    assert drawn == [0, 1, 2] and again == masks and tree_bytes(masks.folder) == before


def test_a_cache_that_cannot_be_written_is_told_in_one_line(coco_root: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file.* cannot be written \(Not a directory\): .*another place with --cache$"):
        draw_masks(annotation_file(coco_root), cache_folder=tmp_path / "file")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    told = r"coco-masks.* cannot be written \(No space left on device; \d+ bytes are needed\): .* with --cache$"
    with pytest.raises(OSError, match=told):
        draw_masks(annotation_file(coco_root), cache_folder=tmp_path)


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs the photographs of ../shared")
def test_the_class_order_is_that_of_the_photographs() -> None:
    assert tuple((PHOTOS / "classes.txt").read_text().split("\n")[:80]) == COCO_CLASSES


def test_mistakes_are_told_with_a_remedy(coco_root: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ValueError, match="split is 'test'; choose one of train, val"):
        Coco20i(coco_root, "test")
    with pytest.raises(ValueError, match="year is 2015; choose one of 2014, 2017"):
        Coco20i(coco_root, "val", year=2015)
    with pytest.raises(FileNotFoundError, match=r"instances_val2014.json is not there \(nor that of 2017\); unpack"):
        Coco20i(tmp_path, "val")
    with pytest.raises(ValueError, match="there are 0 workers; give 1 or more"):
        draw_masks(annotation_file(coco_root), workers=0)
    content = json.loads(annotation_file(coco_root).read_text())
    first, *others = content["categories"]
    without_name = [{key: value for key, value in image.items() if key != "file_name"} for image in content["images"]]
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dpnet-lite\[benchmarks\]'"):
        draw_masks(annotation_file(coco_root), cache_folder=tmp_path)
    monkeypatch.undo()
    for change, message in [
        ({"categories": content["categories"][:79]}, "has 79 categories, not the 80 of COCO"),
        ({"categories": [{"id": 1, "name": "dog house"}]}, "has 1 categories, such as 'dog house'"),
        ({"categories": [{"id": 1}]}, r"category 1 is not of COCO's form \(name is None\); unpack it again"),
        ({"categories": [first | {"id": math.inf}, *others]}, r"category inf is not of COCO's form \(id is inf\)"),
        ({"categories": [first | {"id": 1.9}, *others]}, r"category 1\.9 is not of COCO's form \(id is 1\.9\)"),
        ({"categories": [first, first, *others]}, "category 1 has the id of another one; unpack it again"),
        ({"images": None}, "lacks one of the lists images, annotations, categories"),
        ({"images": without_name}, "image 5001 is not of COCO's form"),
        ({"annotations": [{"id": 1}]}, r"annotation 1 is not of COCO's form \(image_id is None\)"),
        ({"annotations": [7]}, "annotation number 1 of the list is not of COCO's form"),
    ]:
        path = tmp_path / "instances.json"
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(ValueError, match=message):
            draw_masks(path, cache_folder=tmp_path)
    path.write_text(json.dumps(content)[:-100])
    with pytest.raises(ValueError, match="is not whole JSON; unpack it again"):
        read_annotations(path)
