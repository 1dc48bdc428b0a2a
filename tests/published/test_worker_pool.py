"""Jobs in several processes: what a job raises, a process that is killed, Ctrl-C, a package that is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from coco_fss_trees import write_coco

from dpnet_lite.published.worker_pool import run_jobs


def test_a_process_that_dies_is_told_in_one_line() -> None:
    with pytest.raises(RuntimeError, match=r"^a worker process was killed, .*; run this again$"):
        run_jobs(os._exit, [1] * 40, workers=2)


def test_without_joblib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    done: list[int] = []
    run_jobs(done.append, list(range(40)))  # one process needs none
    assert done == list(range(40))
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'dpnet-lite\[benchmarks\]'"):
        run_jobs(done.append, list(range(40)), workers=2)


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_in_one_line(tmp_path: Path, default_interrupt: None) -> None:
    write_coco(tmp_path / "coco", splits=["train", "val"], n_classes=80, per_class=40, pictures=False)
    words = ["data", "prepare", "coco20i", "--root", tmp_path / "coco", "--cache", tmp_path / "cache", "--workers", "2"]
    job = subprocess.Popen(
        [sys.executable, "-m", "dpnet_lite", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as at a terminal
    )
    limit = time.monotonic() + 120
    while not list(tmp_path.glob("cache/*/*.png")) and job.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(job.pid, signal.SIGINT)
    error = job.communicate(timeout=60)[1]
    assert job.returncode == 130 and error.endswith("dpnet-lite: stopped\n") and "Traceback" not in error, error
