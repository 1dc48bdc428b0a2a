"""What makes an entry of COCO's JSON of no use. COCO's own files hold nothing of the kind; converted ones do."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any

import numpy as np

from dpnet_lite.storage.files import require_kinds

_MAX_PIXELS = 100_000_000  # of an image; COCO's have at most 640 x 640
_MAX_NAME = 150  # bytes of a file's name: room for what the cache adds, where systems take 255
_KINDS: dict[str, dict[str, type]] = {
    "category": {"id": int, "name": str},
    "image": {"id": int, "height": int, "width": int, "file_name": str},
    "annotation": {"id": int, "image_id": int, "category_id": int},
}


def sound_entries(
    kind: str, entries: Sequence[Any], fault_of: Callable[[Any], str | None], faults: list[str]
) -> Iterator[Any]:
    """The entries that are of use; a line for each of the others is added to `faults`."""
    known = set[int]()
    for place, entry in enumerate(entries, start=1):
        try:
            require_kinds(entry, _KINDS[kind], "is not of COCO's form")
            fault = "has the id of another one" if entry["id"] in known else fault_of(entry)
            known.add(entry["id"])
        except ValueError as error:
            fault = str(error)
        if fault:
            has_id = isinstance(entry, dict) and "id" in entry
            faults.append(f"{kind} {repr(entry['id'])[:50] if has_id else f'number {place} of the list'} {fault}")
        else:
            yield entry


def image_fault(image: Any) -> str | None:
    """What is wrong with an entry of "images", None where nothing is."""
    if not image["file_name"].isprintable():
        return f"has the unreadable name {image['file_name']!r:.80}"
    name = PureWindowsPath(image["file_name"])  # knows / and \\, on every system
    if not name.stem or name.anchor or ".." in name.parts or len(name.name.encode()) > _MAX_NAME:
        return f"has the file_name {image['file_name']!r:.80}, which is no file in COCO's folder of images"
    height, width = image["height"], image["width"]
    is_sound = min(height, width) > 0 and height * width <= _MAX_PIXELS
    return None if is_sound else f"has {width} x {height} pixels; there must be 1 to {_MAX_PIXELS:,}"


def annotation_fault(entry: Any, images: Mapping[int, Any], categories: Container[int]) -> str | None:
    """What is wrong with an entry of "annotations", None where nothing is; `images` are the sound ones by id."""
    if entry["image_id"] not in images or entry["category_id"] not in categories:
        return f"is of image {entry['image_id']}, category {entry['category_id']}, one of which is not listed"
    if (crowd := entry.get("iscrowd", 0)) not in (0, 1):
        return f"has iscrowd {crowd!r:.50}, which is neither 0 nor 1"
    image, segmentation = images[entry["image_id"]], entry.get("segmentation")
    fault_of = _run_length_fault if isinstance(segmentation, dict) else _polygon_fault
    return fault_of(segmentation, image["height"], image["width"])


def _run_length_fault(code: Mapping[str, Any], height: int, width: int) -> str | None:
    if (size := code.get("size")) != [height, width]:
        return f"has a run-length code of height and width {size}, but its image has {[height, width]}"
    counts: Any = code.get("counts")
    counts = _uncompressed(counts) if isinstance(counts, str) else counts
    is_list = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    return None if is_list and sum(counts) == height * width else "has run lengths that do not fill its image"


def _uncompressed(code: str) -> list[int]:
    """Run lengths from COCO's text; one of -1 where it is no such text.

    A letter, from 0 on, has 5 bits of a number, the lowest first, and one that says whether more follow. From the
    fourth on a number is the difference to the last but one.
    """
    counts = list[int]()
    if not re.fullmatch("([P-o]*[0-O])*", code):
        return [-1]
    for letters in re.findall("[P-o]*[0-O]", code):
        value = sum(((ord(letter) - 48) & 31) << 5 * place for place, letter in enumerate(letters))
        signed = value - (1 << 5 * len(letters)) if letters[-1] >= "@" else value
        counts.append(signed + (counts[-2] if len(counts) > 2 else 0))
    return counts


def _polygon_fault(polygons: Any, height: int, width: int) -> str | None:
    """Also of coordinates far outside, for which pycocotools would take memory without end."""
    try:
        arrays = [np.asarray(polygon) for polygon in polygons] if isinstance(polygons, list) else None
    except ValueError:  # lists of several lengths
        arrays = None
    if arrays is None or any(array.ndim != 1 or array.dtype.kind not in "iuf" or len(array) % 2 for array in arrays):
        return "has a segmentation that is neither polygons [[x1, y1, x2, y2, ...], ...] nor one run-length code"
    if not any(len(array) >= 6 for array in arrays):
        return "has no polygon of three points or more"
    values, side = np.concatenate(arrays), max(height, width)
    strange = values[~((values >= -side) & (values <= 2 * side))]  # NaN is neither
    if len(strange):
        return f"has the coordinate {strange[0]:g}, but its image is {width} x {height}"
    points = [array.reshape(-1, 2) for array in arrays if len(array) >= 6]  # [n, 2] each: x and y
    is_outside = any(((xy < 0).all(axis=0) | (xy > [width, height]).all(axis=0)).any() for xy in points)
    return f"has a polygon outside its image, which is {width} x {height}" if is_outside else None
