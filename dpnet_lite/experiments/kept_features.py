"""The features of a whole data set, computed once and kept, in memory or in a memory-mapped file for the next run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.datasets.base import KnownAreas, SegmentationDataset
from dpnet_lite.datasets.transforms import normalise, resize_sample
from dpnet_lite.features import FeatureBank, Progress

_Arrays = dict[str, tuple[Any, tuple[int, ...]]]  # kind and shape of each file of a cache, by its name
CHUNK = 16  # images through the backbone at once


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
    """
    cells, views = -(-size // backbone.stride), 2 if flip else 1
    shape = (len(dataset), views, cells, cells, backbone.out_channels)
    starts = range(0, len(dataset), CHUNK)
    if cache_folder is None:
        features, labels = np.empty(shape, np.float16), np.empty((len(dataset), size, size), np.uint8)
        for _ in _compute(dataset, backbone, features, labels, progress(starts), device):
            pass
        return FeatureBank(dataset, backbone, size, features, torch.from_numpy(labels))
    what = f"{dataset.fingerprint} {backbone.cache_key} {size} {shape}"
    path = cache_folder / hashlib.sha256(what.encode()).hexdigest()[:24]
    path.mkdir(parents=True, exist_ok=True)
    arrays: _Arrays = {
        "features": (np.float16, shape),
        "labels": (np.uint8, (len(dataset), size, size)),
        "areas": (np.float32, (len(dataset), len(dataset.class_names))),
    }
    with FileLock(path / "lock"):  # a process that is killed lets the next in
        if not all(_is_whole(path / f"{name}.npy", *array) for name, array in arrays.items()):
            _fill(path, arrays, dataset, backbone, progress, device)
    # Copy on write: torch wants arrays that it could write to.
    features, labels = np.load(path / "features.npy", mmap_mode="c"), np.load(path / "labels.npy")
    known = KnownAreas(dataset, np.load(path / "areas.npy"))
    return FeatureBank(known, backbone, size, features, torch.from_numpy(labels))


def _fill(
    path: Path,
    arrays: _Arrays,
    dataset: SegmentationDataset,
    backbone: Backbone,
    progress: Progress,
    device: str | torch.device,
) -> None:
    """Compute what is missing of the files in `path`."""
    features, labels, done_file = _started(path, {name: arrays[name] for name in ("features", "labels")})
    starts = range(int(done_file.read_text()), len(dataset), CHUNK)
    if len(starts):
        for stop in _compute(dataset, backbone, features, labels, progress(starts), device):
            done_file.write_text(str(stop))
    np.save(path / "areas.tmp.npy", dataset.class_areas)
    (path / "areas.tmp.npy").replace(path / "areas.npy")  # last: where it lies, the others are full


def _is_whole(file: Path, dtype: Any, shape: tuple[int, ...]) -> bool:
    """Whether a file holds an array of that kind, none of it cut off."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return array.dtype == dtype and array.shape == shape


def _started(path: Path, arrays: _Arrays) -> tuple[np.ndarray, np.ndarray, Path]:
    """Arrays to fill, and the file that holds how many images are done; begun anew where one of them is damaged."""
    done_file, files = path / "done", [path / f"{name}.npy" for name in arrays]
    is_sound = all(_is_whole(file, *array) for file, array in zip(files, arrays.values(), strict=True))
    if not (is_sound and done_file.exists() and done_file.read_text().isdigit()):
        done_file.unlink(missing_ok=True)
        (path / "areas.npy").unlink(missing_ok=True)
        for file, (dtype, shape) in zip(files, arrays.values(), strict=True):
            np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)
        done_file.write_text("0")
    features, labels = (np.lib.format.open_memmap(file, mode="r+") for file in files)
    return features, labels, done_file


@torch.no_grad()
def _compute(
    dataset: SegmentationDataset,
    backbone: Backbone,
    features: np.ndarray,
    labels: np.ndarray,
    starts: Iterable[int],
    device: str | torch.device,
) -> Iterator[int]:
    """Fill in features and labels chunk by chunk; gives how many images are done."""
    for start in starts:
        rows = slice(start, min(start + CHUNK, len(dataset)))
        samples = [resize_sample(dataset[i], labels.shape[-1]) for i in range(rows.start, rows.stop)]
        labels[rows] = np.stack([sample.labels.numpy() for sample in samples])
        images = normalise(torch.stack([sample.image for sample in samples])).to(device)
        for view in range(features.shape[1]):
            found = backbone(images.flip(-1) if view else images)
            features[rows, view] = found.permute(0, 2, 3, 1).half().cpu().numpy()  # [n, D, h, w] -> [n, h, w, D]
        yield rows.stop
