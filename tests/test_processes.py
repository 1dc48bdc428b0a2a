"""Training in several processes, as torchrun starts them: equal to one, and what stopped goes on in another number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from core_fixtures import assert_same
from made_up_pascal import write_pascal
from places import ROOT
from small_runs import folder_options, run, write_folder

from dpnet_lite.checkpoints import load_head
from dpnet_lite.storage.run_folder import load_training_state

pytestmark = pytest.mark.slow
STEPS = 20
# Everything that could make processes differ is on: dropout, mirroring, ignored and weighted pixels.
SETTINGS = ["--novel", "ignore", "--fold", 1, "--steps", STEPS, "--threads", 1, "--model", "channels=8", "dropout=0.3"]
SETTINGS += ["--training", "batch_size=4", "foreground_weight=3", "overlap_weight=1", "warmup_steps=1", "optimiser=sgd"]
SETTINGS += ["learning_rate=0.05", "checkpoint_every=4"]


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[object]:
    home = tmp_path_factory.mktemp("processes")
    return ["train", *folder_options(write_folder(home / "mine"), home / "cache"), *SETTINGS]


@pytest.fixture(scope="module")
def one(options, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of an uninterrupted run in one process."""
    return trained(options, tmp_path_factory.mktemp("one") / "one.safetensors")


def changed(options: list[object], text: str) -> list[object]:
    """The options with another setting in the place of their own."""
    return [*(word for word in options if not str(word).startswith(text.partition("=")[0])), text]


def trained(options: list[object], out: Path) -> dict[str, torch.Tensor]:
    assert run(*options, "--out", out) == 0
    return load_head(out)[0].state_dict()


@contextmanager
def started(options: list[object], out: Path, n_processes: int) -> Iterator[subprocess.Popen[str]]:
    """One process, or torchrun with several; all are gone afterwards, whatever happens."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(n_processes), "-m"]
    command = [sys.executable, "-m", *(torchrun if n_processes > 1 else []), "dpnet_lite", *map(str, options)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    command += ["--out", str(out)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes) as job:
        try:
            yield job
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)


def wait_for(job: subprocess.Popen[str], is_there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not is_there():
        assert job.poll() is None, job.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def finish(job: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and what it said last."""
    message = job.communicate(timeout=300)[1]
    return job.returncode, message[-2000:]


def worker(parent: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) != parent:
                continue
            variables = (path.parent / "environ").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if f"RANK={rank}".encode() in variables:
            return int(path.parent.name)
    raise AssertionError(f"torchrun has no process of rank {rank}")


def test_two_processes_equal_one(options, one, tmp_path):
    """20 steps with torchrun, the same global batch; a batch half as large gives other weights."""
    out = tmp_path / "two.safetensors"
    with started(options, out, n_processes=2) as job:
        code, message = finish(job)
    assert code == 0, message
    assert_same(load_head(out)[0].state_dict(), one, atol=1e-5)
    half = trained(changed(options, "batch_size=2"), tmp_path / "half.safetensors")
    assert max(float((one[name] - half[name]).abs().max()) for name in one) > 1e-3


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes by /proc")
def test_a_lost_process_ends_the_job_and_one_goes_on(options, one, tmp_path):
    out = tmp_path / "killed.safetensors"
    often = changed(options, "checkpoint_every=1")
    state = out.with_suffix("") / "state.bin"
    with started(often, out, n_processes=2) as job:
        wait_for(job, state.exists)
        os.kill(worker(job.pid, 1), signal.SIGKILL)
        assert finish(job)[0] != 0 and not out.exists()
    assert 1 <= load_training_state(state)["step"] < STEPS
    assert_same(trained([*often, "accumulate=2", "--resume"], out), one, atol=1e-5)  # one process, in two parts


def test_two_processes_go_on_where_one_was_told_to_end(options, one, tmp_path):
    out = tmp_path / "ended.safetensors"
    often = changed(options, "checkpoint_every=1")
    with started(often, out, n_processes=1) as job:
        wait_for(job, (out.with_suffix("") / "state.bin").exists)
        job.send_signal(signal.SIGTERM)
        code, message = finish(job)
    assert code == 130 and "go on with --resume" in message
    with started([*often, "--resume"], out, n_processes=2) as job:
        code, message = finish(job)
    assert code == 0, message
    assert_same(load_head(out)[0].state_dict(), one, atol=1e-5)


def test_a_whole_job_that_is_told_to_end_saves_although_its_workers_are_told_too(tmp_path):
    """As a scheduler does: SIGTERM to the process and to those that decode images for it."""
    write_pascal(tmp_path / "pascal")
    out = tmp_path / "head.safetensors"
    options = ["train", "--data", f"pascal5i:{tmp_path / 'pascal'}", "--recipe", "pascal_resnet50"]
    options += ["--backbone", "tiny", "--size", 64, "--steps", 100_000, "--workers", 2, "--cache", tmp_path / "cache"]
    options += ["--model", "channels=8", "--training", "checkpoint_every=0"]
    log = out.with_suffix("") / "log.jsonl"
    with started(options, out, n_processes=1) as job:
        wait_for(job, lambda: log.exists() and log.read_text() != "")
        os.killpg(job.pid, signal.SIGTERM)
        code, message = finish(job)
    assert code == 130 and "go on with --resume" in message
    assert load_training_state(out.with_suffix("") / "state.bin")["step"] >= 10
