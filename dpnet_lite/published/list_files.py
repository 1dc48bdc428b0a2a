"""Lists of images in the formats of PFENet and of HSNet.

PFENet's files hold one image a line: an id ("2007_000032"), or the paths of the image and of its mask
("JPEGImages/2007_000032.jpg SegmentationClassAug/2007_000032.png"; the mask's folder is not looked at). HSNet's hold
one (image, class) pair a line, "2007_000032__01", whose class is counted from 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

_N_HSNET_FOLDS = 4
_N_CLASSES = 20
_PAIR = re.compile(r"(\S+)__(\d+)")
_PFENET_NAMES = {  # the second of train is PFENet's own, beside its val.txt
    "train": ("train_ids.txt", "voc_sbd_merge_noduplicate.txt", "train.txt"),
    "val": ("val_ids.txt", "val.txt"),
}
_HSNET_FOLDERS = {"train": "trn", "val": "val"}


class ClassPair(NamedTuple):
    """One line of a list of HSNet's: an image, and a class (index from 0) to segment in it."""

    id: str
    class_index: int


_FaultOf = Callable[[ClassPair], str | None]


def read_pfenet_list(path: str | Path) -> tuple[str, ...]:
    """Ids in the order of the file; an id that the file repeats comes twice.

    Raises FileNotFoundError: no such file; ValueError: a line is neither an id nor the paths of an image and its mask,
    or the two differ in their name.
    """
    ids = []
    for number, line in numbered_lines(path):
        words = line.split()
        stems = [PureWindowsPath(word).stem for word in words]
        if len(words) > 2 or "__" in line:
            raise ValueError(f'{path} line {number} is {line!r}; write "ID", or "JPEGImages/ID.jpg MASKS/ID.png"')
        if stems[0] != stems[-1]:
            raise ValueError(f"{path} line {number} names image {stems[0]} and mask {stems[1]}; both must be one id")
        ids.append(stems[0])
    return tuple(ids)


def read_hsnet_list(path: str | Path, fault_of: _FaultOf = lambda pair: None) -> tuple[ClassPair, ...]:
    """Pairs in the order of the file, which HSNet's way of drawing episodes follows.

    Raises FileNotFoundError: no such file; ValueError: a line is no "ID__CC" with CC from 1 to 20, or comes twice, or
    `fault_of` says what is wrong with it.
    """
    pairs = dict[ClassPair, None]()
    for number, line in numbered_lines(path):
        match = _PAIR.fullmatch(line)
        if match is None or not 1 <= int(match[2]) <= _N_CLASSES:
            raise ValueError(
                f'{path} line {number} is {line!r}; write "ID__CC" with a class CC from 01 to {_N_CLASSES}'
            )
        pair = ClassPair(match[1], int(match[2]) - 1)
        if fault := "it stands above, too; remove one" if pair in pairs else fault_of(pair):
            raise ValueError(f"{path} line {number} is {line!r}, but {fault}")
        pairs[pair] = None
    return tuple(pairs)


def read_hsnet_fold(
    folder: str | Path, split: str, fold: int, fault_of: _FaultOf = lambda pair: None
) -> tuple[ClassPair, ...]:
    """The pairs that HSNet uses in a fold, in its order: for "val" of the fold, for "train" of all other folds.

    `folder` holds trn/ and val/, each with fold0.txt to fold3.txt; `fault_of` as in `read_hsnet_list`.
    """
    if not 0 <= fold < _N_HSNET_FOLDS:
        raise ValueError(f"fold is {fold}; HSNet's lists have folds 0 to {_N_HSNET_FOLDS - 1}")
    folds = [fold] if split == "val" else [other for other in range(_N_HSNET_FOLDS) if other != fold]
    paths = [Path(folder) / _HSNET_FOLDERS[split] / f"fold{number}.txt" for number in folds]
    return tuple(pair for path in paths for pair in read_hsnet_list(path, fault_of))


def read_ids(lists: str | Path, split: str) -> tuple[str, ...]:
    """Ids of a split from lists of either format, sorted and without repetition.

    Args:
        lists: a file of the split; or a folder with train_ids.txt and val_ids.txt, with PFENet's own
            voc_sbd_merge_noduplicate.txt and val.txt, with train.txt and val.txt, or with trn/fold0.txt to fold3.txt
            and val/fold0.txt to fold3.txt (all four folds together make the split). A file has no split of its own:
            it is taken for whichever is asked for.

    Raises FileNotFoundError: nothing of that name, or a folder without lists; ValueError: a line that no format has.
    """
    lists = Path(lists).expanduser()
    paths = [lists]
    if lists.is_dir():
        single = [lists / name for name in _PFENET_NAMES[split] if (lists / name).is_file()][:1]
        folds = [lists / _HSNET_FOLDERS[split] / f"fold{number}.txt" for number in range(_N_HSNET_FOLDS)]
        paths = single or (folds if folds[0].parent.is_dir() else [])
        if not paths:
            names = " or ".join(_PFENET_NAMES[split])
            raise FileNotFoundError(
                f"{lists} holds no list of {split}; put {names} there, or HSNet's folder {folds[0].parent.name}/"
            )
    return tuple(sorted({name for path in paths for name in _ids_of_file(path)}))


def _ids_of_file(path: Path) -> Sequence[str]:
    """Ids of a file of either format; the first line tells which."""
    first = next((line for _, line in numbered_lines(path)), "")
    if _PAIR.fullmatch(first):
        return [pair.id for pair in read_hsnet_list(path)]
    return read_pfenet_list(path)


def numbered_lines(path: str | Path) -> list[tuple[int, str]]:
    """Numbered lines of a text file without white space around them; empty ones do not count.

    Raises FileNotFoundError: no such file; ValueError: it is no text, or empty.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no list {path}; check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # damaged files are often full of zeros
        raise ValueError(f"{path} is not a text file; get the list again")
    numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
    lines = [(number, line) for number, line in numbered if line]
    if not lines:
        raise ValueError(f"{path} is empty; it needs one name a line")
    return lines
