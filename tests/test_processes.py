"""Training in several processes, as torchrun starts them: equal to one, resumable by another number, and one killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from dpnet_lite.heads import load_head
from places import ROOT
from small_runs import folder_options, run, write_folder

from dpnet_lite.checkpoints import load_training_state
from dpnet_lite.course.made_up_pascal import write_pascal

STEPS = 20


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[object]:
    """Everything that could make processes differ is on: dropout, mirroring, ignored and weighted pixels."""
    home = tmp_path_factory.mktemp("processes")
    folder = write_folder(home / "mine")
    return [
        "train",
        *folder_options(folder, home / "cache"),
        "--novel",
        "ignore",
        "--fold",
        1,
        "--steps",
        STEPS,
        "--threads",
        1,
        "--model",
        "channels=8",
        "dropout=0.3",
        "--training",
        "batch_size=4",
        "foreground_weight=3",
        "warmup_steps=1",
        "optimiser=sgd",
        "learning_rate=0.05",
        "checkpoint_every=4",
    ]


@pytest.fixture(scope="module")
def one(options, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Weights of an uninterrupted run in one process."""
    path = tmp_path_factory.mktemp("one") / "one.safetensors"
    assert run(*options, "--out", path) == 0
    return load_head(path)[0].state_dict()


def start(options: list[object], out: Path, n_processes: int = 2) -> list[subprocess.Popen[str]]:
    """The processes of one job, with the variables that torchrun sets for them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(n_processes):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(n_processes),
            "MASTER_ADDR": "127.0.0.1",
            "LOCAL_WORLD_SIZE": str(n_processes),
            "GROUP_RANK": "0",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [sys.executable, "-m", "dpnet_lite", *map(str, options), "--out", str(out)]
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        processes.append(
            subprocess.Popen(command, cwd=ROOT, env=environment, text=True, start_new_session=True, **pipes)
        )
    return processes


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    messages = [process.communicate(timeout=120)[1] for process in processes]
    return [(process.returncode, message) for process, message in zip(processes, messages, strict=True)]


def assert_equal_weights(path: Path, expected: dict[str, torch.Tensor]) -> None:
    found = load_head(path)[0].state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)


def test_two_processes_equal_one(options, one, tmp_path):
    """20 steps with torchrun, the same global batch; a batch half as large gives other weights."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command += ["dpnet_lite", *map(str, options), "--out", str(tmp_path / "two.safetensors")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_equal_weights(tmp_path / "two.safetensors", one)
    assert run(*options, "batch_size=2", "--out", tmp_path / "half.safetensors") == 0
    half = load_head(tmp_path / "half.safetensors")[0].state_dict()
    assert max(float((one[name] - half[name]).abs().max()) for name in one) > 1e-3


def test_a_killed_process_ends_the_job_and_another_number_of_processes_goes_on(options, one, tmp_path):
    out = tmp_path / "killed.safetensors"
    slow = [*options, "checkpoint_every=1"]
    first, second = start(slow, out)
    deadline = time.monotonic() + 120
    while not (out.with_suffix("") / "state.bin").exists():
        assert time.monotonic() < deadline and first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    second.send_signal(signal.SIGKILL)
    (code, message), _ = finish([first, second])
    assert code == 2 and not out.exists()
    last = message.strip().splitlines()[-1]
    assert "process 0 of 2 stopped at step" in last and "because another one is gone" in last and "--resume" in last
    step = load_training_state(out.with_suffix("") / "state.bin")["step"]
    assert 1 <= step < STEPS
    assert run(*slow, "accumulate=2", "--resume", "--out", out) == 0  # one process, in two parts
    assert_equal_weights(out, one)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes by /proc")
@pytest.mark.parametrize("lost", [0, 1])
def test_torchrun_loses_a_process_and_the_other_one_saves(options, tmp_path, lost):
    """torchrun tells the survivor to end at once; no state was saved before."""
    out = tmp_path / "lost.safetensors"
    long = [*options, "checkpoint_every=0", "steps=100000"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    job = subprocess.Popen(
        [*command, "dpnet_lite", *map(str, long), "--out", str(out)],
        cwd=ROOT,
        env=environment,
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    deadline, log = time.monotonic() + 120, out.with_suffix("") / "log.jsonl"
    while not (log.exists() and log.read_text()):  # ten steps are done
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    os.kill(worker(job.pid, lost), signal.SIGKILL)
    message = job.communicate(timeout=120)[1]
    assert job.returncode != 0
    assert f"process {1 - lost} of 2 stopped at step" in message and "because another one is gone" in message
    assert load_training_state(out.with_suffix("") / "state.bin")["step"] >= 10


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


def test_two_processes_go_on_where_one_was_told_to_end(options, one, tmp_path):
    out = tmp_path / "ended.safetensors"
    slow = [*options, "checkpoint_every=1"]
    (alone,) = start(slow, out, n_processes=1)
    deadline = time.monotonic() + 120
    while not (out.with_suffix("") / "state.bin").exists():
        assert time.monotonic() < deadline and alone.poll() is None, alone.stderr.read()
        time.sleep(0.01)
    alone.send_signal(signal.SIGTERM)
    ((code, message),) = finish([alone])
    assert code == 130 and "go on with --resume" in message
    assert [code for code, _ in finish(start([*slow, "--resume"], out))] == [0, 0]
    assert_equal_weights(out, one)


def test_a_whole_job_that_is_told_to_end_saves_although_its_workers_are_told_too(tmp_path):
    """As a scheduler does: SIGTERM to the process and to those that decode images for it."""
    write_pascal(tmp_path / "pascal")
    out = tmp_path / "head.safetensors"
    options = [
        "train",
        "--data",
        f"pascal5i:{tmp_path / 'pascal'}",
        "--recipe",
        "pascal_resnet50",
        "--backbone",
        "tiny",
        "--size",
        64,
        "--steps",
        100_000,
        "--workers",
        2,
        "--cache",
        tmp_path / "cache",
        "--model",
        "channels=8",
        "--training",
        "checkpoint_every=0",
    ]
    (job,) = start(options, out, n_processes=1)
    deadline, log = time.monotonic() + 120, out.with_suffix("") / "log.jsonl"
    while not (log.exists() and log.read_text()):
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGTERM)
    ((code, message),) = finish([job])
    assert code == 130 and "go on with --resume" in message
    assert load_training_state(out.with_suffix("") / "state.bin")["step"] >= 10


def test_a_batch_that_processes_cannot_share_is_told(options, tmp_path):
    results = finish(start([*options, "batch_size=3"], tmp_path / "three.safetensors"))
    assert all(code == 2 and "batch_size is 3, but 2 processes" in message for code, message in results)
