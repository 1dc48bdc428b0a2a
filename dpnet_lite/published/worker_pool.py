"""One job for each of many files, in this process or in several (joblib's loky), with a bar that follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dpnet_lite.features import Progress
from dpnet_lite.published.extras import import_extra

_AT_ONCE = 16  # calls that a process takes at a time


def require_workers(workers: int) -> None:
    """ValueError where there are none."""
    if workers < 1:
        raise ValueError(f"there are {workers} workers; give 1 or more")


def run_jobs(job: Callable[..., None], *arguments: Sequence[Any], workers: int = 1, progress: Progress = iter) -> None:
    """Call `job` with the first of all `arguments`, then with the second, and so on, as `map` does.

    Args:
        job: a function of a module.
        workers: processes; 1 takes none but this one, as do fewer calls than a process takes at a time.
        progress: wraps the loop over the calls.

    Raises ValueError: `workers` is below 1; ModuleNotFoundError: several workers are asked for, and joblib is not
    installed; RuntimeError: a process was killed; Exception: what a job raised; calls that have not begun are dropped.
    """
    require_workers(workers)
    count = len(arguments[0])
    if workers == 1 or count <= _AT_ONCE:
        _exhaust(map(job, *arguments), count, progress)
        return
    joblib = import_extra("joblib", "runs several workers")
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    calls = (joblib.delayed(job)(*own) for own in zip(*arguments, strict=True))
    results = joblib.Parallel(n_jobs=workers, batch_size=_AT_ONCE, return_as="generator")(calls)
    try:
        _exhaust(results, count, progress)
    except TerminatedWorkerError:
        why = "perhaps for want of memory, or of room on the disk"
        raise RuntimeError(f"a worker process was killed, {why}; run this again") from None
    finally:
        results.close()


def _exhaust(results: Iterator[None], count: int, progress: Progress) -> None:
    for _ in progress(range(count)):
        next(results)
