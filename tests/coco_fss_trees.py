"""Made-up COCO and FSS-1000 trees in the exact official layouts, small enough to be written in a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dpnet_lite.published.coco_masks import COCO_CLASSES

HEIGHT, WIDTH = 100, 120
# The official category ids run to 90; these numbers are not used.
UNUSED_CATEGORY_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
CATEGORY_IDS = [number for number in range(1, 91) if number not in UNUSED_CATEGORY_IDS]
FSS_SPLITS = {
    "train": ("abacus", "bucket", "chair", "drum", "egg", "fan"),
    "val": ("guitar", "hat", "iron", "jar"),
    "test": ("abe's_fish", "ladder", "mug", "nail"),
}
FSS_LIST_NAMES = {"train": "trn.txt", "val": "val.txt", "test": "test.txt"}


def write_coco(
    root: Path,
    year: int = 2017,
    *,
    splits: Sequence[str] = ("train", "val"),
    n_classes: int = 12,
    per_class: int = 2,
    pictures: bool = True,
    images_folder: bool = False,
) -> dict[str, dict[str, Any]]:
    """Write ROOT/{train,val}YEAR and ROOT/annotations; return what each annotation file holds.

    Every image but the last of a split shows two of the first `n_classes` classes (three of each fold by default), as
    polygons of more than 2,048 pixels each; every class is in `per_class` images. The first image also has a crowd,
    and a small object in front of a large one; the last has no annotation at all.

    Args:
        root: made where it is missing.
        year: 2014 or 2017; the former puts COCO_train2014_ before the file names, as the official files have it.
        splits: which of the two are written.
        n_classes: classes that are shown; all 80 are named.
        per_class: images that show a class, even.
        pictures: False writes the annotations alone.
        images_folder: put the image folders into ROOT/images.
    """
    written = {}
    for split in splits:
        content = coco_content(split, year, n_classes=n_classes, per_class=per_class)
        folder = root / "annotations"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"instances_{split}{year}.json").write_text(json.dumps(content), encoding="utf-8")
        if pictures:
            above = root / "images" if images_folder else root
            _write_coco_pictures(above / f"{split}{year}", content)
        written[split] = content
    return written


def coco_content(split: str, year: int, *, n_classes: int, per_class: int) -> dict[str, Any]:
    """The content of an official `instances` file, without its licences."""
    n_images = n_classes * per_class // 2
    first_id = {"train": 1001, "val": 5001}[split]
    prefix = f"COCO_{split}{year}_" if year == 2014 else ""
    images = [
        {"id": number, "file_name": f"{prefix}{number:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in range(first_id, first_id + n_images + 1)
    ]
    annotations: list[dict[str, Any]] = []

    def add(image: int, class_index: int, segmentation: Any, area: float, crowd: int = 0) -> None:
        annotations.append(
            {
                "id": 10 * first_id + len(annotations),
                "image_id": first_id + image,
                "iscrowd": crowd,
                "area": area,
                "category_id": CATEGORY_IDS[class_index],
                "segmentation": segmentation,
                "bbox": [0, 0, WIDTH, HEIGHT],
            }
        )

    for number in range(n_images):
        shift = number % 4
        left = number % n_classes
        add(number, left, [_ellipse(31 + shift, 50, 25, 40)], 3141.0)
        add(number, (left + 1 + number // n_classes) % n_classes, [_ellipse(88 - shift, 50, 25, 40)], 3141.0)
    add(0, 2, [_ellipse(31, 50, 9, 9)], 250.0)  # in front of the large one
    add(0, 0, {"counts": [0, 20 * HEIGHT, (WIDTH - 20) * HEIGHT], "size": [HEIGHT, WIDTH]}, 20.0 * HEIGHT, crowd=1)
    return {"images": images, "annotations": annotations, "categories": coco_categories()}


def coco_categories() -> list[dict[str, Any]]:
    """The 80 official categories."""
    return [
        {"id": number, "name": name, "supercategory": "thing"}
        for number, name in zip(CATEGORY_IDS, COCO_CLASSES, strict=True)
    ]


def _ellipse(x: float, y: float, radius_x: float, radius_y: float, corners: int = 24) -> list[float]:
    """A polygon as COCO has it: [x1, y1, x2, y2, ...]."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    points = np.stack((x + radius_x * np.cos(angles), y + radius_y * np.sin(angles)), axis=1)  # [corners, 2]
    return [round(float(value), 2) for value in points.ravel()]


def _write_coco_pictures(folder: Path, content: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for image in content["images"]:
        picture = _noise(image["id"])
        draw = ImageDraw.Draw(picture)
        own = [entry for entry in content["annotations"] if entry["image_id"] == image["id"] and not entry["iscrowd"]]
        for entry in sorted(own, key=lambda entry: -float(entry["area"])):
            for polygon in entry["segmentation"]:
                draw.polygon(polygon, fill=_colour(entry["category_id"]))
        picture.save(folder / image["file_name"], quality=92)


def write_fss(
    root: Path,
    classes: Mapping[str, Sequence[str]] = FSS_SPLITS,
    *,
    folder: str = "",
    lists: bool = True,
    empty: bool = False,
) -> None:
    """Write ROOT/CLASS/{1..10}.jpg and .png, and the lists of HSNet's names in ROOT.

    Masks have soft edges; every other class has its masks in colour mode (RGB), as some official ones are.

    Args:
        root: made where it is missing.
        classes: class names per split.
        folder: put the class folders below ROOT/FOLDER, as "fewshot_data" of the official archive.
        lists: False leaves trn.txt, val.txt and test.txt out.
        empty: write files of 0 bytes, where only names matter.
    """
    root.mkdir(parents=True, exist_ok=True)
    for split, names in classes.items():
        if lists:  # not in alphabetical order, as the published ones
            (root / FSS_LIST_NAMES[split]).write_text("\n".join(reversed(names)) + "\n", encoding="utf-8")
        for column, name in enumerate(names):
            place = root / folder / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(1, 11):
                if empty:
                    (place / f"{number}.jpg").touch()
                    (place / f"{number}.png").touch()
                else:
                    _write_fss_pair(place, number, column, seed=100 * len(name) + column)


def _write_fss_pair(place: Path, number: int, column: int, seed: int) -> None:
    box = [25 + number, 15 + number, 85 + number, 75 + number]
    picture, mask = _noise(seed + number), Image.new("L", (WIDTH, HEIGHT), 0)
    shape = "ellipse" if column % 2 else "rectangle"
    getattr(ImageDraw.Draw(picture), shape)(box, fill=_colour(seed))
    getattr(ImageDraw.Draw(mask), shape)(box, fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(1))
    picture.save(place / f"{number}.jpg", quality=92)
    (mask.convert("RGB") if column % 2 else mask).save(place / f"{number}.png")


def _noise(seed: int) -> Image.Image:
    """A grey, grainy ground."""
    grey = np.random.default_rng(seed).integers(90, 130, (HEIGHT, WIDTH, 1), dtype=np.uint8)
    return Image.fromarray(np.repeat(grey, 3, axis=2))


def _colour(seed: int) -> tuple[int, int, int]:
    red, green, blue = np.random.default_rng(seed).integers(0, 256, 3)
    return int(red), int(green), int(blue)
