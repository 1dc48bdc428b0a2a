"""A folder of photographs with index masks as a data set: the way to bring your own images and classes.

What it holds:

    root/images/STEM.jpg   any size and mode (extensions: see `image_extensions`)
    root/masks/STEM.png    class numbers: 0 background, k = line k of classes.txt, 255 ignored
    root/classes.txt       one class name per line; the background has no line

What else lies in images/ or masks/ is not read, which is warned of unless it is text.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from dpnet_lite.datasets.base import (
    IGNORE_LABEL,
    MAX_CLASSES,
    DatasetDefaults,
    Sample,
    class_counts,
)
from dpnet_lite.datasets.images import image_extensions, image_size, read_image, read_mask
from dpnet_lite.storage.digests import file_digests, file_state

_STRAY = (".csv", ".db", ".ini", ".json", ".md", ".txt", ".xml")  # no pictures; Thumbs.db and desktop.ini among them


class FolderDataset(DatasetDefaults):
    """Images and masks of one folder, ordered by file name.

    Args:
        root: the folder.
        name: short name for people; "folder:" and the folder's name if not given.

    `fingerprint` covers the class names, and names and bytes of images and masks, not where the folder lies.
    From when it was asked for, a file that changes is an error.

    Raises:
        FileNotFoundError: the folder, a part of it, or the mask of an image is missing.
        PermissionError: files may not be read.
        ValueError: classes.txt does not make sense, or a mask has no image.
    """

    def __init__(self, root: str | Path, *, name: str | None = None) -> None:
        self.root = Path(root).expanduser()
        _check_layout(self.root)
        self.name = name or f"folder:{self.root.resolve().name}"
        self.class_names = read_class_names(self.root / "classes.txt")
        self.image_paths, self.mask_paths = _pairs(self.root / "images", self.root / "masks")

    @cached_property
    def _digests(self) -> dict[Path, str]:
        return file_digests(self.root, [*self.image_paths, *self.mask_paths])

    @property
    def image_digests(self) -> dict[Path, str]:
        """What the photographs hold: SHA-256 in hex."""
        return {path: self._digests[path].split()[-1] for path in self.image_paths}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over class names, file names and what the files hold."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for path, text in self._digests.items():
            digest.update(f"\n{_normalised(path.name)}\t{text.split()[-1]}".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    @cached_property
    def class_areas(self) -> np.ndarray:
        """float32 [n_images, n_classes] in [0, 1]: share of all pixels, ignored ones included. Reads every mask.

        Raises:
            ValueError: names all pairs of image and mask that cannot be used, the first five with the reason; or
                masks that hold 0 and 255 alone, none of which could be in an episode; or no mask has background.
        """
        areas = np.zeros((len(self), len(self.class_names)), dtype=np.float32)
        faults, ignored, n_background = list[str](), list[str](), 0
        for index, path in enumerate(self.image_paths):
            try:
                labels, counts = self._counted(index)
                if image_size(path) != labels.shape:
                    self[index]  # says what differs
            except (OSError, ValueError) as error:
                faults.append(str(error) if len(faults) < 5 else path.name)
                continue
            areas[index] = counts[1 : len(self.class_names) + 1] / labels.numel()
            n_background += int(counts[0]) + int((areas[index] > 0).sum() > 1)  # or another class, for each
            if counts[IGNORE_LABEL] and not areas[index].any():
                ignored.append(self.mask_paths[index].name)
        if faults:
            raise ValueError(f"{len(faults)} of {len(self)} masks or images cannot be used: {'; '.join(faults)}")
        if not n_background:
            remedy = f"store it as 0, for {IGNORE_LABEL} means ignored"
            raise ValueError(f"no mask in {self.root / 'masks'} shows background; {remedy}")
        if ignored:
            raise ValueError(
                f"{len(ignored)} of {len(self)} masks in {self.root / 'masks'} hold 0 and {IGNORE_LABEL} alone, first "
                f"{', '.join(ignored[:3])}, and {IGNORE_LABEL} means ignored; draw the class of line k of classes.txt "
                "with the value k, or remove such a mask and its image"
            )
        return areas

    def __len__(self) -> int:
        return len(self.image_paths)

    def __getitem__(self, index: int) -> Sample:
        """Image and labels at the image's own size.

        Raises:
            IndexError: no such index.
            ValueError: a file is broken or has changed, the mask holds a number without a class, or the sizes differ.
        """
        image_path, labels = self.image_paths[index], self.read_labels(index)
        image = read_image(self._unchanged(image_path))
        if image.shape[1:] != labels.shape:
            raise ValueError(
                f"{self.mask_paths[index]} is {labels.shape[1]} x {labels.shape[0]} pixels, but {image_path.name} is "
                f"{image.shape[2]} x {image.shape[1]} once upright (EXIF); draw the mask for that size"
            )
        return Sample(image, labels)

    def read_labels(self, index: int) -> Tensor:
        """The labels alone, uint8 [H, W]; errors as above."""
        return self._counted(index)[0]

    def _counted(self, index: int) -> tuple[Tensor, np.ndarray]:
        """Labels, and the pixels of each value, int64 [256]."""
        path, n_classes = self.mask_paths[index], len(self.class_names)
        labels = read_mask(self._unchanged(path))
        remedy = f"classes.txt ends at {n_classes}; add the class or change the mask ({IGNORE_LABEL} means ignore)"
        return labels, class_counts(path, labels, n_classes, remedy)

    def _unchanged(self, path: Path) -> Path:
        """The path of a file that is as it was for `fingerprint`, if that was asked for; ValueError for another."""
        if "_digests" in vars(self) and not self._digests[path].startswith(f"{file_state(path)} "):
            raise ValueError(f"{path} has changed since its folder was opened; open the folder again")
        return path


def open_folder(root: str | Path) -> FolderDataset:
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
    numbers = [int(match[1]) for name in names if (match := re.match(r"(\d{1,3})(?:\s|\s*[:.)=](?!\d))", name))]
    counted = [[*range(first, first + len(names))] for first in (1, 0)]
    are_numbered = len(names) > 1 and sorted(numbers) in counted and numbers != counted[0]  # lines are numbers
    for line, name in enumerate(names, start=1):
        if not name:
            raise ValueError(f"{path} line {line} is empty, but line numbers are mask values; name the class")
        if re.sub(r"[\W\d_]", "", name).lower() == "background":
            raise ValueError(f"{path} line {line} is {name!r}, which is value 0 without a line; delete it")
        if are_numbered or re.match(r"\d+\t", name):
            raise ValueError(f"{path} line {line} is {name!r}; write the name alone, for the line is its number")
        if not name.isprintable():
            raise ValueError(f"{path} line {line} is {name!r}, which cannot be printed; save the file as UTF-8")
        if _normalised(name) in map(_normalised, names[: line - 1]):
            raise ValueError(f"{path} line {line} repeats {name!r}; give every class a name of its own")
    if len(names) > MAX_CLASSES:
        raise ValueError(f"{path} names {len(names)} classes; at most {MAX_CLASSES} fit an 8-bit mask")
    return tuple(names)


def _check_layout(root: Path) -> None:
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder; give one with images/, masks/ and classes.txt")
    for folder in ("images", "masks"):
        if not (root / folder).is_dir():
            raise FileNotFoundError(f"{root} has no folder {folder}/; it needs images/ and masks/")
    if not (root / "classes.txt").is_file():
        raise FileNotFoundError(f"{root} has no classes.txt; write one class name per line, value 1 first")


def _normalised(name: str) -> str:
    """A name with composed letters: macOS writes others into some file systems."""
    return unicodedata.normalize("NFC", name)


def _by_stem(folder: Path, extensions: Sequence[str]) -> dict[str, Path]:
    """The files of a folder with one of these extensions, by their stem and in its order."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: _normalised(path.name)):
        if path.suffix.lower() not in extensions or path.name.startswith("."):
            continue  # such as Thumbs.db, and the ._ files that macOS leaves
        other = found.setdefault(_normalised(path.stem), path)
        if other is not path:
            raise ValueError(f"{folder}: {other.name} and {path.name} share a mask; rename one")
    return found


def _pairs(image_folder: Path, mask_folder: Path) -> tuple[list[Path], list[Path]]:
    """The images in order of their names, and their masks."""
    images, masks = _by_stem(image_folder, image_extensions()), _by_stem(mask_folder, [".png"])
    if not images:
        endings, unread = " ".join(image_extensions()), _unread(image_folder, image_extensions())
        raise ValueError(f"{image_folder} holds no image; put files ending in {endings} there{unread}")
    missing = [path.name for stem, path in images.items() if stem not in masks]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(images)} images have no mask, first {missing[0]}; "
            f"add {mask_folder / Path(missing[0]).stem}.png or remove the image"
        )
    orphans = [path.name for stem, path in masks.items() if stem not in images]
    if orphans:
        raise ValueError(
            f"{len(orphans)} of {len(masks)} masks have no image in {image_folder}, first {', '.join(orphans[:3])}; "
            f"add the image or remove the mask{_unread(image_folder, image_extensions())}"
        )
    for folder, read in ((image_folder, image_extensions()), (mask_folder, (".png",))):
        if unread := _unread(folder, read):
            warnings.warn(f"{folder} is read in part{unread}", stacklevel=2)
    paths = [*images.values(), *masks.values()]
    if closed := [str(path) for path in paths if not (os.path.isfile(path) and os.access(path, os.R_OK))]:
        few = f"{len(closed)} images and masks cannot be read, first {', '.join(closed[:3])}"
        raise PermissionError(f"{few}; change their owner or their permissions, or remove what is no file")
    return [*images.values()], [masks[stem] for stem in images]


def _unread(folder: Path, extensions: Sequence[str]) -> str:
    """What is left out of a folder, with counts: files of other formats, and what lies in folders in it."""
    kinds = Counter[str]()
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        kinds["linked folder"] += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        inside = [f"in {part}/" for part in Path(place).relative_to(folder).parts[:1]]
        seen = sorted((os.path.splitext(name)[1].lower(), name) for name in names if not name.startswith("."))
        kinds.update((*inside, suffix or name)[0] for suffix, name in seen if inside or suffix not in extensions)
    left_out = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count and kind not in _STRAY)
    form = "PNG" if extensions == (".png",) else "JPEG (HEIC: magick mogrify -format jpg *.heic)"
    return left_out and f" (left out there: {left_out}; move them up, or save them as {form})"
