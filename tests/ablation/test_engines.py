"""The rows of a study are the same whatever engine runs it, and whatever is killed on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ablation_runs import SMALL, main, rows_without_times, runs
from places import TESTS

from dpnet_lite.ablation.engines import EngineOptions
from dpnet_lite.ablation.ray_engine import _require_room
from dpnet_lite.ablation.table import unpack_scores

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at processes as Linux shows them")
SCRIPT = TESTS / "ablation_runs.py"
ROWS = 2 * (2 * 2 * 2 + 2)  # conditions x (folds x seeds x trained variants + folds x untrained ones)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> Path:
    """The study run in this process, from end to end."""
    folder = tmp_path_factory.mktemp("reference")
    main(folder, "local", 1)
    return folder


@contextlib.contextmanager
def started(folder: Path, engine: str):
    """The study in a process of its own, which is gone when the block ends."""
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, str(folder), engine, "2"],
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def finish(folder: Path, engine: str) -> None:
    with started(folder, engine) as process:
        assert process.wait(timeout=300) == 0, (folder / "output.txt").read_text()


def wait_for_rows(path: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 240
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None and time.monotonic() < deadline, "the study ended before it could be killed"
        time.sleep(0.02)


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


def test_the_rows_hold_what_a_reader_needs(reference):
    rows = rows_without_times(reference / "rows.jsonl")
    assert len(rows) == ROWS
    for row in rows.values():
        assert {"key", "code", "identity", "fold", "seed", "versions", "machine", "parameters", "scores"} <= row.keys()
        assert unpack_scores(row["scores"]).miou == row["miou"]
        assert len(unpack_scores(row["scores"]).class_index) == SMALL.n_episodes


def test_variants_of_a_pair_see_the_same_episodes(reference):
    rows = [row for row in rows_without_times(reference / "rows.jsonl").values() if "model" in row["identity"]]
    for fold in SMALL.folds:
        for n_shot in (1, 2):
            own = [r for r in rows if r["fold"] == fold and r["identity"]["n_shot"] == n_shot]
            assert len({row["scores"]["episodes_sha256"] for row in own}) == 1
            training = {row["seed"]: row["training_episodes"] for row in own}
            assert len(set(training.values())) == len(SMALL.seeds)
            assert all(row["training_episodes"] == training[row["seed"]] for row in own)


def test_a_finished_study_is_not_run_again(reference, capsys):
    before = (reference / "rows.jsonl").read_bytes()
    main(reference, "local", 2)
    assert (reference / "rows.jsonl").read_bytes() == before
    assert f"0 of {len({tuple(run.keys()) for run in runs(reference)})} runs to do" in capsys.readouterr().out


def test_killed_twice_and_resumed_the_rows_are_the_same(reference, tmp_path):
    path = tmp_path / "rows.jsonl"
    for count in (1, 9):
        with started(tmp_path, "local") as process:
            wait_for_rows(path, count, process)
            children = workers(b"spawn_main", process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert len(children) == 2
        wait_until_gone(children)  # workers do not outlive a killed parent
        finished = rows_without_times(path)
        assert 0 < len(finished) < ROWS
    finish(tmp_path, "local")
    assert rows_without_times(path) == rows_without_times(reference / "rows.jsonl")
    assert finished.items() <= rows_without_times(path).items()


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{number}/exe").exists() for number in processes):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.1)


def test_ctrl_c_keeps_what_is_done_and_says_so(tmp_path):
    with started(tmp_path, "local") as process:
        wait_for_rows(tmp_path / "rows.jsonl", 1, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    told = (tmp_path / "output.txt").read_text()
    assert "runs are done and kept; the same command goes on" in told
    assert told.count("Traceback") == 1  # that of this script; the command line has none, and no worker has
    assert rows_without_times(tmp_path / "rows.jsonl")


def test_a_worker_that_dies_is_told(tmp_path):
    with started(tmp_path, "local") as process:
        wait_for_rows(tmp_path / "rows.jsonl", 1, process)
        os.kill(workers(b"spawn_main", process.pid)[0], signal.SIGKILL)
        assert process.wait(timeout=60) != 0
    assert "finished runs are kept: call again, with fewer --jobs" in (tmp_path / "output.txt").read_text()


def test_ray_gives_the_same_rows_although_a_worker_is_killed(reference, tmp_path):
    path = tmp_path / "rows.jsonl"
    with started(tmp_path, "ray") as process:
        wait_for_rows(path, 1, process)
        victims = workers(b"ray::execute", process.pid)
        assert victims
        os.kill(victims[0], signal.SIGKILL)
        assert process.wait(timeout=300) == 0, (tmp_path / "output.txt").read_text()
    assert rows_without_times(path) == rows_without_times(reference / "rows.jsonl")


def test_ray_that_has_no_room_says_so():
    with pytest.raises(ValueError, match=r"a run wants 0\.5 GPUs, but the cluster has 0; .* --gpus-per-run"):
        _require_room({"CPU": 2.0}, EngineOptions("ray", gpus=0.5))
    _require_room({"CPU": 2.0, "GPU": 1.0}, EngineOptions("ray", gpus=0.5))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"jobs": 0}, "jobs is 0; give at least 1"),
        ({"gpus": 0.5}, "are for --engine ray"),
        ({"engine": "ray", "jobs": 2, "address": "auto"}, "jobs is 2, but a cluster .* leave --jobs out"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(ValueError, match=words):
        EngineOptions(**settings)
