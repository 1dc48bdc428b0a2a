"""The speed benchmark on a CPU at small size: what it counts, what it prints, how it keeps to its time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from places import ROOT
from torch import nn

SMALL = ["--device", "cpu", "--size", "17", "--backbones", "tiny", "--batches", "1", "2", "--window", "0.01"]


def load() -> ModuleType:
    """benchmarks/gpu.py as a module: it puts the repository root on the path itself."""
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks" / "gpu.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu = load()
from benchmarks import measuring  # noqa: E402
from benchmarks.steps import EpisodeSteps, arithmetic  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Steps this small lose their time in waiting for threads where a machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and what was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = gpu.main([*SMALL, *arguments])
    return status, printed.getvalue()


def no_compiler(*_: Any, **__: Any) -> None:
    raise RuntimeError("no | compiler here\nand a second line")


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Table and JSON of a run whose compiler fails."""
    path = tmp_path_factory.mktemp("benchmark") / "out.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "compile", no_compiler)
        status, printed = run("--minutes", "1", "--out", str(path))
    assert status == 0
    return printed, json.loads(path.read_text())


def test_every_combination_is_a_row_and_the_table_comes_last(small_run: tuple[str, dict[str, Any]]) -> None:
    printed, result = small_run
    assert len(result["rows"]) == 3 * 2 * 2 * 3  # precisions, batches, executions, steps
    lines = printed.rstrip().splitlines()
    table = [[part.strip() for part in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert lines[-len(table) :] == [line for line in lines if line.startswith("|")]
    heading, body = table[0], table[2:]
    assert len(body) == len(result["rows"]) and {len(line) for line in table} == {len(heading)}
    for line, row in zip(body, result["rows"], strict=True):
        shown = dict(zip(heading, line, strict=True))
        assert [shown["backbone"], shown["precision"], shown["step"]] == ["tiny", row["precision"], row["mode"]]
        assert int(shown["batch"]) == row["batch"] and shown["note"] == row["note"]
        for name, key, scale in (
            ("episodes/s", "episodes_per_second", 1.0),
            ("ms/step", "seconds_per_step", 1e3),
            ("GFLOP/episode", "flops_per_episode", 1e-9),
            ("% of arithmetic", "arithmetic_share", 100.0),
            ("% of memory", "memory_share", 100.0),
        ):
            if row[key] is None:
                assert shown[name] == "-"
            else:
                assert float(shown[name]) == pytest.approx(row[key] * scale, rel=1e-3)


def test_rates_and_shares_follow_from_what_was_measured(small_run: tuple[str, dict[str, Any]]) -> None:
    _, result = small_run
    ceilings = result["ceilings"]
    assert set(ceilings["flops"]) == {"fp32", "bf16"}
    measured = [row for row in result["rows"] if row["status"] == "measured"]
    assert len(measured) == 2 * 2 * 3 and {row["execution"] for row in measured} == {"eager"}
    for row in measured:
        seconds, ceiling = row["seconds_per_step"], ceilings["flops"][row["precision"]]
        assert 0 < row["episodes_per_second"] < math.inf and row["peak_bytes"] is None  # no GPU, no peak
        assert row["episodes_per_second"] == pytest.approx(row["batch"] / seconds)
        flops = row["flops_per_episode"] * row["batch"]
        assert row["arithmetic_share"] == pytest.approx(flops / seconds / ceiling)
        assert row["memory_share"] == pytest.approx(row["bytes_per_step"] / seconds / ceilings["bytes"])


def test_operations_are_per_episode_and_training_needs_more(small_run: tuple[str, dict[str, Any]]) -> None:
    flops: dict[str, set[float]] = {"backbone_alone": set(), "train": set(), "evaluate": set()}
    for row in small_run[1]["rows"]:
        if row["status"] == "measured":
            flops[row["mode"]].add(row["flops_per_episode"])
    # Nearly the same at every batch and precision: on a CPU only pixels of the mask are matched, some more than others.
    assert all(max(values) < 1.02 * min(values) for values in flops.values()) and len(flops["backbone_alone"]) == 1
    forward, whole = max(flops["evaluate"]), max(flops["train"])
    assert forward < whole < 3 * forward  # the backbone has no backward
    assert 0.5 * forward < flops["backbone_alone"].pop() < forward


def test_what_cannot_run_is_a_row_that_says_so(small_run: tuple[str, dict[str, Any]]) -> None:
    for row in small_run[1]["rows"]:
        if row["precision"] == "tf32":
            assert (row["status"], row["note"]) == ("skipped", "skipped: TF32 is a mode of GPUs")
        elif row["execution"] == "compiled":
            assert (row["status"], row["note"]) == ("failed", "failed: RuntimeError: no / compiler here")


def test_rows_over_the_time_are_skipped(tmp_path: Path) -> None:
    start = time.process_time()
    status, printed = run("--minutes", "0.001", "--batches", "64", "--out", str(tmp_path / "out.json"))
    assert time.process_time() - start < 5
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert status == 0 and rows and {row["status"] for row in rows} == {"skipped"}
    notes = {row["note"] for row in rows if row["precision"] != "tf32"}
    assert notes == {"skipped: over the 0.001 minutes"}
    assert all(row["episodes_per_second"] is None for row in rows)
    assert "skipped: over the 0.001 minutes |" in printed.rstrip().splitlines()[-1]


def test_a_step_without_end_is_stopped() -> None:
    start = time.monotonic()
    with pytest.raises(measuring.OutOfTime), measuring.until(start + 0.2), contextlib.suppress(Exception):
        time.sleep(60)  # in code that catches every Exception, as a compiler may
    assert 0.2 <= time.monotonic() - start < 50
    with pytest.raises(measuring.OutOfTime), measuring.until(start):
        pytest.fail("began after its time")
    with measuring.until(time.monotonic() + 0.2):
        pass
    time.sleep(0.4)  # the alarm is off again


def test_what_was_done_before_the_time_ended_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = EpisodeSteps.evaluate

    def out_of_time_at_two(self: EpisodeSteps, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if len(images) == 2 * 2:
            raise measuring.OutOfTime
        return evaluate(self, images, labels)

    monkeypatch.setattr(EpisodeSteps, "evaluate", out_of_time_at_two)
    run("--precisions", "fp32", "--executions", "eager", "--out", str(tmp_path / "out.json"))
    rows = {(row["batch"], row["mode"]): row for row in json.loads((tmp_path / "out.json").read_text())["rows"]}
    assert rows[1, "evaluate"]["status"] == rows[1, "train"]["status"] == "measured"
    assert rows[2, "evaluate"]["note"] == "skipped: over the 9 minutes"


@pytest.mark.parametrize(
    ("error", "note", "status"),
    [
        (torch.OutOfMemoryError("tried to allocate"), "failed: out of memory", 0),
        (ValueError("wrong"), "failed: ValueError: wrong", 1),
    ],
)
def test_memory_that_ends_is_no_mistake_but_another_failure_is(
    error: Exception, note: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(EpisodeSteps, "train", fail)
    options = ["--precisions", "fp32", "--executions", "eager", "--out", str(tmp_path / "out.json")]
    assert run(*options)[0] == status
    assert {row["note"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]} == {note}


def test_operations_and_bytes_of_a_convolution_by_hand() -> None:
    convolution, images = nn.Conv2d(3, 8, 3, bias=False), torch.randn(2, 3, 10, 10)
    forward = 2 * (2 * 8 * 8 * 8) * (3 * 3 * 3)  # multiply and add, for 2 x 8 x 8 x 8 outputs, over 3 x 3 x 3 inputs
    work = measuring.count_work(lambda: convolution(images))
    assert work.flops == forward
    assert work.bytes == 4 * (2 * 3 * 10 * 10 + 8 * 3 * 3 * 3 + 2 * 8 * 8 * 8)
    # The gradient of the weights alone costs as much again; that of the images, once more.
    assert measuring.count_work(lambda: convolution(images).sum().backward()).flops == 2 * forward
    images.requires_grad_()
    assert measuring.count_work(lambda: convolution(images).sum().backward()).flops == 3 * forward


def test_bytes_of_plain_operators_by_hand() -> None:
    x, column = torch.randn(4, 5), torch.randn(4, 1)
    parts = [torch.randn(10) for _ in range(3)]
    for step, expected in (
        (lambda: x.relu(), 80 + 80),
        (lambda: x.add_(1), 80 + 80),  # in place: read and written
        (lambda: x.t().reshape(5, 4)[1:], 0),  # views
        (lambda: torch.empty_like(x), 0),  # an allocation
        (lambda: column.expand(4, 5) + x, 16 + 80 + 80),  # an expanded dimension is read once
        (lambda: x.bfloat16(), 80 + 40),
        (lambda: torch._foreach_mul_(parts, 2.0), 3 * 80),  # as optimisers work: lists, and nothing is returned
    ):
        assert measuring.count_work(step).bytes == expected


def test_time_of_a_step_of_known_length() -> None:
    timing = measuring.measure(lambda: time.sleep(0.01), torch.device("cpu"), window=0.03)
    assert 0.01 <= timing.seconds < 0.5 and timing.spread >= 0 and timing.calls >= 5


def test_a_training_step_moves_the_head_alone_and_evaluation_nothing() -> None:
    steps = EpisodeSteps("tiny", "bf16", device=torch.device("cpu"), size=33)
    images, labels = steps.episodes(2)
    assert images.shape == (2 * 2, 3, 33, 33) and set(labels.unique().tolist()) == {0, 1}

    def states() -> list[dict[str, torch.Tensor]]:
        return [{k: v.clone() for k, v in part.state_dict().items()} for part in (steps.backbone, steps.network)]

    before = states()
    prediction = steps.evaluate(images, labels)
    assert prediction.shape == (2, 33, 33) and prediction.dtype == torch.int64
    assert all(torch.equal(new[k], old[k]) for new, old in zip(states(), before, strict=True) for k in old)
    steps.train(images, labels)
    backbone, head = states()
    assert all(torch.equal(backbone[key], before[0][key]) for key in backbone)
    assert any(not torch.equal(head[key], before[1][key]) for key in head)


def test_tf32_is_on_for_its_rows_alone_and_left_as_it_was() -> None:
    state = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for precision, expected in (("fp32", ("highest", False)), ("tf32", ("high", True)), ("bf16", ("highest", False))):
        with arithmetic(precision):
            assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == expected
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == state


def test_as_a_command_from_the_repository_root() -> None:
    command = [sys.executable, "benchmarks/gpu.py", *SMALL, "--minutes", "0.001"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.rstrip().splitlines()[-1].startswith("| tiny | bf16 | 2 | compiled | evaluate |")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--device", "cuda"])
    assert "PyTorch finds no GPU here; use --device cpu" in capsys.readouterr().err
