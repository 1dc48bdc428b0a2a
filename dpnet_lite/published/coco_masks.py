"""COCO's instances as one mask an image: drawn once, kept as small PNG files, gone on with after a stop.

Where instances overlap, the smaller one lies on top (by its own pixels; among equals the one with the higher id). A
crowd is ignored (255) where no instance is. Both rules are ours: COCO's instances have no order of depth.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from dpnet_lite.caches import default_cache
from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.published.coco_annotations import AnnotatedImage, Instance, file_sha256, read_annotations
from dpnet_lite.published.mask_index import Progress
from dpnet_lite.published.worker_pool import require_workers, run_jobs
from dpnet_lite.tensor_files import write_atomically

RULE_VERSION = 1  # raise it when the same annotations give another mask
AT_ONCE = 16  # images that a process takes at a time


@dataclass(frozen=True)
class CocoMasks:
    """The masks of one annotation file, all of them drawn.

    Attributes:
        folder: where they lie, one PNG an image.
        content: hash of the annotation file, and the version of the rules by which masks are drawn.
        class_names: the 80 classes, in the order of the category ids.
        file_names: of the images, ascending; those without any annotation are left out.
    """

    folder: Path
    content: str
    class_names: tuple[str, ...]
    file_names: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """File names without their extension."""
        return tuple(Path(name).stem for name in self.file_names)

    def mask_path(self, row: int) -> Path:
        """The mask of image `row`: 8-bit grey PNG without a palette."""
        return _mask_path(self.folder, self.file_names[row])


def draw_masks(
    annotations: Path, *, cache_folder: Path | None = None, workers: int = 1, progress: Progress = iter
) -> CocoMasks:
    """Draw the masks that are not there yet; where all are, the annotations are hashed but not parsed.

    Args:
        annotations: an `instances_*.json`.
        cache_folder: the masks lie in a folder of it that is named by the file's SHA-256; the user's cache if None.
        workers: processes that draw. Several callers at once take turns.
        progress: wraps the loop over the images that are missing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not COCO's, an instance makes no sense, or `workers` is below 1.
        ModuleNotFoundError: there is something to draw, and pycocotools is not installed.
    """
    require_workers(workers)
    sha256 = file_sha256(annotations)
    folder = (cache_folder or default_cache()) / f"coco-masks-{sha256[:24]}-{RULE_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        for left_over in folder.glob(".*.tmp"):  # of a process that was killed; nobody else writes now
            left_over.unlink(missing_ok=True)
        masks = _read_list(folder, content=f"{sha256} {RULE_VERSION}")
        if masks is None or not _is_complete(masks):
            masks = _draw_missing(annotations, folder, f"{sha256} {RULE_VERSION}", workers, progress)
    return masks


def mask_of(instances: Sequence[Instance], height: int, width: int) -> np.ndarray:
    """uint8 [height, width]: 0 background, class index + 1, 255 in crowds; see the rules at the top of the file.

    Raises:
        ValueError: the size of a run-length code is not that of the image.
    """
    labels = np.zeros((height, width), dtype=np.uint8)
    drawn = [(instance, instance_pixels(instance.segmentation, height, width)) for instance in instances]
    solid = [(instance, pixels) for instance, pixels in drawn if not instance.is_crowd]
    for instance, pixels in sorted(solid, key=lambda pair: -int(pair[1].sum())):  # keeps the order of equals
        labels[pixels] = instance.class_index + 1
    for instance, pixels in drawn:
        if instance.is_crowd:
            labels[pixels & (labels == 0)] = IGNORE_LABEL
    return labels


def instance_pixels(segmentation: Any, height: int, width: int) -> np.ndarray:
    """bool [height, width]: an instance's polygons or run-length code, drawn by pycocotools.

    Polygons of fewer than three points cover nothing (pycocotools would take four numbers for a box).
    """
    from pycocotools import mask as coder

    if isinstance(segmentation, list):
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        code = coder.merge(coder.frPyObjects(polygons, height, width))
    else:
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(
                f"a run-length code has height and width {segmentation['size']}, but its image has "
                f"{[height, width]}; unpack the annotations again"
            )
        is_plain = isinstance(segmentation["counts"], list)
        code = coder.frPyObjects(segmentation, height, width) if is_plain else segmentation
    with warnings.catch_warnings():  # pycocotools 2.0.11 makes its arrays in a way that NumPy 2 speaks against
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        return np.asarray(coder.decode(code), dtype=bool)


def _draw_missing(annotations: Path, folder: Path, content: str, workers: int, progress: Progress) -> CocoMasks:
    require_pycocotools()
    read = read_annotations(annotations)
    masks = CocoMasks(folder, content, read.class_names, tuple(image.file_name for image in read.images))
    present = set(os.listdir(folder))
    missing = [image for image in read.images if _mask_path(folder, image.file_name).name not in present]
    folders = [folder] * len(missing)
    run_jobs(_draw_one, missing, folders, workers=workers, at_once=AT_ONCE, progress=progress)
    listing = {"class_names": masks.class_names, "file_names": masks.file_names}
    write_atomically(folder / "list.json", json.dumps(listing).encode())
    return masks


def _draw_one(image: AnnotatedImage, folder: Path) -> None:
    try:
        labels = mask_of(image.instances, image.height, image.width)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"the annotations of {image.file_name} do not make sense: {error}") from None
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, format="PNG", optimize=True)
    write_atomically(_mask_path(folder, image.file_name), buffer.getvalue())


def _mask_path(folder: Path, file_name: str) -> Path:
    return folder / f"{Path(file_name).stem}.png"


def _read_list(folder: Path, content: str) -> CocoMasks | None:
    path = folder / "list.json"
    if not path.is_file():
        return None
    listing = json.loads(path.read_text(encoding="utf-8"))
    return CocoMasks(folder, content, tuple(listing["class_names"]), tuple(listing["file_names"]))


def _is_complete(masks: CocoMasks) -> bool:
    return {f"{image_id}.png" for image_id in masks.ids} <= set(os.listdir(masks.folder))


def require_pycocotools() -> None:
    """ModuleNotFoundError with the remedy where it is not installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError("pycocotools draws COCO's masks: pip install 'dpnet-lite[benchmarks]'") from None
