"""Checking a copy of PASCAL-5i, and getting one from made-up archives."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import SBDataset, VOCSegmentation, voc

from dpnet_lite.course.made_up_pascal import PascalTree, write_pascal, write_sbd_mat
from dpnet_lite.published.downloads import file_md5, no_bar
from dpnet_lite.published.findings import Finding
from dpnet_lite.published.list_files import write_pfenet_list
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.published.pascal_facts import PASCAL5I_FACTS, FoldFacts, PascalFacts, differences, measured_facts
from dpnet_lite.published.pascal_files import check_pascal
from dpnet_lite.published.pascal_prepare import prepare_pascal
from dpnet_lite.published.sbd_masks import convert_masks, read_sbd_mask


def texts(findings: list[Finding], *kinds: str) -> list[str]:
    return [finding.text for finding in findings if finding.kind in kinds]


@pytest.fixture
def tree(tmp_path: Path) -> PascalTree:
    return write_pascal(tmp_path / "copy", "torchvision", n_train=20, n_val=20)


def image(tree: PascalTree, name: str) -> Path:
    return tree.base / "JPEGImages" / f"{name}.jpg"


def test_a_whole_copy_has_notes_alone(tree: PascalTree) -> None:
    findings = check_pascal(tree.root)
    assert not texts(findings, "missing", "wrong")
    found = texts(findings, "found")
    assert f"masks in {tree.base}: 25 from SegmentationClass, 15 from SegmentationClassAug" in found
    assert "train: 20 images listed, all of their masks can be read" in found
    assert texts(findings, "note")[0].startswith(
        "images of train: 20 here, 5,953 in the published data; scores on this"
    )


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


def test_broken_files_are_named(tree: PascalTree) -> None:
    dataset = Pascal5i(tree.root, "val")
    cut, colour, odd = dataset.mask_paths[:3]
    cut.write_bytes(cut.read_bytes()[:-60])
    Image.open(colour).convert("RGB").save(colour)
    Image.fromarray(np.full((100, 120), 77, np.uint8)).save(odd)
    Image.new("RGB", (50, 40)).save(image(tree, dataset.ids[3]))
    image(tree, dataset.ids[4]).write_bytes(b"no image")
    findings = check_pascal(tree.root)
    wrong = "\n".join(texts(findings, "wrong"))
    assert f"{cut} cannot be read as an image" in wrong and f"{colour} is a colour mask" in wrong
    assert f"{odd} holds the value 77, but there are 20 classes" in wrong
    assert f"{image(tree, dataset.ids[3])} is 50 x 40 pixels, but its mask" in wrong
    assert f"{image(tree, dataset.ids[4])} cannot be read as an image" in wrong
    assert len(texts(findings, "wrong")) == 5 and not texts(findings, "missing", "note")  # without numbers no facts


def test_many_broken_files_are_counted(tree: PascalTree) -> None:
    for path in Pascal5i(tree.root, "val").mask_paths[:8]:
        path.write_bytes(b"")
    wrong = texts(check_pascal(tree.root), "wrong")
    assert len(wrong) == 6 and wrong[-1] == "val: 3 more of this kind; get the folder again"


def test_what_is_absent_is_named(tree: PascalTree, tmp_path: Path) -> None:
    assert texts(check_pascal(tmp_path / "none"), "missing")[0].endswith("that holds VOCdevkit or JPEGImages")
    image(tree, tree.train_ids[2]).unlink()
    (tree.base / "SegmentationClass" / f"{tree.val_ids[1]}.png").unlink()
    (tree.root / "sbd" / "train_noval.txt").unlink()
    missing = texts(check_pascal(tree.root), "missing")
    assert len(missing) == 2 and "train_noval.txt; it comes with SBD" in missing[0]
    assert missing[1] == (
        f"val: 1 of 20 listed images have no mask, first {tree.val_ids[1]}; VOC2012's own are "
        f"among them, such as that of {tree.val_ids[1]}: unpack its trainval archive again, or correct the list"
    )
    write_pfenet_list(tmp_path / "train_ids.txt", tree.train_ids)
    write_pfenet_list(tmp_path / "val_ids.txt", tree.val_ids[2:])
    missing = texts(check_pascal(tree.root, tmp_path), "missing")
    assert missing == [
        f"train: 1 of 20 images are absent, first {tree.train_ids[2]}.jpg; they come with VOC2012's trainval archive"
    ]
    shutil.rmtree(tree.base / "JPEGImages")
    missing = texts(check_pascal(tree.root, tmp_path), "missing")
    assert len(missing) == 2 and all("masks alone do to draw episodes" in text for text in missing)
    write_pfenet_list(tmp_path / "val_ids.txt", ["a b c"])
    assert "val_ids.txt line 1 is 'a b c'" in texts(check_pascal(tree.root, tmp_path), "wrong")[0]


def test_annotations_of_sbd_become_masks(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 21, (33, 47)).astype(np.uint8)
    write_sbd_mat(tmp_path / "cls" / "a.mat", labels)
    assert np.array_equal(read_sbd_mask(tmp_path / "cls" / "a.mat"), labels)
    assert np.array_equal(SBDataset.__dict__["_get_segmentation_target"](_Loader(), tmp_path / "cls" / "a.mat"), labels)
    convert_masks(["a"], tmp_path / "cls", tmp_path / "png")
    assert np.array_equal(np.array(Image.open(tmp_path / "png" / "a.png")), labels)
    (tmp_path / "cls" / "b.mat").write_bytes(b"nothing")
    write_sbd_mat(tmp_path / "cls" / "c.mat", labels + 1)
    for name, message in (("b", "is no annotation of SBD"), ("c", "holds other values than the classes 0 to 20")):
        with pytest.raises(ValueError, match=message):
            convert_masks([name], tmp_path / "cls", tmp_path / "png")
    assert [path.name for path in (tmp_path / "png").iterdir()] == ["a.png"]


class _Loader:
    """Stands for an SBDataset, of which torchvision's reading of a file needs this alone."""

    @staticmethod
    def _loadmat(path: Path) -> object:
        from scipy.io import loadmat

        return loadmat(path)


def test_prepare_goes_on_and_gives_the_same_data(tmp_path: Path) -> None:
    raw = write_pascal(tmp_path / "raw", "torchvision", prepared=False)
    done = write_pascal(tmp_path / "done", "torchvision", prepared=True)
    with pytest.raises(FileNotFoundError, match="30 of 40 images have no mask"):
        Pascal5i(raw.root, "train")
    names = [name for name in raw.sbd_train_noval if name not in raw.voc_train]
    convert_masks(names[:4], raw.root / "sbd" / "cls", raw.base / "SegmentationClassAug")  # a run that was stopped
    seen: list[int] = []

    def steps(name: str):
        assert name == "masks of SBD"
        return lambda rows: (seen.append(row) or row for row in rows)

    text = prepare_pascal(raw.root, steps=steps)
    assert len(seen) == 26
    assert text.splitlines()[0] == "26 annotations of SBD made masks; 10 images had one"  # 4, and 6 of VOC's
    assert Pascal5i(raw.root, "train").fingerprint == Pascal5i(done.root, "train").fingerprint
    assert prepare_pascal(raw.root, steps=steps).startswith("0 annotations of SBD made masks; 36")


def test_prepare_with_processes(tmp_path: Path) -> None:
    raw = write_pascal(tmp_path, "torchvision", n_train=60, n_val=20, with_images=False, prepared=False)
    prepare_pascal(raw.root, workers=2)
    dataset = Pascal5i(raw.root, "train")
    for row in (0, 30, 59):
        assert np.array_equal(dataset.read_labels(row).numpy(), raw.labels[dataset.ids[row]])


def test_prepare_without_annotations_says_what_to_do(tmp_path: Path) -> None:
    raw = write_pascal(tmp_path, "torchvision", n_train=20, n_val=20, with_images=False, prepared=False)
    shutil.rmtree(raw.root / "sbd" / "cls")
    with pytest.raises(
        FileNotFoundError, match=r"15 training images have no mask, .*put SBD's folder cls in .*--download"
    ):
        prepare_pascal(raw.root)


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PascalTree:
    """Archives of a made-up data set in the structure of the real ones, at the places torchvision takes them from."""
    source = write_pascal(tmp_path / "source", "torchvision", n_train=20, n_val=20, prepared=False)
    for name in ("img", "inst"):
        (source.root / "sbd" / name).mkdir()
    served = tmp_path / "served"
    served.mkdir()
    with tarfile.open(served / "voc.tar", "w") as archive:
        archive.add(source.root / "VOCdevkit", "VOCdevkit")
    noval = shutil.move(source.root / "sbd" / "train_noval.txt", served)
    with tarfile.open(served / "sbd.tgz", "w:gz") as archive:
        archive.add(source.root / "sbd", "benchmark_RELEASE/dataset")
    voc_archive = {
        **voc.DATASET_YEAR_DICT["2012"],
        "url": (served / "voc.tar").as_uri(),
        "md5": file_md5(served / "voc.tar"),
    }
    monkeypatch.setitem(voc.DATASET_YEAR_DICT, "2012", voc_archive)
    monkeypatch.setattr(SBDataset, "url", (served / "sbd.tgz").as_uri())
    monkeypatch.setattr(SBDataset, "md5", file_md5(served / "sbd.tgz"))
    monkeypatch.setattr(SBDataset, "voc_train_url", Path(noval).as_uri())
    monkeypatch.setattr(SBDataset, "voc_split_md5", file_md5(Path(noval)))
    return source


def test_download_gives_a_copy_that_torchvision_reads_too(archives: PascalTree, tmp_path: Path) -> None:
    root = tmp_path / "fetched"
    text = prepare_pascal(root, download=True, open_bar=no_bar)
    assert "VOC2012 unpacked" in text and "15 annotations of SBD made masks" in text
    assert not texts(check_pascal(root), "missing", "wrong")
    assert len(VOCSegmentation(root, image_set="val")) == 20
    assert len(SBDataset(root / "sbd", "train_noval", "segmentation")) == len(archives.sbd_train_noval)
    for split in ("train", "val"):
        dataset = Pascal5i(root, split)  # type: ignore[arg-type]
        assert all(
            np.array_equal(dataset.read_labels(row), archives.labels[name]) for row, name in enumerate(dataset.ids)
        )
    assert sorted(path.name for path in root.iterdir()) == ["VOCdevkit", "VOCtrainval_11-May-2012.tar", "sbd"]
    again = prepare_pascal(root, download=True, open_bar=no_bar)
    assert "VOC2012 is there" in again and "SBD is there" in again


def test_download_goes_on_after_any_stop(archives: PascalTree, tmp_path: Path) -> None:
    root = tmp_path / "fetched"
    prepare_pascal(root, download=True, open_bar=no_bar)
    sbd, base = root / "sbd", root / "VOCdevkit" / "VOC2012"
    # as if stopped while VOC was unpacked, and SBD between two moves
    shutil.rmtree(base / "SegmentationClassAug")
    (base / "JPEGImages" / f"{archives.val_ids[-1]}.jpg").unlink()
    (root / "sbd.unpacking" / "benchmark_RELEASE").mkdir(parents=True)
    (root / "sbd.unpacking" / "train.txt").write_text("half")
    shutil.move(sbd / "cls", root / "sbd.unpacking" / "cls")
    prepare_pascal(root, download=True, open_bar=no_bar)
    assert not texts(check_pascal(root), "missing", "wrong") and not (root / "sbd.unpacking").exists()
    assert sorted(path.name for path in sbd.iterdir()) == sorted(
        ["benchmark.tgz", "cls", "img", "inst", "train.txt", "val.txt", "train_noval.txt"]
    )


def test_a_stop_between_any_two_moves_is_gone_on_with(
    archives: PascalTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cls tells that SBD is whole, so it must come last."""
    root, move = tmp_path / "fetched", os.replace
    for allowed in (1, 5):
        with monkeypatch.context() as patch:
            moved: list[str] = []

            def stop(source: Path, target: Path) -> None:
                if Path(target).parent == root / "sbd" and Path(target).suffix not in (".part", ".tgz"):
                    if len(moved) == allowed:  # noqa: B023
                        raise KeyboardInterrupt
                    moved.append(Path(target).name)  # noqa: B023
                move(source, target)

            patch.setattr("dpnet_lite.published.pascal_prepare.os.replace", stop)
            if allowed == 1:
                with pytest.raises(KeyboardInterrupt):
                    prepare_pascal(root, download=True, open_bar=no_bar)
                assert not (root / "sbd" / "cls").exists()
            else:
                prepare_pascal(root, download=True, open_bar=no_bar)
                assert moved[-1] == "cls"
    assert {path.name for path in (root / "sbd").iterdir()} > {"cls", "img", "inst", "train.txt", "val.txt"}


def test_sbd_is_not_fetched_where_all_masks_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = write_pascal(tmp_path / "done", "torchvision", n_train=20, n_val=20)
    monkeypatch.setattr(SBDataset, "url", (tmp_path / "gone.tgz").as_uri())  # fetching it would fail
    text = prepare_pascal(done.root, download=True, open_bar=no_bar)
    assert "SBD is there" in text and "0 annotations of SBD made masks; 0 images had one" in text


def test_download_says_what_is_in_the_way(
    archives: PascalTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_pascal(tmp_path / "other", "common", n_train=20, n_val=20, with_images=False)
    with pytest.raises(ValueError, match="holds a part of another layout; download into an empty folder"):
        prepare_pascal(other.root, download=True, open_bar=no_bar)
    monkeypatch.setattr(SBDataset, "voc_train_url", (tmp_path / "gone.txt").as_uri())
    with pytest.raises(ConnectionError, match=r"gone\.txt broke off .*put it at .*train_noval\.txt \(PFENet's lists"):
        prepare_pascal(tmp_path / "fetched", download=True, open_bar=no_bar)
