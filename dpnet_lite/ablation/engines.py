"""Running many runs: in this process, in several on this machine, or on many machines through Ray.

All give the same rows. Only the calling process writes them, as they come in, so a killed job loses no finished run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Literal

from dpnet_lite.ablation.execution import execute
from dpnet_lite.ablation.runs import Run
from dpnet_lite.ablation.table import Row

EngineName = Literal["local", "ray"]


@dataclass(frozen=True)
class EngineOptions:
    """Where runs are executed.

    Attributes:
        jobs: processes on this machine ("local"; 1 is this process), or runs at once on a cluster that Ray starts
            here; None: as many as there are cores.
        address: of a Ray cluster; None starts one on this machine.
        cpus, gpus: share of a machine that Ray keeps for one run; 0.25 GPUs put four runs on one.
    """

    engine: EngineName = "local"
    jobs: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (("jobs", self.jobs, 1), ("cpus", self.cpus, 0), ("gpus", self.gpus, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; give at least {least}")
        if self.engine == "local" and (self.address is not None or self.gpus):
            raise ValueError("--address and --gpus-per-run are for --engine ray")
        if self.address is not None and self.jobs is not None:
            raise ValueError(
                f"jobs is {self.jobs}, but a cluster at an address runs as many as it has room for; "
                "leave --jobs out, or give each run a larger share with --cpus-per-run"
            )


def run_all(runs: Sequence[Run], options: EngineOptions) -> Iterator[tuple[int, list[Row]]]:
    """Execute runs; yields the number of a run in `runs` and its rows, as they are finished."""
    if options.engine == "ray":
        from dpnet_lite.ablation.ray_engine import run_on_ray

        yield from run_on_ray(runs, options)
    elif options.jobs == 1:
        for number, run in enumerate(runs):
            yield number, execute(run)
    else:
        yield from _run_in_processes(runs, options)


def _run_in_processes(runs: Sequence[Run], options: EngineOptions) -> Iterator[tuple[int, list[Row]]]:
    jobs = min(options.jobs or os.cpu_count() or 1, len(runs))
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        waiting = iter(enumerate(runs))
        # Two runs a process are handed over at a time: a stop has little to take back.
        pending = {pool.submit(execute, run): number for number, run in _first(waiting, 2 * jobs)}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future.result()
                pending |= {pool.submit(execute, run): number for number, run in _first(waiting, 1)}
    except BrokenProcessPool:
        raise RuntimeError(
            "a process of this study died, perhaps for want of memory; finished runs are kept: call again, with "
            "fewer --jobs"
        ) from None
    finally:
        processes = list((pool._processes or {}).values())  # shutdown forgets them
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:  # a run half done is of no use: do not wait for it
            process.terminate()


def _first(items: Iterator[tuple[int, Run]], count: int) -> list[tuple[int, Run]]:
    return [item for _, item in zip(range(count), items, strict=False)]


def _start_worker() -> None:
    """Ctrl-C is the parent's; gone when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()  # returns when the parent ends, also when it is killed
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
