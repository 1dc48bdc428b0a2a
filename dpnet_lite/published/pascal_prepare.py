"""Getting PASCAL-5i: VOC2012 and SBD by torchvision's downloads, and SBD's masks as PNG.

The servers of VOC and SBD could not be reached where this was written. The downloads were tested with made-up archives
of the same structure; that the addresses still answer was not checked. torchvision's code notes that the one of
train_noval.txt failed in June 2024.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from dpnet_lite.datasets.images import png
from dpnet_lite.features import Progress
from dpnet_lite.published.extras import import_extra
from dpnet_lite.published.list_files import read_pfenet_list
from dpnet_lite.published.pascal import Pascal5i, PascalFolders
from dpnet_lite.published.worker_pool import run_jobs
from dpnet_lite.storage.files import write_atomically


def prepare_pascal(
    root: str | Path, *, download: bool = False, workers: int = 1, steps: Callable[[str], Progress] = lambda name: iter
) -> list[str]:
    """Make a copy complete in torchvision's layout; says what was done, in a few lines.

    With `download`, torchvision.datasets fetches, checks and unpacks VOC2012's trainval archive and SBD's where they
    are not there. Then every annotation of SBD for an image without a mask becomes a PNG in SegmentationClassAug, so
    that training needs no scipy: also those that PASCAL-5i does not use, since HSNet's lists name them. VOC's own
    masks stay where they are, and no mask of SBD takes the place of one of VOC's that is absent. What is done is not
    done again when this is called again; a download that was stopped begins anew.

    Args:
        workers: processes that convert masks, 1 or more.
        steps: gives the wrapper of a loop for the name of a step.

    Raises ConnectionError: a server cannot be reached, or sends something else; ModuleNotFoundError: scipy is not
    installed; FileNotFoundError: lists, masks of VOC or annotations of SBD are absent after all this; ValueError: a
    file is broken, or `download` into a folder that holds a part of another layout.
    """
    root = Path(root).expanduser()
    lines: list[str] = []
    if download:
        _scipy()  # before hours of downloads
        root.mkdir(parents=True, exist_ok=True)
        lines = [_get_voc(root), _get_sbd(root)]
    folders = PascalFolders(root)
    annotations = folders.sbd / "cls"
    files = annotations.iterdir() if annotations.is_dir() else ()  # `glob` finds nothing where it may not look
    present = sorted(path.stem for path in files if path.suffix == ".mat")
    for split in ("train", "val"):
        folders.read_split(split)  # fails here where a list is absent
    todo = [name for name in present if name not in folders.mask_names and name not in folders.voc_ids]
    if todo:
        _scipy()
        sources = [annotations / f"{name}.mat" for name in todo]
        targets = [folders.made_masks / f"{name}.png" for name in todo]
        run_jobs(convert_mask, sources, targets, workers=workers, progress=steps("masks of SBD"))
        folders = PascalFolders(root)  # with the new masks
    for split in ("train", "val"):
        Pascal5i(root, split)  # fails here where a mask is
    had = sum(name in folders.mask_names for name in present) - len(todo)
    lines.append(f"{len(todo):,} annotations of SBD made masks; {had:,} images had one")
    return [*lines, f"{len(folders.mask_names):,} masks in {folders.base}"]


def convert_mask(source: Path, target: Path) -> None:
    """Write the labels of one annotation of SBD (.mat) as PNG, whole or not at all.

    The labels are uint8 [H, W]: 0 background, 1 to 20 a class; SBD marks nothing as ignored.

    Raises ValueError: the file is no such annotation.
    """
    try:
        labels = np.asarray(_scipy().loadmat(source, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # broken files make scipy raise anything from TypeError to zlib.error
        reason = type(error).__name__
        raise ValueError(f"{source} is no annotation of SBD ({reason}); unpack benchmark.tgz again") from None
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max(initial=0) > 20:
        raise ValueError(f"{source} holds other values than the classes 0 to 20; unpack benchmark.tgz again")
    write_atomically(target, png(labels), option="--root")


def _scipy() -> ModuleType:
    return import_extra("scipy.io", "reads SBD's .mat files")


def _get_voc(root: Path) -> str:
    """Fetch and unpack VOC2012's trainval archive unless all of it that is used is there."""
    folders = PascalFolders(root)
    if _has_voc(folders):
        return f"VOC2012 is there, in {folders.base}"
    if folders.mask_names and folders.base != root / "VOCdevkit" / "VOC2012":
        raise ValueError(f"{folders.base} holds a part of another layout; download into an empty folder")
    from torchvision.datasets import VOCSegmentation

    _fetch("VOC2012", root, lambda: VOCSegmentation(root, year="2012", image_set="train", download=True))
    if not _has_voc(PascalFolders(root)):
        raise ValueError(f"the archive in {root} lacks images, masks or lists of VOC2012; delete it and run this again")
    return f"VOC2012 unpacked in {root}; the archive there may be deleted"


def _has_voc(folders: PascalFolders) -> bool:
    """Whether all images that VOC's two lists name are there with their masks."""
    paths = [folders.list_path(name) for name in ("train.txt", "val.txt")]
    names = [name for path in paths if path is not None for name in read_pfenet_list(path)]
    is_there = (name in folders.mask_names and folders.image_path(name).is_file() for name in names)
    return None not in paths and all(is_there)


def _get_sbd(root: Path) -> str:
    """Fetch and unpack SBD unless its masks or annotations are there; train_noval.txt comes first, since it is small.

    It is unpacked beside its place, and cls, by which this function knows that it is done, moves last.
    """
    from torchvision.datasets import SBDataset
    from torchvision.datasets.utils import download_url

    folder, unpacking = root / "sbd", root / "sbd.unpacking"
    name = SBDataset.voc_split_filename
    if PascalFolders(root).list_path(name) is None:
        hint = f"{name} (PFENet's lists/pascal/sbd_data.txt names the same images)"
        _fetch(hint, folder, lambda: download_url(SBDataset.voc_train_url, folder, name, SBDataset.voc_split_md5))
    folders = PascalFolders(root)
    if (folders.sbd / "cls").is_dir() or all(image in folders.mask_names for image in folders.read_split("train")):
        return f"SBD is there, in {folders.sbd if folders.sbd.is_dir() else folders.made_masks}"
    unpacking.mkdir(exist_ok=True)
    if (folder / SBDataset.filename).is_file():  # moved by a run that was stopped just then, or put there by hand
        os.replace(folder / SBDataset.filename, unpacking / SBDataset.filename)
    for path in unpacking.iterdir():  # leftovers of a run that was stopped, over which torchvision would stumble
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != SBDataset.filename:
            path.unlink()
    _fetch("SBD", folder, lambda: SBDataset(unpacking, image_set="train", mode="segmentation", download=True))
    for part in ("img", "inst", "train.txt", "val.txt", SBDataset.filename, "cls"):
        if not (folder / part).exists():
            os.replace(unpacking / part, folder / part)
    shutil.rmtree(unpacking)
    return f"SBD unpacked in {folder}; the archive there may be deleted"


def _fetch(what: str, folder: Path, download: Callable[[], object]) -> None:
    """Call torchvision's download; ConnectionError with the remedy where it fails."""
    folder.mkdir(exist_ok=True)
    try:
        download()
    except (OSError, RuntimeError) as error:  # RuntimeError: the checksum is wrong
        reason = " ".join(str(error).split())
        raise ConnectionError(f"{what} could not be fetched ({reason}); put the file into {folder} by hand") from None
