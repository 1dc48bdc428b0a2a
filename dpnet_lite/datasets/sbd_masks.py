"""Masks of SBD's .mat files as PNG, so that training needs no scipy and every layout is read in one way."""

from __future__ import annotations

import io
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ..tensor_files import write_atomically
from .mask_index import Progress

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
        workers: processes that convert.
        progress: wraps the loop over the files.

    Raises:
        ModuleNotFoundError: scipy is not installed.
        ValueError: a file is broken.
    """
    require_scipy()
    sources = [source / f"{name}.mat" for name in names]
    targets = [target / f"{name}.png" for name in names]
    if workers == 1 or len(names) <= AT_ONCE:
        _exhaust(map(_convert, sources, targets), len(names), progress)
        return
    # Spawned, since a fork of a process with threads can hang. A worker that dies ends the job with an error.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent) as pool:
        try:
            _exhaust(pool.map(_convert, sources, targets, chunksize=AT_ONCE), len(names), progress)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _exhaust(converted: Iterator[None], count: int, progress: Progress) -> None:
    for _ in progress(range(count)):
        next(converted)


def _convert(source: Path, target: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(read_sbd_mask(source)).save(buffer, format="PNG")
    write_atomically(target, buffer.getvalue())


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
