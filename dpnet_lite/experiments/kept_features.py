"""The features of a whole data set, computed once and kept, in memory or in a memory-mapped file for the next run."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.backbones.devices import check_device
from dpnet_lite.datasets.base import IGNORE_LABEL, KnownAreas, Sample, SegmentationDataset, class_counts
from dpnet_lite.datasets.transforms import check_size, normalise, resize_sample
from dpnet_lite.features import FeatureBank, Progress
from dpnet_lite.storage.files import locked, told

_LOG = logging.getLogger(__name__)
_Arrays = dict[str, tuple[Any, tuple[int, ...]]]  # kind and shape of each file of a cache, by its name
CHUNK = 16  # images through the backbone at once
# On a disk that is full, writing into a file that has no room yet would end the process. (Not on macOS and Windows.)
_reserve = getattr(os, "posix_fallocate", lambda *_: None)


def compute_features(
    dataset: SegmentationDataset,
    backbone: Backbone,
    *,
    size: int,
    flip: bool = False,
    cache_folder: Path | None = None,
    progress: Progress = iter,
    device: str | torch.device = "cpu",
) -> FeatureBank:
    """The features of a data set squashed to `size` pixels.

    Args:
        flip: also those of the mirrored images, as a second view.
        cache_folder: where they are kept for the next run, or for other processes, which wait for the first one. Work
            that was broken off is continued. None keeps them in memory.
        progress: wraps the loop over images.
        device: where the backbone is.

    Raises ValueError: no such size or device, or labels that do not fit their image or hold what is no class.
    """
    size, device = check_size(size), check_device(device)
    cells, views = -(-size // backbone.stride), 2 if flip else 1
    shape = (len(dataset), views, cells, cells, backbone.out_channels)
    compute = partial(_compute, dataset, backbone, progress, device)
    if cache_folder is None:
        features, labels = np.empty(shape, np.float16), np.empty((len(dataset), size, size), np.uint8)
        for _ in compute(features, labels, range(0, len(dataset), CHUNK)):
            pass
        return FeatureBank(dataset, backbone, size, features, torch.from_numpy(labels))
    what = f"{dataset.fingerprint} {backbone.cache_key} {size} {shape}"
    path = Path(cache_folder) / hashlib.sha256(what.encode()).hexdigest()[:24]
    arrays: _Arrays = {
        "features": (np.float16, shape),
        "labels": (np.uint8, (len(dataset), size, size)),
        "areas": (np.float32, (len(dataset), len(dataset.class_names))),
    }
    with locked(path / "lock", f"another process fills {path}", option="--cache"):
        if not any(_fill(path, what, arrays, dataset, compute) for _ in range(3)):  # what was filled is read again
            raise OSError(f"{path} does not keep what is written to it; name another folder with --cache")
        # Copy on write: torch wants arrays that it could write to.
        features = np.load(path / "features.npy", mmap_mode="c")
        labels, areas = np.load(path / "labels.npy"), np.load(path / "areas.npy")
    return FeatureBank(KnownAreas(dataset, areas), backbone, size, features, torch.from_numpy(labels))


def _fill(
    path: Path, what: str, arrays: _Arrays, dataset: SegmentationDataset, compute: Callable[..., Iterator[int]]
) -> bool:
    """Compute what is missing of the files in `path`, or damaged, or of other images; whether nothing was.

    `done` has a line for each part that was written: its first image, or "areas", and the SHA-256 of `what`, which says
    whose features these are, and its numbers.
    """
    features, labels, areas = _opened(path, arrays)
    done = path / "done"
    known = dict(re.findall(r"(?m)^(\w+) (\w{64})$", done.read_text(errors="replace") if done.exists() else ""))
    parts = {str(i): (features[i : i + CHUNK], labels[i : i + CHUNK]) for i in range(0, len(dataset), CHUNK)}
    missing = [name for name, part in {**parts, "areas": (areas,)}.items() if known.get(name) != _digest(what, *part)]
    if damaged := len(known.keys() & missing):
        _LOG.warning("%s: %d parts are damaged, or of other images, and are computed again", path, damaged)
    if starts := [int(name) for name in missing if name != "areas"]:
        for start in compute(features, labels, starts):
            _note(done, str(start), what, *parts[str(start)])
    if "areas" in missing:
        areas[:] = dataset.class_areas
        _note(done, "areas", what, areas)
    return not missing


def _note(done: Path, name: str, what: str, *arrays: np.ndarray) -> None:
    with told(done, "--cache"), done.open("a") as lines:
        lines.write(f"\n{name} {_digest(what, *arrays)}")  # the last line may be half of one


def _digest(what: str, *arrays: np.ndarray) -> str:
    digest = hashlib.sha256(f"{what}\n".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def _opened(path: Path, arrays: _Arrays) -> list[np.ndarray]:
    """The files of a cache, to be filled; made anew where one is missing or of another kind."""
    files = {path / f"{name}.npy": array for name, array in arrays.items()}
    if not all(_is_whole(file, *array) for file, array in files.items()):
        sizes = {file: np.dtype(kind).itemsize * math.prod(shape) for file, (kind, shape) in files.items()}
        try:
            with told(path, "--cache", sum(sizes.values())):
                for file, (kind, shape) in files.items():
                    file.unlink(missing_ok=True)  # never emptied: another process may be reading it
                    start = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape).offset
                    with file.open("r+b") as opened:
                        _reserve(opened.fileno(), start, sizes[file])
        except OSError:
            for file in files:
                file.unlink(missing_ok=True)
            raise
    return [np.load(file, mmap_mode="r+") for file in files]


def _is_whole(file: Path, dtype: Any, shape: tuple[int, ...]) -> bool:
    """Whether a file holds an array of that kind, none of it cut off."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError, OverflowError):
        return False
    return array.dtype == dtype and array.shape == shape and array.flags.c_contiguous


def _checked(dataset: SegmentationDataset, index: int) -> Sample:
    """A sample, its labels uint8; ValueError where they do not fit the image, or hold what is no class."""
    image, labels = dataset[index]
    if image.shape[1:] != labels.shape:
        sizes = f"the image is {list(image.shape)}, its labels are {list(labels.shape)}"
        raise ValueError(f"image {index} of {dataset.name}: {sizes}; give [3, H, W] and [H, W]")
    n_classes = len(dataset.class_names)
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) <= IGNORE_LABEL:
        raise ValueError(f"image {index} of {dataset.name} has labels {labels.min()} to {labels.max()}; give 0 to 255")
    class_counts(f"image {index} of {dataset.name}", labels, n_classes, f"there are {n_classes} classes")
    return Sample(image, labels.to(torch.uint8))


@torch.no_grad()
def _compute(
    dataset: SegmentationDataset,
    backbone: Backbone,
    progress: Progress,
    device: str | torch.device,
    features: np.ndarray,
    labels: np.ndarray,
    starts: Sequence[int],
) -> Iterator[int]:
    """Fill in features and labels from each of `starts` on; gives a chunk's first image when it is done."""
    for start in progress(starts):
        rows = slice(start, min(start + CHUNK, len(dataset)))
        samples = [resize_sample(_checked(dataset, i), labels.shape[-1]) for i in range(rows.start, rows.stop)]
        labels[rows] = np.stack([sample.labels.numpy() for sample in samples])
        images = normalise(torch.stack([sample.image for sample in samples])).to(device)
        for view in range(features.shape[1]):
            found = backbone(images.flip(-1) if view else images)
            features[rows, view] = found.permute(0, 2, 3, 1).half().cpu().numpy()  # [n, D, h, w] -> [n, h, w, D]
        yield start
