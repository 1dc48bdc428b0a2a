"""FSS-1000: classes by lists, labels of 0 and 1, masks of both modes, a fingerprint of names, mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from coco_fss_trees import FSS_SPLITS, write_fss
from PIL import Image
from places import SHARED

from dpnet_lite.episodes import draw_episodes
from dpnet_lite.published import fss
from dpnet_lite.published.fss import Fss1000, read_fss_mask

HSNET_LISTS = SHARED / "lists" / "hsnet_fss"
AS_HSNET = ["1", "10", "2", "3", "4", "5", "6", "7", "8", "9"]  # file names sorted as text


def test_classes_and_images_come_in_the_order_of_hsnet(fss_root: Path) -> None:
    for split, names in FSS_SPLITS.items():
        dataset = Fss1000(fss_root, split)
        assert dataset.class_names == tuple(sorted(names)) and dataset.name == f"fss1000-{split}"
        assert dataset.ids == tuple(f"{name}/{number}" for name in sorted(names) for number in AS_HSNET)
        assert len(dataset) == 10 * len(names)


def test_hidden_files_of_macos_are_no_images(fss_root: Path, copy_of) -> None:
    root = copy_of(fss_root)
    for name in ("._1.jpg", "._1.png"):
        (root / "mug" / name).write_bytes(b"what macOS notes beside a file")
    assert Fss1000(root, "test").ids == Fss1000(fss_root, "test").ids


def test_labels_are_one_where_the_grey_of_the_mask_is_128_or_more(fss_root: Path, tmp_path: Path) -> None:
    dataset = Fss1000(fss_root, "test", cache_folder=tmp_path)
    modes = set()
    for row, image_id in enumerate(dataset.ids):
        with Image.open(fss_root / f"{image_id}.png") as mask:
            modes.add(mask.mode)
            values = np.array(mask)
        red = values if values.ndim == 2 else values[..., 0]  # the colour masks are grey, too
        assert ((red > 0) & (red < 255)).any()  # soft edges
        image, labels = dataset[row]
        assert image.shape == (3, *labels.shape) and labels.dtype == torch.uint8
        np.testing.assert_array_equal(labels.numpy(), red >= 128)
        own = FSS_SPLITS["test"].index(image_id.split("/")[0])
        assert dataset.class_pixels[row].tolist() == [int((red >= 128).sum()) * (own == c) for c in range(4)]
    assert modes == {"L", "RGB"}
    assert dataset.class_pixels.dtype == np.int32 and dataset.index.pixels.shape == (40, 1)


def test_the_threshold_is_hsnets(fss_root: Path, copy_of) -> None:
    root = copy_of(fss_root)
    Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(root / "mug" / "1.png")
    dataset = Fss1000(root, "test")
    row = dataset.ids.index("mug/1")
    assert dataset.read_labels(row).tolist() == [[0, 0, 1, 1]]
    with pytest.raises(ValueError, match=r"1\.jpg is 120 x 100 pixels, but its mask is 4 x 1; get the original files"):
        dataset[row]
    (root / "mug" / "1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"mug/1\.png cannot be read as an image \(cannot identify"):
        dataset.read_labels(row)


def test_an_image_shows_its_own_class_alone(fss_root: Path) -> None:
    dataset = Fss1000(fss_root, "val")
    for row in range(len(dataset)):
        own = row // 10
        assert [dataset.label_value(row, c) for c in range(4)] == [1 if c == own else -1 for c in range(4)]
        assert dataset.class_areas[row].tolist() == [float(c == own) for c in range(4)]
    assert dataset.class_areas.dtype == np.float32


def test_episodes_come_from_all_ten_images_and_no_mask_is_read(tmp_path: Path) -> None:
    write_fss(tmp_path, empty=True)  # reading any file would fail
    dataset = Fss1000(tmp_path, "test")
    episodes = draw_episodes(dataset, range(4), fold=0, n_shot=5, count=400, seed=0, min_area=0)
    for class_index in range(4):
        own = [episode for episode in episodes if episode.class_index == class_index]
        rows = set(range(10 * class_index, 10 * class_index + 10))
        assert {episode.query for episode in own} == rows
        assert {row for episode in own for row in episode.support} == rows
        assert all(len(set(episode.support)) == 5 for episode in own)


def test_the_fingerprint_covers_names_alone(fss_root: Path, tmp_path: Path) -> None:
    here = Fss1000(fss_root, "test").fingerprint
    write_fss(tmp_path / "a", folder="fewshot_data", empty=True)  # other place, other content
    assert Fss1000(tmp_path / "a", "test").fingerprint == here
    assert len({Fss1000(fss_root, split).fingerprint for split in FSS_SPLITS} | {here}) == 3
    for suffix in ("jpg", "png"):
        (tmp_path / "a" / "fewshot_data" / "mug" / f"7.{suffix}").unlink()
    assert Fss1000(tmp_path / "a", "test").fingerprint != here
    write_fss(tmp_path / "b", {**FSS_SPLITS, "test": ("ladder", "mug", "nail", "oar")}, empty=True)
    assert Fss1000(tmp_path / "b", "test").fingerprint != here


def test_lists_of_other_names_and_places(fss_root: Path, tmp_path: Path) -> None:
    (tmp_path / "fss_test_set.txt").write_text("nail\nmug")  # as the official one, without an end of line
    (tmp_path / "train.txt").write_text("\ufeffegg\r\n\r\nfan\r\n", encoding="utf-8")
    assert Fss1000(fss_root, "test", lists=tmp_path).class_names == ("mug", "nail")
    assert Fss1000(fss_root, "train", lists=tmp_path).class_names == ("egg", "fan")
    with pytest.raises(FileNotFoundError, match=r"has no val\.txt, the classes of the split; take HSNet's lists"):
        Fss1000(fss_root, "val", lists=tmp_path)
    (tmp_path / "val.txt").write_text("hat\niron\nhat\n")
    with pytest.raises(ValueError, match="names 'hat' twice; name each class once"):
        Fss1000(fss_root, "val", lists=tmp_path)
    for odd in ("hat/", "../fss/hat", "..", "."):
        (tmp_path / "val.txt").write_text(f"hat\n{odd}\n")
        with pytest.raises(ValueError, match=rf"val\.txt names '{odd}', which is no name of a folder; write the class"):
            Fss1000(fss_root, "val", lists=tmp_path)
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match="is empty; it needs one name a line"):
        Fss1000(fss_root, "val", lists=tmp_path)


def test_masks_whose_object_is_not_told_by_8_bit_grey_are_refused(tmp_path: Path) -> None:
    """Pillow clips 16 bits to 255, and drops what is transparent: the object was all but the background, or all."""
    grey = np.uint8([[0, 1, 200, 255]])
    path, alpha = tmp_path / "1.png", Image.fromarray(grey)
    for mask in (
        Image.fromarray(grey.astype(np.uint16) * 257),
        Image.merge("LA", (Image.new("L", (4, 1), 255), alpha)),
    ):
        mask.save(path)
        with pytest.raises(
            ValueError, match=r"1\.png cannot be read as an image \(16 bits, or transparent, where the obj"
        ):
            read_fss_mask(path)
    Image.merge("LA", (alpha, Image.new("L", (4, 1), 255))).save(path)
    assert read_fss_mask(path).tolist() == [[0, 0, 1, 1]]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_fss(tmp_path, empty=True)
    with pytest.raises(ValueError, match="split is 'trn'; choose one of train, val, test"):
        Fss1000(tmp_path, "trn")
    (tmp_path / "mug" / "3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"mug has no mask of 3\.jpg; unpack FSS-1000 again"):
        Fss1000(tmp_path, "test")
    for path in (tmp_path / "mug").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"mug has no images \(\.jpg\); unpack FSS-1000 again"):
        Fss1000(tmp_path, "test")
    (tmp_path / "mug").rmdir()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 4 classes, first mug/; unpack FSS-1000 there"):
        Fss1000(tmp_path, "test")


@pytest.mark.skipif(not HSNET_LISTS.is_dir(), reason="needs the lists of ../shared")
def test_the_class_lists_of_hsnet_are_a_split_of_1000_classes(tmp_path: Path) -> None:
    names = {
        split: (HSNET_LISTS / file).read_text().split()
        for split, file in (("train", "trn.txt"), ("val", "val.txt"), ("test", "test.txt"))
    }
    assert [len(names[split]) for split in fss.SPLIT_SIZES] == list(fss.SPLIT_SIZES.values()) == [520, 240, 240]
    assert len({name for split in names.values() for name in split}) == 1000
    write_fss(tmp_path, {"val": names["val"]}, lists=False, empty=True)
    dataset = Fss1000(tmp_path, "val", lists=HSNET_LISTS)
    assert len(dataset) == 2400 and list(dataset.class_names) == sorted(names["val"])
    assert dataset.class_areas.shape == (2400, 240) and (dataset.class_areas.sum(axis=0) == 10).all()
