"""What the masks of a data set hold, counted once: sizes and the pixels of every class in every image.

Drawing episodes needs these numbers alone. They are kept in a cache file whose name is a hash of the masks'
content, so a changed mask is counted anew and an unchanged data set is not read twice.
"""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from dpnet_lite.datasets.base import IGNORE_LABEL, DatasetDefaults, Sample, class_counts
from dpnet_lite.datasets.images import read_image
from dpnet_lite.features import Progress
from dpnet_lite.storage.caches import read_sealed, write_sealed
from dpnet_lite.storage.files import require_file

_VERSION = 1  # raise it when the meaning of an array changes


@dataclass(frozen=True, eq=False)
class MaskIndex:
    """Counts of n masks, in the order of `ids`."""

    ids: tuple[str, ...]  # names of the images, without folder and extension
    sizes: np.ndarray  # int32 [n, 2], height and width in pixels
    pixels: np.ndarray  # int32 [n, n_classes], pixels of class index c, which is value c + 1 in the masks
    ignored: np.ndarray  # int32 [n], pixels of value 255

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def areas(self) -> np.ndarray:
        """float32 [n, n_classes] in [0, 1]: share of all pixels of the image, ignored ones included."""
        totals = self.sizes.astype(np.float64).prod(axis=1, keepdims=True)  # [n, 1]
        return (self.pixels / totals).astype(np.float32)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of everything that the index holds; the same on every machine."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        for array in (self.sizes, self.pixels, self.ignored):
            digest.update(f"\n{array.shape}\n".encode() + np.ascontiguousarray(array, dtype="<i4").tobytes())
        return digest.hexdigest()


class MaskedDataset(DatasetDefaults, ABC):
    """One split of a benchmark: images and masks in files, the masks counted once."""

    name: str  # such as "pascal5i-train"
    split: str  # such as "train"
    class_names: tuple[str, ...]  # in the order of their values in the labels, which begin with 1
    ids: tuple[str, ...]  # names of the images, in order
    _cache_folder: Path | None = None  # of the counts; None keeps none
    _progress: Progress = staticmethod(iter)  # wraps the loop that counts
    _n_values: int | None = None  # of classes in the labels; as many as there are names if None

    @abstractmethod
    def image_path(self, index: int) -> Path:
        """Where the image lies; it may be absent until it is asked for."""

    @abstractmethod
    def read_labels(self, index: int) -> Tensor:
        """uint8 [H, W]: 0 background, k is class k - 1, 255 ignored. The image is not read."""

    @abstractmethod
    def _content(self) -> str:
        """A hash of the masks' content; with `ids` it names the cache file of the counts."""

    @cached_property
    def index(self) -> MaskIndex:
        """Sizes and counts of all masks, counted once or taken from the cache; a broken cache file is written anew.

        Raises ValueError: a mask is broken, or holds a value that is no class; the message names the image.
        """
        ids, n_classes = self.ids, self._n_values or len(self.class_names)
        key = hashlib.sha256(f"{_VERSION} {n_classes} {self._content()} {' '.join(ids)}".encode()).hexdigest()[:24]
        path = None if self._cache_folder is None else self._cache_folder / f"index-{key}.npz"
        if path is not None and (data := read_sealed(path, key)) is not None:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return MaskIndex(ids, **arrays)
        sizes, ignored = np.zeros((len(ids), 2), np.int32), np.zeros(len(ids), np.int32)
        pixels = np.zeros((len(ids), n_classes), np.int32)
        for row in self._progress(range(len(ids))):
            labels = self.read_labels(row)
            counts = class_counts(f"the mask of {ids[row]}", labels, n_classes)
            sizes[row], pixels[row], ignored[row] = labels.shape, counts[1 : n_classes + 1], counts[IGNORE_LABEL]
        if path is not None:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, sizes=sizes, pixels=pixels, ignored=ignored)
            write_sealed(path, key, buffer.getvalue())
        return MaskIndex(ids, sizes, pixels, ignored)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over name, split and the counts of the masks; neither paths nor images count."""
        return hashlib.sha256(f"{self.name.partition('-')[0]} {self.split} {self.index.sha256}".encode()).hexdigest()

    @property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, n_classes] in [0, 1]: share of all pixels, ignored ones included."""
        return self.index.areas

    @property
    def class_pixels(self) -> np.ndarray:
        """int32 [n_images, n_classes]: pixels of the class at the image's own size."""
        return self.index.pixels

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Image and labels at the image's own size.

        Raises IndexError: no such index; FileNotFoundError: the image is absent; ValueError: a file is broken, or the
        sizes differ.
        """
        labels, path = self.read_labels(index), self.image_path(index)
        image = read_image(path)
        check_size(path, image.shape[1:], labels.shape)
        return Sample(image, labels)


def check_size(path: Path, image_size: Sequence[int], mask_size: Sequence[int]) -> None:
    """ValueError where an image has another height and width than its mask."""
    if tuple(image_size) != tuple(mask_size):
        raise ValueError(
            f"{path} is {image_size[1]} x {image_size[0]} pixels, but its mask is {mask_size[1]} x {mask_size[0]}; "
            "get the original files again"
        )


def files_sha256(paths: Sequence[Path]) -> str:
    """SHA-256 (hex) over names and bytes of files, in the order given; folders do not count."""
    digest = hashlib.sha256()
    with ThreadPoolExecutor(8) as pool:  # reading many small files is waiting
        for path, data in zip(paths, pool.map(lambda path: require_file(path).read_bytes(), paths), strict=True):
            digest.update(f"{path.name}\t{len(data)}\n".encode() + hashlib.sha256(data).digest())
    return digest.hexdigest()
