"""Reading COCO's `instances_*.json`: classes in the order of their ids, and the instances of every image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

# In the order of the category ids, which run from 1 to 90 with gaps.
COCO_CLASSES = (
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)


class Instance(NamedTuple):
    """One annotation: class index from 0, whether it is a crowd, and the segmentation as the JSON has it."""

    class_index: int
    is_crowd: bool
    segmentation: Any


class AnnotatedImage(NamedTuple):
    """An image with at least one annotation; instances in the order of their ids."""

    file_name: str
    height: int
    width: int
    instances: tuple[Instance, ...]


class Annotations(NamedTuple):
    """What an annotation file says.

    Attributes:
        class_names: `COCO_CLASSES`.
        images: those with an annotation, a crowd being one, ascending by file name.
        n_listed: images that the file lists, those without annotations included.
    """

    class_names: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    n_listed: int


def read_annotations(path: Path) -> Annotations:
    """Read the whole file into memory.

    Images without any annotation are left out. PFENet's lists of COCO 2014 (82,081 and 40,137 images) are shorter
    than the folders of images, too [precedent: its README]; such an image can be in no episode.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is cut short, is no such file, or an entry does not make sense.
    """
    data = _read_json(path)
    index_of = _category_indices(path, data)
    instances: dict[int, list[Instance]] = {}
    try:
        for entry in sorted(data["annotations"], key=lambda entry: int(entry["id"])):
            instance = Instance(index_of[entry["category_id"]], bool(entry.get("iscrowd")), entry["segmentation"])
            instances.setdefault(entry["image_id"], []).append(instance)
        images = [
            AnnotatedImage(str(image["file_name"]), int(image["height"]), int(image["width"]), tuple(own))
            for image in data["images"]
            if (own := instances.get(image["id"]))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: an entry does not make sense ({error!r}); unpack it again") from None
    return Annotations(COCO_CLASSES, tuple(sorted(images, key=_by_name)), len(data["images"]))


def _category_indices(path: Path, data: Mapping[str, Any]) -> dict[int, int]:
    """Class index of every category id."""
    try:
        categories = sorted((int(category["id"]), str(category["name"])) for category in data["categories"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: a category does not make sense ({error!r}); unpack it again") from None
    names = [name for _, name in categories]
    if tuple(names) != COCO_CLASSES:
        other = [name for name in names if name not in COCO_CLASSES]
        raise ValueError(
            f"{path} has {len(names)} categories{f', such as {other[0]!r}' if other else ''}, not the "
            f"{len(COCO_CLASSES)} of COCO in their order; give COCO's instances_*.json"
        )
    return {number: index for index, (number, _) in enumerate(categories)}


def _by_name(image: AnnotatedImage) -> str:
    return image.file_name


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(_existing(path).read_bytes())
    except ValueError:
        raise ValueError(f"{path} is not whole JSON; unpack it again") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(data, dict) or not all(isinstance(data.get(part), list) for part in parts):
        raise ValueError(f"{path} lacks one of the lists {', '.join(parts)}; give COCO's instances_*.json")
    return data


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file of any size."""
    with _existing(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; unpack COCO's annotations_trainval*.zip so that it is there")
    return path
