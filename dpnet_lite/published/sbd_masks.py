"""Masks of SBD's .mat files as PNG, so that training needs no scipy and every layout is read in one way."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dpnet_lite.published.mask_index import Progress
from dpnet_lite.published.worker_pool import run_jobs
from dpnet_lite.tensor_files import write_atomically

AT_ONCE = 32  # files that a process takes at a time


def require_scipy() -> None:
    """ModuleNotFoundError with the remedy where it is not installed."""
    try:
        import scipy.io  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError("scipy reads SBD's .mat files: pip install 'dpnet-lite[benchmarks]'") from None


def read_sbd_mask(path: Path) -> np.ndarray:
    """Labels of one annotation of SBD, uint8 [H, W]: 0 background, 1 to 20 a class; SBD marks nothing as ignored.

    Raises:
        ValueError: the file is no such annotation.
    """
    import scipy.io

    try:
        labels = np.asarray(scipy.io.loadmat(path, variable_names=["GTcls"])["GTcls"][0]["Segmentation"][0])
    except Exception as error:  # broken files make scipy raise anything from TypeError to zlib.error
        raise ValueError(
            f"{path} is no annotation of SBD ({type(error).__name__}); unpack benchmark.tgz again"
        ) from None
    if labels.ndim != 2 or labels.dtype != np.uint8 or labels.max(initial=0) > 20:
        raise ValueError(f"{path} holds other values than the classes 0 to 20; unpack benchmark.tgz again")
    return labels


def convert_masks(
    names: Sequence[str], source: Path, target: Path, *, workers: int = 1, progress: Progress = iter
) -> None:
    """Write source/NAME.mat as target/NAME.png for all names, each file whole or not at all.

    Args:
        names: of the files, without extension; leave out those that are done already.
        source: SBD's folder cls.
        target: folder of the PNG files; is made.
        workers: processes that convert, 1 or more.
        progress: wraps the loop over the files.

    Raises:
        ModuleNotFoundError: scipy is not installed.
        ValueError: a file is broken, or `workers` is below 1.
    """
    require_scipy()
    sources = [source / f"{name}.mat" for name in names]
    targets = [target / f"{name}.png" for name in names]
    run_jobs(_convert, sources, targets, workers=workers, at_once=AT_ONCE, progress=progress)


def _convert(source: Path, target: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(read_sbd_mask(source)).save(buffer, format="PNG")
    write_atomically(target, buffer.getvalue())
