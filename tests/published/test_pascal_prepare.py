"""Making a copy of PASCAL-5i complete: SBD's masks as PNG, archives by torchvision, stops in the middle."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from made_up_pascal import PascalTree, write_pascal, write_sbd_mat
from PIL import Image
from torchvision.datasets import SBDataset, VOCSegmentation, voc

from dpnet_lite.published.check import examine
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.published.pascal_prepare import convert_mask, prepare_pascal


def amiss(root: Path) -> list[str]:
    return [finding.text for finding in examine("pascal5i", root) if finding.kind in ("missing", "wrong")]


def test_annotations_of_sbd_become_masks(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 21, (33, 47)).astype(np.uint8)
    write_sbd_mat(tmp_path / "a.mat", labels)
    convert_mask(tmp_path / "a.mat", tmp_path / "png" / "a.png")
    assert np.array_equal(np.array(Image.open(tmp_path / "png" / "a.png")), labels)
    (tmp_path / "b.mat").write_bytes(b"nothing")
    write_sbd_mat(tmp_path / "c.mat", labels + 1)
    for name, message in (("b", "is no annotation of SBD"), ("c", "holds other values than the classes 0 to 20")):
        with pytest.raises(ValueError, match=message):
            convert_mask(tmp_path / f"{name}.mat", tmp_path / "png" / f"{name}.png")
    assert [path.name for path in (tmp_path / "png").iterdir()] == ["a.png"]


def test_prepare_goes_on_and_gives_the_same_data(pascal_tree: PascalTree, tmp_path: Path) -> None:
    raw = write_pascal(tmp_path, with_images=False, prepared=False)
    with pytest.raises(FileNotFoundError, match="30 of 40 images have no mask"):
        Pascal5i(raw.root, "train")
    for name in [name for name in raw.sbd_train_noval if name not in raw.voc_train][:4]:  # a run that was stopped
        convert_mask(raw.root / "sbd" / "cls" / f"{name}.mat", raw.base / "SegmentationClassAug" / f"{name}.png")
    seen: list[int] = []

    def steps(name: str):
        assert name == "masks of SBD"
        return lambda rows: (seen.append(row) or row for row in rows)

    first, _ = prepare_pascal(raw.root, steps=steps, workers=2)
    assert len(seen) == 26
    assert first == "26 annotations of SBD made masks; 10 images had one"  # 4, and 6 of VOC's
    assert Pascal5i(raw.root, "train").fingerprint == Pascal5i(pascal_tree.root, "train").fingerprint
    assert prepare_pascal(raw.root, steps=steps)[0].startswith("0 annotations of SBD made masks; 36")


@pytest.mark.parametrize("place", ["benchmark_RELEASE/dataset", "sbd/benchmark_RELEASE/dataset"])
def test_sbd_is_read_as_its_own_archive_unpacks(raw_tree: PascalTree, copy_of, place: str) -> None:
    root = copy_of(raw_tree).root
    (root / "sbd").rename(root / "unpacked")
    shutil.copytree(root / "unpacked", root / place)
    (root / place / "train_noval.txt").rename(root / "train_noval.txt")  # it is not in the archive
    assert prepare_pascal(root)[0].startswith("15 annotations of SBD made masks; 4 images had one")
    dataset = Pascal5i(root, "train")
    for row, name in enumerate(dataset.ids):
        assert np.array_equal(dataset.read_labels(row), raw_tree.labels[name])


def test_what_prepare_cannot_do_without(raw_tree: PascalTree, copy_of, tmp_path: Path, monkeypatch) -> None:
    root = copy_of(raw_tree).root
    shutil.rmtree(root / "sbd" / "cls")
    with pytest.raises(FileNotFoundError, match=r"15 of 20 images have no mask, .*cls by: .*--download"):
        prepare_pascal(root)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dpnet-lite\[benchmarks\]'"):
        prepare_pascal(tmp_path / "new", download=True)
    assert not (tmp_path / "new").exists()  # asked for before any download


def test_no_mask_of_sbd_takes_the_place_of_vocs(raw_tree: PascalTree, copy_of) -> None:
    """SBD annotates images of VOC's train and val too; their masks have no border, so they are others."""
    raw = copy_of(raw_tree)
    in_both = next(name for name in raw.voc_train if name in raw.sbd_train_noval)
    assert (raw.root / "sbd" / "cls" / f"{raw.val_ids[0]}.mat").is_file()
    for name in (in_both, raw.val_ids[0]):
        own = raw.base / "SegmentationClass" / f"{name}.png"
        content = own.read_bytes()
        own.unlink()
        with pytest.raises(FileNotFoundError, match=rf"^1 of 20 images have no mask, .*{name}: unpack its"):
            prepare_pascal(raw.root)
        with pytest.raises(FileNotFoundError, match=f"such as that of {name}: unpack its trainval archive again"):
            Pascal5i(raw.root, "val" if name in raw.val_ids else "train")
        (text,) = [text for text in amiss(raw.root) if "listed images have no mask" in text]
        assert f"{name}: unpack its trainval archive" in text
        own.write_bytes(content)
    made = {path.stem for path in (raw.base / "SegmentationClassAug").iterdir()}
    assert made == set(raw.sbd_train_noval) - set(raw.voc_train)
    assert prepare_pascal(raw.root)[0].startswith("0 annotations of SBD made masks; 19")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The address at which the files of tmp_path/served are served."""
    (tmp_path / "served").mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def archives(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PascalTree:
    """Archives of a made-up data set in the structure of the real ones, at the places torchvision takes them from."""
    source = write_pascal(tmp_path / "source", n_train=20, n_val=20, prepared=False)
    for name in ("img", "inst"):
        (source.root / "sbd" / name).mkdir()
    served = tmp_path / "served"
    with tarfile.open(served / "voc.tar", "w") as archive:
        archive.add(source.root / "VOCdevkit", "VOCdevkit")
    noval = Path(shutil.move(source.root / "sbd" / "train_noval.txt", served))
    with tarfile.open(served / "sbd.tgz", "w:gz") as archive:
        archive.add(source.root / "sbd", "benchmark_RELEASE/dataset")
    md5 = {path.name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() for path in served.iterdir()}
    voc_archive = {"url": f"{server}/voc.tar", "md5": md5["voc.tar"]}
    monkeypatch.setitem(voc.DATASET_YEAR_DICT, "2012", {**voc.DATASET_YEAR_DICT["2012"], **voc_archive})
    monkeypatch.setattr(SBDataset, "url", f"{server}/sbd.tgz")
    monkeypatch.setattr(SBDataset, "md5", md5["sbd.tgz"])
    monkeypatch.setattr(SBDataset, "voc_train_url", f"{server}/{noval.name}")
    monkeypatch.setattr(SBDataset, "voc_split_md5", md5[noval.name])
    return source


def test_download_gives_a_copy_that_torchvision_reads_too_and_goes_on(archives: PascalTree, tmp_path: Path) -> None:
    root = tmp_path / "fetched"
    text = "\n".join(prepare_pascal(root, download=True))
    assert "VOC2012 unpacked" in text and "15 annotations of SBD made masks" in text and not amiss(root)
    assert len(VOCSegmentation(root, image_set="val")) == 20
    assert len(SBDataset(root / "sbd", "train_noval", "segmentation")) == len(archives.sbd_train_noval)
    for split in ("train", "val"):
        dataset = Pascal5i(root, split)
        for row, name in enumerate(dataset.ids):
            assert np.array_equal(dataset.read_labels(row), archives.labels[name])
    assert sorted(path.name for path in root.iterdir()) == ["VOCdevkit", "VOCtrainval_11-May-2012.tar", "sbd"]
    again = "\n".join(prepare_pascal(root, download=True))
    assert "VOC2012 is there" in again and "SBD is there" in again
    # as if stopped while VOC was unpacked, and SBD between two moves
    sbd, base = root / "sbd", root / "VOCdevkit" / "VOC2012"
    shutil.rmtree(base / "SegmentationClassAug")
    (base / "JPEGImages" / f"{archives.val_ids[-1]}.jpg").unlink()
    (root / "sbd.unpacking" / "benchmark_RELEASE").mkdir(parents=True)
    (root / "sbd.unpacking" / "train.txt").write_text("half")
    shutil.move(sbd / "cls", root / "sbd.unpacking" / "cls")
    prepare_pascal(root, download=True)
    assert not amiss(root) and not (root / "sbd.unpacking").exists()
    names = ["benchmark.tgz", "cls", "img", "inst", "train.txt", "val.txt", "train_noval.txt"]
    assert {path.name for path in sbd.iterdir()} == set(names)


def test_a_stop_between_any_two_moves_is_gone_on_with(archives: PascalTree, tmp_path: Path, monkeypatch) -> None:
    """cls tells that SBD is whole, so it must come last."""
    root, move, moved = tmp_path / "fetched", os.replace, list[str]()

    def stop(source: Path, target: Path) -> None:
        if Path(target).parent == root / "sbd":
            if len(moved) == 2:
                raise KeyboardInterrupt
            moved.append(Path(target).name)
        move(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("dpnet_lite.published.pascal_prepare.os.replace", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare_pascal(root, download=True)
    assert len(moved) == 2 and not (root / "sbd" / "cls").exists()
    prepare_pascal(root, download=True)
    assert {path.name for path in (root / "sbd").iterdir()} > {"cls", "img", "inst", "train.txt", "val.txt"}


def test_sbd_is_not_fetched_where_all_masks_are_there(pascal_tree: PascalTree, copy_of, monkeypatch) -> None:
    monkeypatch.setattr(SBDataset, "url", "file:///nowhere/gone.tgz")  # fetching it would fail
    text = "\n".join(prepare_pascal(copy_of(pascal_tree).root, download=True))
    assert "SBD is there" in text and "0 annotations of SBD made masks; 0 images had one" in text


def test_download_says_what_is_in_the_way(archives: PascalTree, tmp_path: Path, monkeypatch) -> None:
    other = write_pascal(tmp_path / "other", "common", n_train=20, n_val=20, with_images=False)
    with pytest.raises(ValueError, match="holds a part of another layout; download into an empty folder"):
        prepare_pascal(other.root, download=True)
    monkeypatch.setattr(SBDataset, "md5", "0" * 32)
    with pytest.raises(ConnectionError, match=r"^SBD could not be fetched \(File not found or corrupted.*by hand$"):
        prepare_pascal(tmp_path / "fetched", download=True)
    (tmp_path / "fetched" / "sbd" / "train_noval.txt").unlink()
    monkeypatch.setattr(SBDataset, "voc_train_url", SBDataset.voc_train_url + ".gone")
    with pytest.raises(ConnectionError, match=r"^train_noval\.txt \(PFENet's lists.*put the file into .*sbd by hand$"):
        prepare_pascal(tmp_path / "fetched", download=True)
