"""COCO's instances as one mask an image: drawn once, kept as small PNG files, gone on with after a stop.

pycocotools reads the annotations and draws the instances. Where these overlap, the smaller one lies on top (by its own
pixels; among equals the one with the higher id). A crowd is ignored (255) where no instance is. Both rules are ours:
COCO's instances have no order of depth.
"""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.datasets.images import png
from dpnet_lite.features import Progress
from dpnet_lite.published.coco_faults import annotation_fault, image_fault, sound_entries
from dpnet_lite.published.extras import import_extra
from dpnet_lite.published.worker_pool import require_workers, run_jobs
from dpnet_lite.storage.caches import default_cache, read_sealed, write_sealed
from dpnet_lite.storage.files import locked

_LOG = logging.getLogger(__name__)
_RULE_VERSION = 1  # raise it when the same annotations give another mask
_LIST = "list.json"  # the images of a folder of masks, written last

# In the order of the category ids, which run from 1 to 90 with gaps.
_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, "
    "laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, "
    "scissors, teddy bear, hair drier, toothbrush"
)
COCO_CLASSES = tuple(_NAMES.split(", "))


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
    """What an annotation file says."""

    images: tuple[AnnotatedImage, ...]  # with an annotation, a crowd being one; ascending by file name
    n_listed: int  # images, those without annotations included
    faults: tuple[str, ...] = ()  # a line for each entry that is of no use, and was left out
    undrawn: tuple[int, ...] = ()  # ids of annotations without a pixel, or with a polygon of fewer than three points


@dataclass(frozen=True)
class CocoMasks:
    """The masks of one annotation file, all of them drawn."""

    folder: Path  # where they lie, one PNG an image
    content: str  # hash of the annotation file, and the version of the rules by which masks are drawn
    file_names: tuple[str, ...]  # of the images with an annotation, ascending

    def mask_path(self, row: int) -> Path:
        """The mask of image `row`: 8-bit grey PNG without a palette."""
        return _mask_path(self.folder, self.file_names[row])


def read_annotations(path: Path) -> Annotations:
    """Read an `instances_*.json` into memory.

    Images without any annotation are left out. PFENet's lists of COCO 2014 (82,081 and 40,137 images) are shorter
    than the folders of images, too [precedent: its README]; such an image can be in no episode.

    Raises FileNotFoundError: no such file; ValueError: the file is cut short, or is no such file; ModuleNotFoundError:
    pycocotools is not installed. Entries that are of no use are told in `faults`.
    """
    _coder()
    doubled = list[str]()

    def single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entry = dict(pairs)
        if len(entry) < len(pairs):  # Python's own reader drops the first
            doubled.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return entry

    try:
        content = json.loads(_existing(path).read_bytes(), object_pairs_hook=single)
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not whole JSON; unpack it again") from None
    if doubled:
        raise ValueError(
            f"{path} has {doubled[0]!r:.80} twice where it may stand once; unpack it again, or join the two"
        )
    parts = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(part), list) for part in parts):
        raise ValueError(f"{path} lacks one of the lists {', '.join(parts)}; give COCO's instances_*.json")
    index_of, faults = _class_indices(path, content["categories"]), list[str]()
    images: dict[int, Any] = {}
    for image in sound_entries("image", content["images"], image_fault, faults):
        images[image["id"]] = image
    stems = Counter(Path(image["file_name"]).stem for image in images.values())
    faults += [f"{count} images are called {stem}" for stem, count in stems.items() if count > 1]
    entries_of = defaultdict[int, list[Any]](list)
    own_fault = partial(annotation_fault, images=images, categories=index_of)
    for entry in sound_entries("annotation", content["annotations"], own_fault, faults):
        entries_of[entry["image_id"]].append(entry)
    annotated = [
        AnnotatedImage(image["file_name"], image["height"], image["width"], _instances(entries_of[number], index_of))
        for number, image in images.items()
        if number in entries_of
    ]
    if not annotated and not faults:
        raise ValueError(f"{path} has no annotation, so there is no mask to draw; unpack it again")
    ordered = tuple(sorted(annotated, key=lambda image: image.file_name))
    undrawn = (entry["id"] for number in entries_of for entry in entries_of[number] if _loses(entry, images[number]))
    return Annotations(ordered, len(content["images"]), tuple(faults), tuple(sorted(undrawn)))


def _loses(entry: Mapping[str, Any], image: Mapping[str, Any]) -> bool:
    """Whether an annotation, or a polygon of fewer than three points in it, is drawn nowhere."""
    segmentation = entry["segmentation"]
    has_line = isinstance(segmentation, list) and min(map(len, segmentation)) < 6
    return has_line or not _coder().area(_run_lengths(segmentation, image["height"], image["width"]))


def _class_indices(path: Path, entries: Sequence[Any]) -> dict[int, int]:
    """Class index of every category id."""
    categories, faults = dict[int, str](), list[str]()
    for entry in sound_entries("category", entries, lambda entry: None, faults):
        categories[entry["id"]] = entry["name"]
    if faults:
        raise ValueError(f"{path}: {faults[0]}; unpack it again")
    names = [categories[number] for number in sorted(categories)]
    if tuple(names) != COCO_CLASSES:
        other = [name for name in names if name not in COCO_CLASSES]
        raise ValueError(
            f"{path} has {len(names)} categories{f', such as {other[0]!r}' if other else ''}, not the "
            f"{len(COCO_CLASSES)} of COCO in their order; give COCO's instances_*.json"
        )
    return {number: index for index, number in enumerate(sorted(categories))}


def _instances(entries: Sequence[Any], index_of: Mapping[int, int]) -> tuple[Instance, ...]:
    return tuple(
        Instance(index_of[entry["category_id"]], bool(entry.get("iscrowd")), entry["segmentation"])
        for entry in sorted(entries, key=lambda entry: entry["id"])
    )


def _coder() -> Any:
    return import_extra("pycocotools.mask", "draws COCO's masks")


def undrawn_note(ids: Sequence[int]) -> str:
    """What to know of `Annotations.undrawn`; COCO's own instances_train2017.json holds two of these."""
    what = (
        f"{len(ids):,} annotations are drawn nowhere, or a polygon of theirs is not (no pixel, or under three points)"
    )
    return f"{what}: {', '.join(map(str, ids[:5]))}{f' and {len(ids) - 5:,} more' * (len(ids) > 5)}"


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; unpack COCO's annotations_trainval*.zip so that it is there")
    return path


def draw_masks(
    annotations: Path, *, cache_folder: Path | None = None, workers: int = 1, progress: Progress = iter
) -> CocoMasks:
    """Draw the masks that are not there yet; where all are, the annotations are hashed but not parsed.

    Args:
        annotations: an `instances_*.json`; the masks lie in a folder of the cache that is named by its SHA-256.
        workers: processes that draw. Several callers at once take turns.
        progress: wraps the loop over the images that are missing.

    Raises FileNotFoundError: no such file; ValueError: the file is not COCO's, an entry is of no use, or `workers`
    is below 1; OSError: the cache cannot be written; ModuleNotFoundError: there is something to draw, and pycocotools
    is not installed.
    """
    require_workers(workers)
    with _existing(annotations).open("rb") as file:
        content = f"{hashlib.file_digest(file, 'sha256').hexdigest()} {_RULE_VERSION}"
    folder = (cache_folder or default_cache()) / f"coco-masks-{content[:24]}-{_RULE_VERSION}"
    with locked(folder / ".lock", f"another process draws the masks in {folder}", option="--cache"):
        listing = read_sealed(folder / _LIST, content)
        names = [] if listing is None else json.loads(listing)["file_names"]
        if not names or _not_whole(folder, content, names):
            images, _, faults, undrawn = read_annotations(annotations)
            if faults:
                count = "one such entry" if len(faults) == 1 else f"{len(faults):,} such entries"
                raise ValueError(f"{annotations}: {faults[0]} ({count}; see: dpnet-lite data check coco20i)")
            if undrawn:
                _LOG.warning("%s: %s", annotations, undrawn_note(undrawn))
            names = [image.file_name for image in images]
            absent = _not_whole(folder, content, names)
            missing = [image for image in images if image.file_name in absent]
            keys = ([folder] * len(missing), [content] * len(missing))
            run_jobs(_draw_one, missing, *keys, workers=workers, progress=progress)
            write_sealed(folder / _LIST, content, json.dumps({"file_names": names}).encode())
    return CocoMasks(folder, content, tuple(names))


def _not_whole(folder: Path, content: str, names: Sequence[str]) -> set[str]:
    """The images whose masks are absent, or are not what was drawn for them."""

    def is_whole(name: str) -> bool:
        return read_sealed(_mask_path(folder, name), f"{content} {name}") is not None

    with ThreadPoolExecutor(8) as pool:  # reading many small files is waiting
        return {name for name, whole in zip(names, pool.map(is_whole, names), strict=True) if not whole}


def _mask_of(instances: Sequence[Instance], height: int, width: int) -> np.ndarray:
    """uint8 [height, width]: 0 background, class index + 1, 255 in crowds; see the rules at the top of the file."""
    labels = np.zeros((height, width), dtype=np.uint8)
    drawn = [(instance, _instance_pixels(instance.segmentation, height, width)) for instance in instances]
    solid = [(instance, pixels) for instance, pixels in drawn if not instance.is_crowd]
    for instance, pixels in sorted(solid, key=lambda pair: -int(pair[1].sum())):  # keeps the order of equals
        labels[pixels] = instance.class_index + 1
    for instance, pixels in drawn:
        if instance.is_crowd:
            labels[pixels & (labels == 0)] = IGNORE_LABEL
    return labels


def _instance_pixels(segmentation: Any, height: int, width: int) -> np.ndarray:
    """bool [height, width]: an instance's polygons or run-length code, drawn by pycocotools."""
    with warnings.catch_warnings():  # pycocotools 2.0.11 makes its arrays in a way that NumPy 2 speaks against
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.asarray(_coder().decode(_run_lengths(segmentation, height, width)), dtype=bool)


def _run_lengths(segmentation: Any, height: int, width: int) -> Any:
    """An instance in pycocotools' own code. Polygons of fewer than three points cover nothing."""
    if isinstance(segmentation, list):  # four numbers would be a box
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6] or [[0] * 6]
        return _coder().merge(_coder().frPyObjects(polygons, height, width))
    is_list = isinstance(segmentation["counts"], list)
    return _coder().frPyObjects(segmentation, height, width) if is_list else segmentation


def _draw_one(image: AnnotatedImage, folder: Path, content: str) -> None:
    mask = png(_mask_of(image.instances, image.height, image.width), optimize=True)
    write_sealed(_mask_path(folder, image.file_name), f"{content} {image.file_name}", mask)


def _mask_path(folder: Path, file_name: str) -> Path:
    return folder / f"{Path(file_name).stem}.png"
