"""A folder of photographs with index masks as a data set: the way to bring your own images and classes.

What it holds:

    root/images/STEM.jpg   any size and mode (extensions: see IMAGE_EXTENSIONS)
    root/masks/STEM.png    class numbers: 0 background, k = line k of classes.txt, 255 ignored
    root/classes.txt       one class name per line; the background has no line
    root/index.json        optional: [{"id": "STEM", "area": {"class name": share of the pixels}}, ...]
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from dpnet_lite.datasets.base import IGNORE_LABEL, MAX_CLASSES, DatasetDefaults, Sample, SegmentationDataset
from dpnet_lite.datasets.images import read_image, read_mask

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class FolderDataset(DatasetDefaults):
    """Images and masks of one folder, ordered by file name.

    Args:
        root: the folder.
        name: short name for people; "folder:" and the folder's name if not given.

    `class_areas` comes from index.json where there is one, which must then fit the masks; else every mask
    is read once, on first use. `fingerprint` covers the class names, index.json, and the names and sizes in
    bytes of all files, but neither their pixels nor the place where the folder lies.

    Raises:
        FileNotFoundError: the folder, a part of it, or the mask of an image is missing.
        ValueError: classes.txt or index.json does not make sense.
    """

    def __init__(self, root: str | Path, *, name: str | None = None) -> None:
        self.root = Path(root).expanduser()
        _check_layout(self.root)
        self.name = name or f"folder:{self.root.resolve().name}"
        self.class_names = read_class_names(self.root / "classes.txt")
        self.image_paths = _list_images(self.root / "images")
        self.mask_paths = _pair_masks(self.image_paths, self.root / "masks")
        index_path = self.root / "index.json"
        self._index_bytes: bytes | None = None
        self._indexed_areas: np.ndarray | None = None
        if index_path.exists():  # read now, so that a bad one is not reported in the middle of a run
            stems = [path.stem for path in self.image_paths]
            self._index_bytes = index_path.read_bytes()
            self._indexed_areas = _read_area_index(index_path, stems, self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over class names, index.json, file names and file sizes."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for path in (*self.image_paths, *self.mask_paths):
            digest.update(f"\n{path.name}\t{path.stat().st_size}".encode())
        digest.update(b"\n" + (self._index_bytes or b""))
        return digest.hexdigest()

    @cached_property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, n_classes] in [0, 1]: share of all pixels, ignored ones included."""
        return self.measure_areas() if self._indexed_areas is None else self._indexed_areas

    def measure_areas(self) -> np.ndarray:
        """Read every mask and return `class_areas` as the masks have it, whatever index.json says.

        Raises:
            ValueError: a mask holds a number without a class, or all of them hold 0 and 255 alone.
        """
        areas = np.zeros((len(self), len(self.class_names)), dtype=np.float32)
        n_ignored = 0
        for index, path in enumerate(self.mask_paths):
            labels = self._read_labels(path)
            counts = _count_values(labels)
            areas[index] = counts[1 : len(self.class_names) + 1] / labels.numel()
            n_ignored += int(counts[IGNORE_LABEL])
        if not areas.any() and n_ignored:
            raise ValueError(
                f"{self.root / 'masks'} holds 0 and {IGNORE_LABEL} alone, and {IGNORE_LABEL} means ignored; "
                "draw the class of line k of classes.txt with the value k"
            )
        return areas

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> Sample:
        """Image and labels at the image's own size.

        Raises:
            IndexError: no such index.
            ValueError: a file is broken, the mask holds a number without a class, or the sizes differ.
        """
        image_path, mask_path = self.image_paths[index], self.mask_paths[index]
        image, labels = read_image(image_path), self._read_labels(mask_path)
        if image.shape[1:] != labels.shape:
            raise ValueError(
                f"{mask_path} is {labels.shape[1]} x {labels.shape[0]} pixels, but {image_path.name} is "
                f"{image.shape[2]} x {image.shape[1]} once upright (EXIF); draw the mask for that size"
            )
        return Sample(image, labels)

    def _read_labels(self, path: Path) -> Tensor:
        labels = read_mask(path)
        n_classes = len(self.class_names)
        unknown = np.flatnonzero(_count_values(labels)[n_classes + 1 : IGNORE_LABEL]) + n_classes + 1
        if len(unknown):
            raise ValueError(
                f"{path} holds the value {unknown[0]}, but classes.txt ends at {n_classes}; "
                f"add the class or change the mask ({IGNORE_LABEL} means ignore)"
            )
        return labels


def open_folder(root: str | Path) -> SegmentationDataset:
    """The data set in a folder; the one place that chooses how a folder is read."""
    return FolderDataset(root)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read classes.txt (UTF-8): line k names the class of value k. Empty lines at the end do not count.

    Raises:
        ValueError: no name, too many, one twice, an empty line between names, a line for the background.
    """
    try:
        names = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    names = [name.strip() for name in names]
    if names == [""]:
        raise ValueError(f"{path} is empty; write one class name per line")
    for line, name in enumerate(names, start=1):
        if not name:
            raise ValueError(f"{path} line {line} is empty, but line numbers are mask values; name the class")
        if name.strip("_").lower() == "background":
            raise ValueError(f"{path} line {line} is {name!r}, which is value 0 without a line; delete it")
        if name in names[: line - 1]:
            raise ValueError(f"{path} line {line} repeats {name!r}; give every class a name of its own")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"{path} names {len(names)} classes; at most {MAX_CLASSES} fit an 8-bit mask")
    return tuple(names)


def _read_area_index(path: Path, stems: list[str], class_names: tuple[str, ...]) -> np.ndarray:
    """Read index.json as float32 [len(stems), len(class_names)]; a class that an entry does not name has 0.

    Raises:
        ValueError: not the expected JSON, an unknown class, no share in [0, 1], or ids that are not `stems`.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        shares = [(str(entry["id"]), entry["area"].items()) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError):
        expected = '[{"id": file stem, "area": {class name: share}}, ...]'
        raise ValueError(f"{path} is not of the form {expected}; mend or delete it") from None
    rows = {stem: row for row, stem in enumerate(stems)}
    columns = {name: column for column, name in enumerate(class_names)}
    areas = np.zeros((len(stems), len(class_names)), dtype=np.float32)
    seen: set[str] = set()
    for stem, items in shares:
        if stem not in rows or stem in seen:
            problem = "appears twice" if stem in seen else "has no image"
            raise ValueError(f"{path}: id {stem!r} {problem}; mend the file, or delete it to use the masks")
        seen.add(stem)
        for name, share in items:
            if name not in columns:
                raise ValueError(f"{path}: id {stem!r} names class {name!r}; classes.txt has no such line")
            if not (isinstance(share, int | float) and 0 <= share <= 1):
                raise ValueError(f"{path}: {name!r} of id {stem!r} is {share!r}; give a share from 0 to 1")
            areas[rows[stem], columns[name]] = share
    missing = [stem for stem in stems if stem not in seen]
    if missing:
        raise ValueError(
            f"{path} lacks {len(missing)} of {len(stems)} images, first {missing[0]!r}; add them or delete it"
        )
    return areas


def _count_values(labels: Tensor) -> np.ndarray:
    return np.bincount(labels.numpy().ravel(), minlength=256)  # [H, W] -> [256]


def _check_layout(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; give one with images/, masks/ and classes.txt")
    for folder in ("images", "masks"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root} has no folder {folder}/; it needs images/ and masks/")
    if not (root / "classes.txt").is_file():
        raise FileNotFoundError(f"{root} has no classes.txt; write one class name per line, value 1 first")


def _list_images(folder: Path) -> list[Path]:
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in IMAGE_EXTENSIONS or path.name.startswith("."):
            continue  # such as Thumbs.db, and the ._ files that macOS leaves
        if path.stem in paths:
            raise ValueError(f"{folder}: {paths[path.stem].name} and {path.name} share a mask; rename one")
        paths[path.stem] = path
    if not paths:
        raise ValueError(f"{folder} holds no image; put files ending in {' '.join(IMAGE_EXTENSIONS)} there")
    return list(paths.values())


def _pair_masks(image_paths: list[Path], folder: Path) -> list[Path]:
    present = {path.name for path in folder.iterdir()}
    missing = [path.name for path in image_paths if f"{path.stem}.png" not in present]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(image_paths)} images have no mask, first {missing[0]}; "
            f"add {folder / Path(missing[0]).stem}.png or remove the image"
        )
    return [folder / f"{path.stem}.png" for path in image_paths]
