"""PASCAL-5i where VOC's masks and SBD's meet: whose mask counts, what is made and what never is, stops and mistakes."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpnet_lite.course.made_up_pascal import PascalTree, write_pascal
from dpnet_lite.published.list_files import write_pfenet_list
from dpnet_lite.published.mask_index import MaskIndex
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.published.pascal_files import check_pascal
from dpnet_lite.published.pascal_prepare import prepare_pascal


@pytest.fixture
def raw(tmp_path: Path) -> PascalTree:
    """As the archives have it: SBD's masks as .mat alone."""
    return write_pascal(tmp_path / "raw", n_train=20, n_val=20, with_images=False, prepared=False)


def test_vocs_own_mask_counts_before_a_made_one(raw: PascalTree) -> None:
    prepare_pascal(raw.root)
    fingerprint = Pascal5i(raw.root, "train").fingerprint
    name = raw.voc_train[0]
    made = np.where(raw.labels[name] == 255, 0, raw.labels[name]).astype(np.uint8)  # as SBD has it, without border
    Image.fromarray(made).save(raw.base / "SegmentationClassAug" / f"{name}.png")
    dataset = Pascal5i(raw.root, "train")
    assert np.array_equal(dataset.read_labels(dataset.ids.index(name)).numpy(), raw.labels[name])
    assert dataset.fingerprint == fingerprint


def test_no_mask_of_sbd_takes_the_place_of_vocs(raw: PascalTree) -> None:
    """SBD annotates images of VOC's train and val too; their masks have no border, so they are others."""
    in_both = next(name for name in raw.voc_train if name in raw.sbd_train_noval)
    assert (raw.root / "sbd" / "cls" / f"{raw.val_ids[0]}.mat").is_file()
    for name in (in_both, raw.val_ids[0]):
        own = raw.base / "SegmentationClass" / f"{name}.png"
        content = own.read_bytes()
        own.unlink()
        with pytest.raises(FileNotFoundError, match=rf"^1 images have no mask; .*{name}: unpack its trainval archive"):
            prepare_pascal(raw.root)
        with pytest.raises(FileNotFoundError, match=f"such as that of {name}: unpack its trainval archive again"):
            Pascal5i(raw.root, "val" if name in raw.val_ids else "train")
        assert [
            f"{name}: unpack its trainval archive" in finding.text
            for finding in check_pascal(raw.root)
            if "listed images have no mask" in finding.text
        ] == [True]
        own.write_bytes(content)
    made = {path.stem for path in (raw.base / "SegmentationClassAug").iterdir()}
    assert made == set(raw.sbd_train_noval) - set(raw.voc_train)
    assert prepare_pascal(raw.root).startswith("0 annotations of SBD made masks; 19")


def test_images_of_val_in_vocs_own_train_list_stay_out_of_train(raw: PascalTree) -> None:
    prepare_pascal(raw.root)
    train = raw.base / "ImageSets" / "Segmentation" / "train.txt"
    train.write_text(train.read_text() + raw.val_ids[3] + "\n")
    assert Pascal5i(raw.root, "train").ids == tuple(sorted(raw.train_ids))


def test_the_split_is_part_of_the_fingerprint(raw: PascalTree, tmp_path: Path) -> None:
    write_pfenet_list(tmp_path / "same.txt", raw.val_ids)
    first, second = (Pascal5i(raw.root, split, lists=tmp_path / "same.txt") for split in ("train", "val"))
    assert first.index.sha256 == second.index.sha256 and first.fingerprint != second.fingerprint


def test_the_check_knows_values_and_shared_ids(raw: PascalTree, tmp_path: Path) -> None:
    prepare_pascal(raw.root)
    path = raw.base / "SegmentationClass" / f"{raw.val_ids[2]}.png"
    Image.fromarray(np.full((9, 9), 21, np.uint8)).save(path)
    wrong = [finding.text for finding in check_pascal(raw.root) if finding.kind == "wrong"]
    assert wrong == [f"{path} holds the value 21, but there are 20 classes; get the file again"]
    write_pfenet_list(tmp_path / "one.txt", raw.train_ids)
    wrong = [finding.text for finding in check_pascal(raw.root, tmp_path / "one.txt") if finding.kind == "wrong"]
    assert wrong == [f"train and val share 20 images, first {min(raw.train_ids)}; give a folder with a list of each"]


def test_the_deep_check_decodes_images(tmp_path: Path) -> None:
    tree = write_pascal(tmp_path, n_train=20, n_val=20)
    found = [finding.text for finding in check_pascal(tree.root, deep=True) if finding.kind == "found"]
    assert "val: 20 images listed, all of them and their masks can be read" in found
    cut = tree.base / "JPEGImages" / f"{tree.val_ids[1]}.jpg"
    cut.write_bytes(cut.read_bytes()[:-400])  # the header is whole
    assert "wrong" not in {finding.kind for finding in check_pascal(tree.root)}
    findings = check_pascal(tree.root, deep=True)
    wrong = [finding.text for finding in findings if finding.kind == "wrong"]
    assert len(wrong) == 1 and wrong[0].startswith(f"{cut} cannot be read as an image")
    assert "val: 20 images listed, all of their masks can be read" in [finding.text for finding in findings]


@pytest.mark.parametrize("workers", [0, -1])
def test_workers_are_one_or_more(raw: PascalTree, workers: int) -> None:
    with pytest.raises(ValueError, match=f"^there are {workers} workers; give 1 or more$"):
        prepare_pascal(raw.root, workers=workers)


def test_scipy_is_asked_for_before_any_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dpnet-lite\[benchmarks\]'"):
        prepare_pascal(tmp_path / "new", download=True)
    assert not (tmp_path / "new").exists()


def test_ids_are_part_of_the_hash_of_counts() -> None:
    arrays = (np.ones((1, 2), np.int32), np.zeros((1, 20), np.int32), np.zeros(1, np.int32))
    assert MaskIndex(("a",), *arrays).sha256 != MaskIndex(("b",), *arrays).sha256


def test_a_broken_file_of_counts_is_written_anew(raw: PascalTree, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    expected = Pascal5i(raw.root, "val", cache_folder=cache).fingerprint
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    other = io.BytesIO()
    np.savez_compressed(other, sizes=np.zeros((3, 2), np.int32), pixels=np.zeros((3, 20)), ignored=np.zeros(3))
    for broken in (b"", whole[:100], whole[:-30], other.getvalue()):
        path.write_bytes(broken)
        assert Pascal5i(raw.root, "val", cache_folder=cache).fingerprint == expected
        with np.load(path) as arrays:
            assert arrays["pixels"].shape == (20, 20)
