"""Runs on a Ray cluster: one task a run, retried where its worker dies. Needs the extra `cluster`."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dpnet_lite.ablation.execution import execute
from dpnet_lite.ablation.runs import Run
from dpnet_lite.ablation.table import Row

if TYPE_CHECKING:
    from dpnet_lite.ablation.engines import EngineOptions

RETRIES = 3  # of a task whose worker died


def run_on_ray(runs: Sequence[Run], options: EngineOptions) -> Iterator[tuple[int, list[Row]]]:
    """Execute runs on the cluster at `options.address`, or on one started here for the time of the call.

    Every machine keeps its own cache of features and weights; folders that are named must exist on all of them.
    """
    if importlib.util.find_spec("ray") is None:
        raise ModuleNotFoundError("Ray is missing; install it with: pip install 'dpnet-lite[cluster]'")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere; it also starts far sooner
    os.environ.setdefault("RAY_worker_niceness", "0")  # by default workers yield to whatever else the machine does
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        ray.init(
            address=options.address,
            num_cpus=options.jobs,
            log_to_driver=False,
            include_dashboard=False,
            logging_level=logging.ERROR,
        )
    try:
        _require_room(ray.cluster_resources(), options)
        task = ray.remote(execute).options(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=RETRIES)
        pending = {task.remote(run): number for number, run in enumerate(runs)}
        while pending:
            done, _ = ray.wait(list(pending), num_returns=1)
            for reference in done:
                yield pending.pop(reference), ray.get(reference)
    finally:
        if started_here:
            ray.shutdown()


def _require_room(resources: dict[str, float], options: EngineOptions) -> None:
    """ValueError where no run would ever start; Ray itself would wait without a word."""
    for name, wanted in (("CPU", options.cpus), ("GPU", options.gpus)):
        if wanted > resources.get(name, 0):
            raise ValueError(
                f"a run wants {wanted:g} {name}s, but the cluster has {resources.get(name, 0):g}; give less with "
                f"--{name.lower()}s-per-run, or more machines"
            )
