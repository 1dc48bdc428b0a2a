"""A small made-up PASCAL-5i in the exact folder layouts of the real one, for the tests.

`write_pascal`: 20 classes of coloured rectangles and ellipses. Image i shows the class i % 20 on the left and its
neighbour of the same fold on the right, both on 2,048 px or more; every fourth image also shows a class of the next
fold: every eighth as a bar (1,200 px, a tenth of the image), the others as a speck (81 px). So 20 images of a split
give every class two images above PFENet's area rule, 40 give it four.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

_N_CLASSES, _PER_FOLD = 20, 5
_PALETTE = [value for index in range(256) for value in (index, 255 - index, (37 * index) % 256)]  # any but grey


@dataclass(frozen=True)
class PascalTree:
    """What `write_pascal` wrote. `labels` are those that a reader must see, uint8 [H, W] by id."""

    root: Path
    base: Path  # the folder of JPEGImages
    train_ids: tuple[str, ...]
    val_ids: tuple[str, ...]
    voc_train: tuple[str, ...]
    sbd_train_noval: tuple[str, ...]
    labels: dict[str, np.ndarray]


def classes_of(number: int) -> tuple[int, int, int | None]:
    """Class indices of image `number` of a split: left, right, and the one below them (a bar or a speck) or None."""
    left = number % _N_CLASSES
    fold, place = divmod(left, _PER_FOLD)
    right = _PER_FOLD * fold + (place + 1) % _PER_FOLD
    below = (left + _PER_FOLD) % _N_CLASSES if number % 4 == 0 else None
    return left, right, below


def draw_labels(number: int, seed: int, *, ignored_border: bool) -> np.ndarray:
    """Labels uint8 [H, W] with H 96 to 104 and W 116 to 124; with a border of 255 as VOC's masks have it."""
    rng = np.random.default_rng((seed, number))
    height, width = int(rng.integers(96, 105)), int(rng.integers(116, 125))
    labels = np.zeros((height, width), np.uint8)
    left, right, below = classes_of(number)
    for class_index, centre in ((left, 0.26), (right, 0.74)):
        half_height, half_width = int(rng.integers(34, 38)), int(rng.integers(24, 27))
        row, column = height / 2 - 6 + int(rng.integers(-3, 4)), centre * width + int(rng.integers(-2, 3))
        border = _shape(labels.shape, row, column, half_height + 2, half_width + 2, class_index)
        if ignored_border:
            labels[border] = 255
        labels[_shape(labels.shape, row, column, half_height, half_width, class_index)] = class_index + 1
    if below is not None and number % 8 == 0:
        labels[height - 13 : height - 1, width // 2 - 50 : width // 2 + 50] = below + 1  # 12 x 100
    elif below is not None:
        labels[height - 10 : height - 1, width // 2 - 4 : width // 2 + 5] = below + 1  # 9 x 9
    return labels


def _draw_image(labels: np.ndarray, seed: int) -> np.ndarray:
    """RGB uint8 [H, W, 3]: each class in a colour of its own, with noise, on grey."""
    rng = np.random.default_rng((seed, int(labels.sum())))
    colours = np.full((256, 3), 110.0)
    for index in range(_N_CLASSES):
        colours[index + 1] = 255 * np.array(colorsys.hsv_to_rgb(index / _N_CLASSES, 1 - 0.5 * (index % 2), 0.9))
    return np.clip(colours[labels] + rng.normal(0, 12, (*labels.shape, 3)), 0, 255).astype(np.uint8)


def write_pascal(
    root: Path,
    layout: Literal["torchvision", "common"] = "torchvision",
    *,
    n_train: int = 40,
    n_val: int = 40,
    with_images: bool = True,
    prepared: bool = True,
    seed: int = 0,
) -> PascalTree:
    """Write a made-up PASCAL-5i.

    Args:
        layout: "torchvision" is VOCdevkit/VOC2012 with VOC's masks in SegmentationClass, and sbd/ beside it;
            "common" is JPEGImages and SegmentationClassAug with all masks right under the root.
        n_train, n_val: images; 40 for two shots without repetition. A quarter of the training images are VOC's, of
            which each second one is in SBD's list too, as in the real union; VOC's mask counts for those.
        with_images: False writes no JPEG file.
        prepared: only for "torchvision". True writes SBD's masks as PNG, as `prepare_pascal` leaves them, and needs
            no scipy; False writes them as .mat alone, as SBD's archive has them.
        seed: of shapes, sizes and noise; the same seed gives the same masks in every layout.
    """
    train, val = _ids("2008", n_train), _ids("2009", n_val)
    voc = train[: n_train // 4]
    sbd = tuple(sorted({*train[n_train // 4 :], *voc[::2]}, reverse=True))  # real lists are in no order either
    labels = {
        name: draw_labels(number, seed + part, ignored_border=name in voc or part == 1)
        for part, ids in enumerate((train, val))
        for number, name in enumerate(ids)
    }
    is_common = layout == "common"
    base = root if is_common else root / "VOCdevkit" / "VOC2012"
    lists = base / "ImageSets" / "Segmentation"
    for name, ids in (("train", voc), ("val", val), ("trainval", (*voc, *val))):
        _write_lines(lists / f"{name}.txt", ids)
    _write_lines((lists if is_common else root / "sbd") / "train_noval.txt", sbd)
    for name, mask in labels.items():
        is_voc = name in voc or name in val
        if is_common or prepared or is_voc:
            folder = "SegmentationClass" if is_voc and not is_common else "SegmentationClassAug"
            _write_mask(base / folder / f"{name}.png", mask)
        if with_images:
            _write_photograph(base / "JPEGImages" / f"{name}.jpg", _draw_image(mask, seed))
    if not is_common:
        _write_sbd(root / "sbd", (*sbd, val[0]), labels, mats=not prepared)  # SBD also holds images of VOC's val
    return PascalTree(root, base, train, val, voc, sbd, labels)


def write_sbd_mat(path: Path, mask: np.ndarray) -> None:
    """One annotation in SBD's structure: GTcls with Boundaries (20 sparse maps), Segmentation, CategoriesPresent."""
    import scipy.io
    import scipy.sparse

    boundaries = np.empty((_N_CLASSES, 1), dtype=object)
    for index in range(_N_CLASSES):
        boundaries[index, 0] = scipy.sparse.csc_matrix(mask.shape, dtype=np.float64)
    present = np.unique(mask[mask > 0]).astype(np.uint8)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": present}
    scipy.io.savemat(path, {"GTcls": content}, do_compression=True)


def _write_sbd(folder: Path, ids: Sequence[str], labels: dict[str, np.ndarray], *, mats: bool) -> None:
    _write_lines(folder / "train.txt", ids[::2])
    _write_lines(folder / "val.txt", ids[1::2])
    for name in ids if mats else ():
        write_sbd_mat(folder / "cls" / f"{name}.mat", np.where(labels[name] == 255, 0, labels[name]).astype(np.uint8))


def _ids(year: str, count: int) -> tuple[str, ...]:
    return tuple(f"{year}_{7 * number + 3:06d}" for number in range(count))


def _shape(
    size: tuple[int, ...], row: float, column: float, half_height: float, half_width: float, class_index: int
) -> np.ndarray:
    """bool [H, W]: an ellipse for even classes, a rectangle for odd ones."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    down, across = np.abs(rows - row) / half_height, np.abs(columns - column) / half_width
    inside: np.ndarray = down**2 + across**2 <= 1 if class_index % 2 == 0 else np.maximum(down, across) <= 0.9
    return inside


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_mask(path: Path, mask: np.ndarray) -> None:
    """Mode P with colours, as VOC's masks: a reader must take the numbers and not the colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    image.putpalette(_PALETTE)
    image.save(path)


def _write_photograph(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=92)
