"""Getting PASCAL-5i: the archives of VOC2012 and SBD, and SBD's masks as PNG.

The servers of VOC and SBD could not be reached where this was written. The downloads were tested with made-up archives
of the same structure; that the addresses still answer was not checked. torchvision's code notes that the one of
train_noval.txt failed in June 2024.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from dpnet_lite.published.downloads import OpenBar, byte_bar, fetch_file
from dpnet_lite.published.list_files import read_pfenet_list
from dpnet_lite.published.mask_index import Progress
from dpnet_lite.published.pascal import PREPARE, PascalFolders
from dpnet_lite.published.sbd_masks import convert_masks, require_scipy
from dpnet_lite.published.worker_pool import require_workers


def silent(name: str) -> Progress:
    """A step without a progress bar."""
    return iter


def prepare_pascal(
    root: str | Path,
    *,
    download: bool = False,
    workers: int = 1,
    steps: Callable[[str], Progress] = silent,
    open_bar: OpenBar = byte_bar,
) -> str:
    """Make a copy complete in torchvision's layout; says what was done, in a few lines.

    With `download`, VOC2012's trainval archive and SBD's are fetched where they are not there and unpacked by
    torchvision.datasets, which checks them once more. Then every annotation of SBD for an image without a mask becomes
    a PNG in SegmentationClassAug: also those that PASCAL-5i does not use, since HSNet's lists name them. VOC's own
    masks stay where they are, and no mask of SBD takes the place of one of VOC's that is absent. Whatever was stopped
    goes on when this is called again.

    Args:
        root: the folder.
        download: fetch what is missing.
        workers: processes that convert masks, 1 or more.
        steps: gives the wrapper of a loop for the name of a step.
        open_bar: the progress bar of downloads.

    Raises:
        ConnectionError: a server cannot be reached; what has come so far is kept.
        ModuleNotFoundError: scipy is not installed.
        FileNotFoundError: lists, masks of VOC or annotations of SBD are absent after all this.
        ValueError: a file is broken, `workers` is below 1, or `download` into a folder that holds a part of another
            layout.
    """
    require_workers(workers)
    root = Path(root).expanduser()
    lines: list[str] = []
    if download:
        require_scipy()  # before hours of downloads
        root.mkdir(parents=True, exist_ok=True)
        lines = [*_get_voc(root, open_bar), *_get_sbd(root, open_bar)]
    folders, annotations = PascalFolders(root), root / "sbd" / "cls"
    present = sorted(path.stem for path in annotations.glob("*.mat")) if annotations.is_dir() else []
    wanted = {*folders.read_split("train"), *folders.read_split("val")}  # fails here where a list is absent
    todo = [name for name in present if name not in folders.mask_names and name not in folders.voc_ids]
    if todo:
        convert_masks(todo, annotations, folders.made_masks, workers=workers, progress=steps("masks of SBD"))
        folders = PascalFolders(root)  # with the new masks
    _require_masks(folders, sorted(wanted))
    had = sum(name in folders.mask_names for name in present) - len(todo)
    lines.append(f"{len(todo):,} annotations of SBD made masks; {had:,} images had one")
    return "\n".join([*lines, f"{len(folders.mask_names):,} masks in {folders.base}"])


def _require_masks(folders: PascalFolders, names: list[str]) -> None:
    """FileNotFoundError with the remedy where an image of PASCAL-5i has no mask."""
    lacking = [name for name in names if name not in folders.mask_names]
    if any(name in folders.voc_ids for name in lacking):
        raise FileNotFoundError(f"{len(lacking):,} images have no mask; {folders.remedy(lacking)}")
    if lacking:
        raise FileNotFoundError(
            f"{len(lacking):,} training images have no mask, first {lacking[0]}; put SBD's folder cls in "
            f"{folders.root / 'sbd'}, or run: {PREPARE} --download"
        )


def _get_voc(root: Path, open_bar: OpenBar) -> list[str]:
    """Fetch and unpack VOC2012's trainval archive unless all of it that is used is there."""
    folders = PascalFolders(root)
    if _has_voc(folders):
        return [f"VOC2012 is there, in {folders.base}"]
    if folders.mask_names and folders.base != root / "VOCdevkit" / "VOC2012":
        raise ValueError(f"{folders.base} holds a part of another layout; download into an empty folder")
    from torchvision.datasets import VOCSegmentation
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    archive = DATASET_YEAR_DICT["2012"]
    path = fetch_file(archive["url"], root / archive["filename"], archive["md5"], open_bar=open_bar)
    VOCSegmentation(root, year="2012", image_set="train", download=True)  # finds the archive, checks and unpacks it
    if not _has_voc(PascalFolders(root)):
        raise ValueError(f"{path} lacks images, masks or lists of VOC2012; delete it and run this again")
    return [f"VOC2012 unpacked from {path}, which may be deleted"]


def _has_voc(folders: PascalFolders) -> bool:
    """Whether all images that VOC's two lists name are there with their masks."""
    paths = [folders.list_path(name) for name in ("train.txt", "val.txt")]
    names = [name for path in paths if path is not None for name in read_pfenet_list(path)]
    is_there = (name in folders.mask_names and folders.image_path(name).is_file() for name in names)
    return None not in paths and all(is_there)


def _get_sbd(root: Path, open_bar: OpenBar) -> list[str]:
    """Fetch and unpack SBD unless its masks or annotations are there; train_noval.txt comes first, since it is small.

    It is unpacked beside its place, and cls, by which this function knows that it is done, moves last.
    """
    from torchvision.datasets import SBDataset

    folder, unpacking = root / "sbd", root / "sbd.unpacking"
    lines, folders = [], PascalFolders(root)
    if folders.list_path(SBDataset.voc_split_filename) is None:
        path = folder / SBDataset.voc_split_filename
        try:
            fetch_file(SBDataset.voc_train_url, path, SBDataset.voc_split_md5, open_bar=open_bar)
        except ConnectionError as error:
            raise ConnectionError(f"{error} (PFENet's lists/pascal/sbd_data.txt names the same images)") from None
        lines.append(f"train_noval.txt fetched to {path}")
        folders = PascalFolders(root)
    if (folder / "cls").is_dir() or all(name in folders.mask_names for name in folders.read_split("train")):
        return [*lines, f"SBD is there, in {folder if folder.is_dir() else folders.made_masks}"]
    if (folder / SBDataset.filename).is_file():  # moved by a run that was stopped just then, or put there by hand
        unpacking.mkdir(exist_ok=True)
        os.replace(folder / SBDataset.filename, unpacking / SBDataset.filename)
    archive = fetch_file(SBDataset.url, unpacking / SBDataset.filename, SBDataset.md5, open_bar=open_bar)
    for path in unpacking.iterdir():  # leftovers of a run that was stopped, over which torchvision would stumble
        if path.is_dir():
            shutil.rmtree(path)
        elif path != archive:
            path.unlink()
    SBDataset(unpacking, image_set="train", mode="segmentation", download=True)  # finds the archive, checks, unpacks
    folder.mkdir(exist_ok=True)
    for name in ("img", "inst", "train.txt", "val.txt", archive.name, "cls"):
        if not (folder / name).exists():
            os.replace(unpacking / name, folder / name)
    shutil.rmtree(unpacking)
    return [*lines, f"SBD unpacked from {folder / archive.name}, which may be deleted"]
