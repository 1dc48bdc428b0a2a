"""Writing list files as PFENet and HSNet have them, reading frozen lists, and the rule behind HSNet's lists."""

from __future__ import annotations

import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from dpnet_lite.episodes import EpisodeList
from dpnet_lite.published.list_files import ClassPair


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_hsnet_list(path: Path, pairs: Iterable[ClassPair]) -> Path:
    return write_lines(path, [f"{name}__{class_index + 1:02d}" for name, class_index in pairs])


def read_list(path: Path) -> EpisodeList:
    """A list that `write_list` wrote."""
    return EpisodeList.from_json(lzma.decompress(path.read_bytes()).decode())


class HsnetClasses(NamedTuple):
    """Class indices (from 0, ascending) of a mask under OSLSM's rule."""

    kept: tuple[int, ...]  # with ties as we resolve them
    undecided: tuple[int, ...]  # kept or not, depending on how ties are resolved


def hsnet_classes(labels: Tensor) -> HsnetClasses:
    """The classes of a mask, uint8 [H, W], that OSLSM's rule keeps, from which HSNet's PASCAL lists stem.

    The rule [precedent: OSLSM, BMVC 2017, code]: shrink the mask to 1/32 by taking the nearest pixel, keep the class
    if more than 2 of these show it. "Nearest" is a tie between the pixels 32 i and 32 i + 1, in rows and in columns,
    which rounding errors of the library decided then. We always take 32 i + 1.

    On the real masks HSNet's lists equal this rule exactly for all classes that ties leave decided: 2,091 of 2,148
    (image, class) pairs of val (VOC2012 val) and 15,296 of 15,555 of trn (the other 10,582 masks of
    SegmentationClassAug, not PASCAL-5i's 5,953). With our way of resolving ties, 8 of 1,868 listed pairs of val differ
    (3 more, 5 fewer) and 102 of 13,680 of trn (52 more, 50 fewer). PFENet's rule of 2,048 px differs in 79 and 492.
    """
    mask = labels.numpy()
    blocks = np.zeros((4, -(-mask.shape[0] // 32), -(-mask.shape[1] // 32)), np.uint8)  # 4 candidates for every pixel
    for block, (row, column) in zip(blocks, np.ndindex(2, 2), strict=True):
        pixels = mask[row::32, column::32]
        block[: pixels.shape[0], : pixels.shape[1]] = pixels
    kept, undecided = [], []
    for value in np.unique(blocks[(blocks > 0) & (blocks < 255)]).tolist():
        shows = blocks == value
        kept += [value - 1] if shows[3].sum() > 2 else []
        undecided += [value - 1] if shows.all(axis=0).sum() <= 2 < shows.any(axis=0).sum() else []
    return HsnetClasses(tuple(kept), tuple(undecided))
