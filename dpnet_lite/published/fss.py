"""FSS-1000: 1,000 classes of ten images each, split by class into 520 for training, 240 and 240.

Layout (the classes may also lie in ROOT/fewshot_data, as the official archive has them):

    ROOT/CLASS/1.jpg ... 10.jpg     ROOT/CLASS/1.png ... 10.png     trn.txt, val.txt, test.txt in ROOT or LISTS

A list names one class per line. The official repository fixes the 240 test classes alone (fss_test_set.txt, which is
read where there is no test.txt); trn.txt and val.txt are HSNet's [precedent], and its test.txt has the official
classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dpnet_lite.datasets.images import opened
from dpnet_lite.published.list_files import numbered_lines
from dpnet_lite.published.mask_index import MaskedDataset, files_sha256
from dpnet_lite.storage.caches import default_cache

SPLIT_SIZES = {"train": 520, "val": 240, "test": 240}
IMAGES_PER_CLASS = 10
_LIST_NAMES = {"train": ("trn.txt", "train.txt"), "val": ("val.txt",), "test": ("test.txt", "fss_test_set.txt")}
THRESHOLD = 128  # grey values from here on are the object [precedent: HSNet]


class Fss1000(MaskedDataset):
    """One split of FSS-1000: its classes in alphabetical order, and of each the images 1, 10, 2, 3 ... [as HSNet].

    There are more classes than 8-bit labels hold, and an image is labelled for one class alone. So labels are 0 and
    1, and `label_value` says whether that 1 is the class asked for. Masks are read when an image or `index` is asked
    for, not before: `class_areas` is 1 where the image is of the class and 0 elsewhere, an indicator and no area.
    Episodes are then drawn from all images of a class, and lists are the same for everyone with the same names.

    Args:
        root: the folder with the class folders, or the one with fewshot_data/.
        split: "train", "val" or "test".
        lists: the folder of the class lists; `root` if None.
        cache_folder: for the counts of `index`; the user's cache if None.

    The `ids` are "CLASS/NUMBER". `index` has one column: the pixels of the image's own class.

    Raises FileNotFoundError: a list, a class or a mask is missing; ValueError: no such split, or a list that is empty
    or names a class twice.
    """

    _n_values = 1

    def __init__(
        self, root: str | Path, split: str, *, lists: str | Path | None = None, cache_folder: str | Path | None = None
    ) -> None:
        root = Path(root).expanduser()
        self.split, self.name = split, f"fss1000-{split}"
        self._cache_folder = default_cache() if cache_folder is None else Path(cache_folder)
        _, self.class_names = read_class_list(root if lists is None else Path(lists).expanduser(), split)
        self._folder = class_folder(root, self.class_names)
        stems = [_paired_stems(self._folder / name) for name in self.class_names]
        self.ids = tuple(f"{name}/{stem}" for name, own in zip(self.class_names, stems, strict=True) for stem in own)
        self._classes = np.repeat(np.arange(len(stems)), [len(own) for own in stems])  # int64 [n_images]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over name, split, class names and image ids; neither pixels nor paths count."""
        text = "\n".join(("fss1000", self.split, *self.class_names, *self.ids))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, n_classes]: 1 where the image is of the class, else 0. See the class's text."""
        return (self._classes[:, None] == np.arange(len(self.class_names))).astype(np.float32)

    @cached_property
    def class_pixels(self) -> np.ndarray:
        """int32 [n_images, n_classes]: pixels of the class at the mask's own size; reads every mask once."""
        pixels: np.ndarray = self.index.pixels * self.class_areas.astype(np.int32)  # [n_images, 1] of its own class
        return pixels

    def _content(self) -> str:
        return files_sha256([self._mask_path(row) for row in range(len(self))])

    def label_value(self, index: int, class_index: int) -> int:
        """1 where image `index` is of the class, else -1: the image cannot show it."""
        return 1 if self._classes[index] == class_index else -1

    def image_path(self, index: int) -> Path:
        """CLASS/NUMBER.jpg."""
        return self._mask_path(index).with_suffix(".jpg")

    def read_labels(self, index: int) -> Tensor:
        """Labels of an image, as by `read_fss_mask`. Masks may be grey or in colour, edges soft."""
        return read_fss_mask(self._mask_path(index))

    def _mask_path(self, index: int) -> Path:
        return self._folder / f"{self.ids[index]}.png"


def read_fss_mask(path: Path) -> Tensor:
    """Labels, uint8 [H, W]: 1 on the object, else 0. Raises ValueError: the file is broken, or no mask of 8 bits."""
    with opened(path) as mask:
        if mask.mode.startswith("I") or (mask.mode.endswith("A") and mask.getchannel("A").getextrema() != (255, 255)):
            raise ValueError("16 bits, or transparent, where the object is told by 8-bit grey")
        grey = np.array(mask.convert("L"))
    return torch.from_numpy((grey >= THRESHOLD).astype(np.uint8))


def read_class_list(folder: Path, split: str) -> tuple[Path, tuple[str, ...]]:
    """The file of a split's classes, and their names, ascending.

    Raises ValueError: no such split, an empty list, a name twice or with a path; FileNotFoundError: no list of it.
    """
    if split not in _LIST_NAMES:
        raise ValueError(f"split is {split!r}; choose one of {', '.join(_LIST_NAMES)}")
    path = next((folder / name for name in _LIST_NAMES[split] if (folder / name).is_file()), None)
    if path is None:
        wanted = " or ".join(_LIST_NAMES[split])
        raise FileNotFoundError(
            f"{folder} has no {wanted}, the classes of the split; take HSNet's lists, or name a folder"
        )
    names = sorted(name for _, name in numbered_lines(path))
    twice = [name for name, following in pairwise(names) if name == following]
    if twice:
        raise ValueError(f"{path} names {twice[0]!r} twice; name each class once")
    if odd := [name for name in names if name == ".." or Path(name).name != name]:  # "mug/" would be "mug" once more
        raise ValueError(f"{path} names {odd[0]!r}, which is no name of a folder; write the class alone")
    return path, tuple(names)


def claim_classes(path: Path, names: Sequence[str], split: str, owner: dict[str, str]) -> None:
    """Note in `owner` the split of the classes of a list; ValueError where another's list has one of them too."""
    others = [f"{name!r}, and so does the list of {owner[name]}" for name in names if name in owner]
    owner.update(dict.fromkeys(names, split))
    if others:
        raise ValueError(f"{path} names {others[0]}; get the lists again")


def class_folder(root: Path, names: tuple[str, ...]) -> Path:
    """The folder that holds the class folders. Raises FileNotFoundError: some of these classes are missing."""
    folder = root / "fewshot_data" if (root / "fewshot_data").is_dir() else root
    missing = [name for name in names if not (folder / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{folder} lacks {len(missing)} of {len(names)} classes, first {missing[0]}/; unpack FSS-1000 there"
        )
    return folder


def _paired_stems(folder: Path) -> list[str]:
    """Stems of the images of a class, in the order of their file names as text, as HSNet has them."""
    present = {path.name for path in folder.iterdir()}
    images = sorted(name for name in present if name.endswith(".jpg") and not name.startswith("."))
    unpaired = [name for name in images if f"{Path(name).stem}.png" not in present]
    if odd := [name for name in images if not name.isprintable()]:  # no hash of the names could be made
        raise ValueError(f"{folder} holds {odd[0]!a}, which is no name in plain text; rename it")
    if not images or unpaired:
        problem = f"has no mask of {unpaired[0]}" if unpaired else "has no images (.jpg)"
        raise FileNotFoundError(f"{folder} {problem}; unpack FSS-1000 again")
    return [Path(name).stem for name in images]
