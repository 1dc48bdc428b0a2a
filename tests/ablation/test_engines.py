"""The rows of a study are the same whatever engine runs it, and whatever is killed on the way."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ablation_runs import main, rows_without_times, runs
from places import TESTS

from dpnet_lite.ablation import engines
from dpnet_lite.ablation.engines import EngineOptions

SCRIPT = TESTS / "ablation_runs.py"
ROWS = 2 * (2 * 2 * 2 + 2)  # conditions x (folds x seeds x trained variants + folds x untrained ones)
LOCAL, ON_RAY = b"popen_loky", b"ray::PoolActor"  # what stands in the command lines of workers
linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at processes as Linux shows them")


@contextlib.contextmanager
def started(folder: Path, engine: str = "local"):
    """The study in a process group of its own, which is gone when the block ends."""
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, str(folder), engine, "2"],
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def ended(folder: Path, process: subprocess.Popen) -> tuple[int, str]:
    """Exit status of the study, and what it said."""
    return process.wait(timeout=300), (folder / "output.txt").read_text()


def wait_for_rows(folder: Path, count: int, process: subprocess.Popen) -> None:
    deadline, n_rows = time.monotonic() + 240, 0
    while n_rows < count:
        assert process.poll() is None and time.monotonic() < deadline, "the study ended before it could be killed"
        time.sleep(0.02)
        with contextlib.closing(sqlite3.connect(folder / "rows.sqlite")) as table, contextlib.suppress(sqlite3.Error):
            (n_rows,) = table.execute("SELECT count(*) FROM rows").fetchone()


def workers(name: bytes, ancestor: int) -> list[int]:
    """Numbers of the descendants of a process whose command line has `name`."""
    found, generation = [], [ancestor]
    while generation:
        children = [
            int(child)
            for parent in generation
            for tasks in Path(f"/proc/{parent}/task").glob("*/children")
            for child in tasks.read_text().split()
        ]
        found += [child for child in children if name in Path(f"/proc/{child}/cmdline").read_bytes()]
        generation = children
    return found


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{number}/exe").exists() for number in processes):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.1)


def test_a_finished_study_is_not_run_again(reference, capsys):
    before = rows_without_times(reference)
    assert len(before) == ROWS
    main(reference, "local", 2)
    assert rows_without_times(reference) == before
    assert f"0 of {len({tuple(run.row_keys) for run in runs(reference)})} runs to do" in capsys.readouterr().out


@linux
@pytest.mark.slow
def test_killed_twice_and_resumed_the_rows_are_the_same(reference, tmp_path):
    for count in (1, 9):
        with started(tmp_path) as process:
            wait_for_rows(tmp_path, count, process)
            children = workers(LOCAL, process.pid)
            process.kill()
            process.wait()
        assert len(children) == 2
        wait_until_gone(children)  # workers do not outlive a killed parent
        finished = rows_without_times(tmp_path)
        assert 0 < len(finished) < ROWS
    with started(tmp_path) as process:
        status, told = ended(tmp_path, process)
    assert status == 0, told
    assert rows_without_times(tmp_path) == rows_without_times(reference)
    assert finished.items() <= rows_without_times(tmp_path).items()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["parent", "group"])
def test_ctrl_c_keeps_what_is_done_and_says_so(tmp_path, send):
    with started(tmp_path) as process:
        wait_for_rows(tmp_path, 1, process)
        send(process.pid, signal.SIGINT)  # to the group: as at a terminal
        status, told = ended(tmp_path, process)
    assert status != 0 and "runs are done and kept; the same command goes on" in told
    assert told.count("Traceback") == 1  # that of this script; the command line has none, and no worker has
    assert rows_without_times(tmp_path)


@linux
@pytest.mark.slow
def test_a_worker_that_dies_is_told(tmp_path):
    with started(tmp_path) as process:
        wait_for_rows(tmp_path, 1, process)
        os.kill(workers(LOCAL, process.pid)[0], signal.SIGKILL)
        status, told = ended(tmp_path, process)
    assert status != 0 and "finished runs are kept: make room, and call again with fewer --jobs" in told


@linux
@pytest.mark.slow
def test_ray_gives_the_same_rows_although_a_worker_is_killed(reference, tmp_path):
    with started(tmp_path, "ray") as process:
        wait_for_rows(tmp_path, 1, process)
        victims = workers(ON_RAY, process.pid)
        assert victims
        os.kill(victims[0], signal.SIGKILL)
        status, told = ended(tmp_path, process)
    assert status == 0, told
    assert rows_without_times(tmp_path) == rows_without_times(reference)


@pytest.mark.parametrize(
    ("share", "machines", "room"),
    [
        ({}, [{"CPU": 2.0}, {"CPU": 3.5}], 5),
        ({"cpus": 2}, [{"CPU": 3.0}, {"CPU": 3.0}], 2),  # a run has its cores on one machine
        ({"gpus": 0.25}, [{"CPU": 64.0, "GPU": 1.0}, {"CPU": 2.0}], 4),
        ({"gpus": 0.5}, [{"CPU": 2.0}], "the cluster has CPUs: 2, GPUs: 0; so room for runs at once: 0; give less"),
        ({}, [{"CPU": 1.0}], "the cluster has CPUs: 1; so room for runs at once: 1; .* run without --engine ray"),
    ],
)
def test_a_cluster_takes_as_many_runs_as_it_has_room_for(share, machines, room):
    if isinstance(room, int):
        assert engines._room(machines, EngineOptions("ray", **share)) == room
    else:
        with pytest.raises(ValueError, match=room):
            engines._room(machines, EngineOptions("ray", **share))


@pytest.mark.parametrize(("library", "extra"), [("joblib", "notebooks"), ("ray", "cluster")])
def test_a_library_that_is_missing_is_named_with_the_remedy(library, extra, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == library else found(name))
    with pytest.raises(ModuleNotFoundError, match=rf"{library} is missing; .* pip install 'dpnet-lite\[{extra}\]'"):
        next(engines.run_all([], EngineOptions("ray")))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"jobs": 0}, "jobs is 0; give at least 1"),
        ({"engine": "ray", "cpus": float("nan")}, "cpus is nan; give at least 0"),
        ({"engine": "ray", "gpus": float("inf")}, "gpus is inf; give at least 0"),
        ({"gpus": 0.5}, "are for --engine ray"),
        ({"engine": "ray", "jobs": 2, "address": "auto"}, "jobs is 2, but a cluster .* leave --jobs out"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(ValueError, match=words):
        EngineOptions(**settings)
