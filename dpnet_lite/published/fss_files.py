"""What is there of FSS-1000: classes, ten images and masks of each, lists."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from dpnet_lite.datasets.images import read_image
from dpnet_lite.published.findings import Finding
from dpnet_lite.published.fss import (
    IMAGES_PER_CLASS,
    LIST_NAMES,
    SPLIT_SIZES,
    class_folder,
    list_path,
    read_class_list,
)
from dpnet_lite.published.mask_index import Progress

MOST_NAMED = 5  # faulty files that are named one by one


def check_fss(
    root: str | Path, lists: str | Path | None = None, *, deep: bool = False, progress: Progress = iter
) -> list[Finding]:
    """Compare a copy with the official layout; of every file the header is read, not the pixels.

    Args:
        root: the folder with the class folders, or the one with fewshot_data/.
        lists: the folder of the class lists; `root` if None.
        deep: decode every image and mask.
        progress: wraps the loop over the classes of a split.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        return [Finding("missing", f"{root} is not a folder; unpack FSS-1000 there")]
    folder = root if lists is None else Path(lists).expanduser()
    findings: list[Finding] = []
    owner: dict[str, str] = {}
    for split in LIST_NAMES:
        try:
            names = read_class_list(folder, split)
        except FileNotFoundError as error:
            findings.append(Finding("missing", str(error)))
            continue
        except ValueError as error:
            findings.append(Finding("wrong", str(error)))
            continue
        findings += _check_list(list_path(folder, split), split, names, owner)
        findings += _check_classes(root, split, names, deep, progress)
        owner.update(dict.fromkeys(names, split))
    return findings


def _check_list(path: Path, split: str, names: tuple[str, ...], owner: dict[str, str]) -> list[Finding]:
    findings = [Finding("found", f"{path.name}: {len(names)} classes of {split}")]
    if len(names) != SPLIT_SIZES[split]:
        text = f"{path} names {len(names)} classes, but the split has {SPLIT_SIZES[split]}: hashes of lists will differ"
        findings.append(Finding("note", text))
    shared = [name for name in names if name in owner]
    if shared:
        text = f"{path} names {shared[0]!r}, and so does the list of {owner[shared[0]]}; get the lists again"
        findings.append(Finding("wrong", text))
    return findings


def _check_classes(root: Path, split: str, names: tuple[str, ...], deep: bool, progress: Progress) -> list[Finding]:
    try:
        folder = class_folder(root, names)
    except FileNotFoundError as error:
        return [Finding("missing", str(error))]
    faults = [fault for row in progress(range(len(names))) for fault in _class_faults(folder / names[row], deep)]
    if not faults:
        text = f"{split}: {IMAGES_PER_CLASS} images with masks in each of {len(names)} classes"
        return [Finding("found", f"{text}, all can be read" if deep else text)]
    findings = faults[:MOST_NAMED]
    if len(faults) > MOST_NAMED:
        text = f"{split}: {len(faults) - MOST_NAMED} more files or classes like these; unpack FSS-1000 again"
        findings.append(Finding("wrong", text))
    return findings


def _class_faults(folder: Path, deep: bool) -> list[Finding]:
    faults = []
    images = {path.stem for path in folder.glob("*.jpg") if not path.name.startswith(".")}  # "._1.jpg" is macOS's
    expected = {str(number) for number in range(1, IMAGES_PER_CLASS + 1)}
    if images - expected:
        path = folder / f"{min(images - expected)}.jpg"
        faults.append(Finding("wrong", f"{path} is not one of the images 1 to {IMAGES_PER_CLASS}; remove it"))
    for stem in sorted(expected, key=int):
        pair = [folder / f"{stem}.jpg", folder / f"{stem}.png"]
        absent = [path for path in pair if not path.is_file()]
        if absent:
            faults.append(Finding("missing", f"{absent[0]}; unpack FSS-1000 again"))
            continue
        sizes = [_size(path) for path in pair]
        unreadable = [path for path, size in zip(pair, sizes, strict=True) if size is None]
        if unreadable:
            faults.append(Finding("wrong", f"{unreadable[0]} is no image; unpack FSS-1000 again"))
        elif sizes[0] != sizes[1]:
            text = f"{pair[1]} differs in size from its image ({sizes[1]}, {sizes[0]} pixels); unpack FSS-1000 again"
            faults.append(Finding("wrong", text))
        elif deep:
            faults += [Finding("wrong", fault) for path in pair if (fault := _decoding_fault(path)) is not None]
    return faults


def _decoding_fault(path: Path) -> str | None:
    """What is wrong with the pixels of a file, image or mask; None where they can be read."""
    try:
        read_image(path)
    except ValueError as error:
        return str(error)
    return None


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height by the file's header; None where it has none."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError):
        return None
