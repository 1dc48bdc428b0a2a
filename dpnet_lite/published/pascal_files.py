"""What is there of a copy of PASCAL-5i, what is missing and what is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from PIL import Image

from dpnet_lite.datasets.images import read_image, read_mask
from dpnet_lite.published.findings import Finding
from dpnet_lite.published.list_files import read_ids
from dpnet_lite.published.mask_index import Progress
from dpnet_lite.published.pascal import PREPARE, VOC_CLASSES, PascalFolders, PascalSplit
from dpnet_lite.published.pascal_facts import PASCAL5I_FACTS, differences, measured_facts

SHOWN = 5  # broken files that are named one by one


def check_pascal(
    root: str | Path, lists: str | Path | None = None, *, deep: bool = False, progress: Progress = iter
) -> list[Finding]:
    """Compare a copy with what PASCAL-5i is: lists, masks (each is decoded), images (their headers) and known numbers.

    Args:
        root: the folder, in a layout of `PascalFolders`.
        lists: ids of one's own instead of VOC's and SBD's lists (see `read_ids`).
        deep: decode the images too.
        progress: wraps the loop over the masks.
    """
    try:
        folders = PascalFolders(root)
    except FileNotFoundError as error:
        return [Finding("missing", str(error))]
    counts = Counter(path.parent.name for path in folders.mask_names.values())
    if not counts:
        return [Finding("missing", f"{folders.base} has no masks; give another root, or run: {PREPARE}")]
    used = ", ".join(f"{count:,} from {name}" for name, count in sorted(counts.items()))
    findings = [Finding("found", f"masks in {folders.base}: {used}")]
    pixels: dict[str, np.ndarray] = {}
    ids_of: dict[str, tuple[str, ...]] = {}
    for split in get_args(PascalSplit):
        try:
            ids = folders.read_split(split) if lists is None else read_ids(lists, split)
        except (FileNotFoundError, ValueError) as error:
            finding = Finding("missing" if isinstance(error, FileNotFoundError) else "wrong", str(error))
            findings += [finding] if finding not in findings else []  # val.txt is needed for both splits
            continue
        ids_of[split] = ids
        split_findings, counted = _check_split(folders, split, ids, deep, progress)
        findings += split_findings
        if counted is not None:
            pixels[split] = counted
    shared = sorted(set(ids_of.get("train", ())) & set(ids_of.get("val", ())))
    if shared:
        text = f"train and val share {len(shared):,} images, first {shared[0]}; give a folder with a list of each"
        findings.append(Finding("wrong", text))
    return findings + (_compare(pixels["train"], pixels["val"]) if len(pixels) == 2 else [])


class _Broken(NamedTuple):
    masks: list[str]
    images: list[str]
    absent_images: list[str]


def _check_split(
    folders: PascalFolders, split: str, ids: tuple[str, ...], deep: bool, progress: Progress
) -> tuple[list[Finding], np.ndarray | None]:
    """Findings on a split, and its counts [n_images, 20]; None where a mask is absent or broken."""
    without = [name for name in ids if name not in folders.mask_names]
    present = [name for name in ids if name in folders.mask_names]
    broken, pixels = _Broken([], [], []), np.zeros((len(present), len(VOC_CLASSES)), np.int32)
    has_images = any(folder.is_dir() for folder in folders.images)
    for row in progress(range(len(present))):
        labels = _read(folders.mask_names[present[row]], broken)
        if labels is None:
            continue
        pixels[row] = np.bincount(labels.ravel(), minlength=256)[1 : len(VOC_CLASSES) + 1]
        if has_images:
            _check_image(folders.image_path(present[row]), labels, deep, broken)
    findings = []
    if without:
        text = f"{split}: {len(without):,} of {len(ids):,} listed images have no mask, first {without[0]}"
        findings.append(Finding("missing", f"{text}; {folders.remedy(without)}, or correct the list"))
    for texts in (broken.masks, broken.images):
        findings += [Finding("wrong", text) for text in texts[:SHOWN]]
        if len(texts) > SHOWN:
            findings.append(
                Finding("wrong", f"{split}: {len(texts) - SHOWN:,} more of this kind; get the folder again")
            )
    if not has_images:
        text = f"{split}: no folder {folders.images[0]} (masks alone do to draw episodes, not to train or score)"
        findings.append(Finding("missing", f"{text}; it comes with VOC2012's trainval archive"))
    elif broken.absent_images:
        text = (
            f"{split}: {len(broken.absent_images):,} of {len(ids):,} images are absent, first {broken.absent_images[0]}"
        )
        findings.append(Finding("missing", f"{text}; they come with VOC2012's trainval archive"))
    is_whole = not without and not broken.masks
    if is_whole:
        seen = deep and has_images and not broken.images and not broken.absent_images
        what = "them and their masks" if seen else "their masks"
        findings.append(Finding("found", f"{split}: {len(ids):,} images listed, all of {what} can be read"))
    return findings, pixels if is_whole else None


def _read(path: Path, broken: _Broken) -> np.ndarray | None:
    try:
        labels = read_mask(path).numpy()
    except ValueError as error:
        broken.masks.append(str(error))
        return None
    values = np.unique(labels)
    unknown = values[(values > len(VOC_CLASSES)) & (values < 255)]
    if len(unknown):
        broken.masks.append(f"{path} holds the value {unknown[0]}, but there are 20 classes; get the file again")
        return None
    return labels


def _check_image(path: Path, labels: np.ndarray, deep: bool, broken: _Broken) -> None:
    if not path.is_file():
        broken.absent_images.append(path.name)
        return
    try:
        width, height = tuple(read_image(path).shape[:0:-1]) if deep else _header_size(path)
    except ValueError as error:
        broken.images.append(str(error))
        return
    if (height, width) != labels.shape:
        size = f"{labels.shape[1]} x {labels.shape[0]}"
        broken.images.append(f"{path} is {width} x {height} pixels, but its mask {size}; get the original image")


def _header_size(path: Path) -> tuple[int, int]:
    """Width and height; of the file the header alone is read."""
    try:
        with Image.open(path) as image:
            return image.size
    except Exception as error:  # broken files make Pillow raise anything from SyntaxError to struct.error
        raise ValueError(f"{path} cannot be read as an image ({type(error).__name__}); get the file again") from error


def _compare(train_pixels: np.ndarray, val_pixels: np.ndarray) -> list[Finding]:
    texts = differences(measured_facts(train_pixels, val_pixels))
    if not texts:
        facts = PASCAL5I_FACTS
        counts = f"{facts.train_images:,} training and {facts.val_images:,} test images"
        return [Finding("found", f"{counts}, and the counts of all folds are those of the published data")]
    return [Finding("note", f"{text}; scores on this copy do not compare with published ones") for text in texts]
