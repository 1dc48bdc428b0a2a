"""One job for each of many files, in this process or in several, with a bar that follows and a clean end on Ctrl-C."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from dpnet_lite.published.mask_index import Progress


def require_workers(workers: int) -> None:
    """ValueError where there are none."""
    if workers < 1:
        raise ValueError(f"there are {workers} workers; give 1 or more")


def run_jobs(
    job: Callable[..., None],
    *arguments: Sequence[Any],
    workers: int = 1,
    at_once: int = 16,
    progress: Progress = iter,
) -> None:
    """Call `job` with the first of all `arguments`, then with the second, and so on, as `map` does.

    Args:
        job: a function of a module, which a spawned process can import.
        arguments: sequences of one length.
        workers: processes; 1 takes none but this one, as do fewer files than a process takes at a time.
        at_once: calls that a process takes at a time.
        progress: wraps the loop over the calls.

    Raises:
        ValueError: `workers` is below 1.
        Exception: what a job raised; calls that have not begun are dropped.
    """
    require_workers(workers)
    count = len(arguments[0])
    if workers == 1 or count <= at_once:
        _exhaust(map(job, *arguments), count, progress)
        return
    # Spawned, since a fork of a process with threads can hang. A worker that dies ends the job with an error.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent) as pool:
        try:
            _exhaust(pool.map(job, *arguments, chunksize=at_once), count, progress)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _exhaust(results: Iterator[None], count: int, progress: Progress) -> None:
    for _ in progress(range(count)):
        next(results)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
