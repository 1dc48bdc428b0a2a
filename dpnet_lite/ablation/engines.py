"""Running many runs through joblib: in processes of this machine (loky), or on many machines (its Ray backend).

All give the same rows. Only the calling process writes them, as they come in, so a killed job loses no finished run.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

from dpnet_lite.ablation.execution import execute
from dpnet_lite.ablation.runs import Run
from dpnet_lite.ablation.table import Row

_EXTRAS = {"joblib": "notebooks", "scipy": "notebooks", "ray": "cluster"}
_RETRIES = 3  # of a run whose worker died on a cluster


@dataclass(frozen=True)
class EngineOptions:
    """Where runs are executed.

    Attributes:
        jobs: processes on this machine ("local"; 1 is this process), or runs at once on a cluster that Ray starts
            here; None: as many as there are cores.
        address: of a Ray cluster; None starts one on this machine.
        cpus, gpus: share of a machine that Ray keeps for one run; 0.25 GPUs put four runs on one.
    """

    engine: Literal["local", "ray"] = "local"
    jobs: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (("jobs", self.jobs, 1), ("cpus", self.cpus, 0), ("gpus", self.gpus, 0)):
            if value is not None and not least <= value < math.inf:  # nan is in no range
                raise ValueError(f"{name} is {value}; give at least {least}")
        if self.engine == "local" and (self.address is not None or self.gpus):
            raise ValueError("--address and --gpus-per-run are for --engine ray")
        if self.address is not None and self.jobs is not None:
            raise ValueError(
                f"jobs is {self.jobs}, but a cluster at an address runs as many as it has room for; "
                "leave --jobs out, or give each run a larger share with --cpus-per-run"
            )


def require(*libraries: str) -> None:
    """ModuleNotFoundError, with the remedy, for the first of these libraries that is not installed."""
    for name in libraries:
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is missing; install it with: pip install 'dpnet-lite[{_EXTRAS[name]}]'")


def run_all(runs: Sequence[Run], options: EngineOptions) -> Iterator[tuple[int, list[Row]]]:
    """Execute runs; yields the number of a run in `runs` and its rows, as they are finished."""
    require("joblib", *(["ray"] if options.engine == "ray" else []))
    import joblib

    tasks = (joblib.delayed(_numbered)(number, run) for number, run in enumerate(runs))
    with _ray_backend(options) if options.engine == "ray" else _local_backend(options, len(runs)) as settings:
        # One run at a time, and few handed over ahead: a stop has little to take back.
        parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, **settings)
        try:
            yield from parallel(tasks)
        except BrokenProcessPool:
            raise RuntimeError(
                "a process of this study died, perhaps for want of memory or of room on the disk; finished runs are "
                "kept: make room, and call again with fewer --jobs"
            ) from None


def _numbered(number: int, run: Run) -> tuple[int, list[Row]]:
    return number, execute(run)


@contextmanager
def _local_backend(options: EngineOptions, n_runs: int) -> Iterator[Mapping[str, Any]]:
    jobs = min(options.jobs or os.cpu_count() or 1, n_runs)
    yield {"n_jobs": 1} if jobs == 1 else {"n_jobs": jobs, "backend": "loky", "initializer": _end_with_parent}


def _end_with_parent() -> None:
    """Make this process end when the one that started it is gone, even killed: a run half done is of no use."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _ray_backend(options: EngineOptions) -> Iterator[Mapping[str, Any]]:
    """The cluster at `options.address`, or one started here for the time of the block.

    Every machine keeps its own cache of features and weights; folders that are named must exist on all of them.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere; it also starts far sooner
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers yield to whatever else the machine does
    import ray
    from ray.util.joblib.ray_backend import RayBackend

    class Backend(RayBackend):
        supports_return_generator = True  # it gives results as they come, but does not say so

    started_here = not ray.is_initialized()
    if started_here:
        quiet: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "logging_level": logging.ERROR}
        ray.init(address=options.address, num_cpus=options.jobs, **quiet)
    try:
        share = {"num_cpus": options.cpus, "num_gpus": options.gpus}
        remote = {**share, "max_restarts": _RETRIES, "max_task_retries": _RETRIES}
        jobs = _room([node["Resources"] for node in ray.nodes() if node["Alive"]], options)
        yield {"n_jobs": jobs, "backend": Backend(ray_remote_args=remote)}
    finally:
        if started_here:
            ray.shutdown()


def _room(machines: Sequence[Mapping[str, float]], options: EngineOptions) -> int:
    """For how many runs at once the machines have room.

    Raises:
        ValueError: for none, or for one, which joblib would not hand to Ray.
    """
    shares = {name: share for name, share in (("CPU", options.cpus), ("GPU", options.gpus)) if share}
    room = sum(int(min((m.get(name, 0) / share for name, share in shares.items()), default=1)) for m in machines)
    if room < 2:
        has = ", ".join(f"{name}s: {sum(m.get(name, 0) for m in machines):g}" for name in shares)
        raise ValueError(
            f"the cluster has {has}; so room for runs at once: {room}; give less with --cpus-per-run or "
            "--gpus-per-run, more machines, or run without --engine ray"
        )
    return room
