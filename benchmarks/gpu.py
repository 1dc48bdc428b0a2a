"""How many episodes a second a device trains on and evaluates, beside what the device can do at most.

    python benchmarks/gpu.py --minutes 9 --out gpu.json

from the repository root, installed or not. Rows that do not fit into the time are marked as skipped. The table comes
last, in Markdown; benchmarks/README.md explains its columns.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

START = time.monotonic()  # before PyTorch is imported: the time budget is of the whole command
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from benchmarks.measuring import OutOfTime, Work, copy_rate, count_work, environment, matrix_rate, measure, until  # noqa: E402
from benchmarks.steps import PRECISIONS, EpisodeSteps, arithmetic  # noqa: E402
from benchmarks.table import COLUMNS, markdown  # noqa: E402
from dpnet_lite.backbones.backbone import ARCHITECTURES  # noqa: E402
from dpnet_lite.backbones.replay import Replay  # noqa: E402

Row = dict[str, Any]
EXECUTIONS, MODES = ("eager", "compiled"), ("backbone_alone", "train", "evaluate")
RESERVE = 5.0  # seconds kept for the table


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    has_gpu = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if has_gpu else "cpu", help="cpu, cuda or cuda:NUMBER")
    parser.add_argument("--size", type=int, default=473, help="side of the images in pixels")
    parser.add_argument("--backbones", nargs="+", choices=tuple(ARCHITECTURES), default=["resnet50", "vgg16"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 8, 16, 32], help="episodes a step")
    parser.add_argument("--executions", nargs="+", choices=EXECUTIONS, default=list(EXECUTIONS))
    parser.add_argument("--minutes", type=float, default=9.0, help="time for the whole command")
    parser.add_argument("--window", type=float, default=0.4, help="seconds of one timed window, of which there are 5")
    parser.add_argument("--out", type=Path, help="also write everything to this JSON file")
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not has_gpu:
        parser.error(f"--device is {options.device}, but PyTorch finds no GPU here; use --device cpu")
    if min(options.batches) < 1 or options.size < 9:
        parser.error("give --batches from 1 and --size from 9")
    return options


def main(arguments: list[str] | None = None, *, start: float | None = None) -> int:
    """Run the benchmark; 1 where a step failed in eager execution for another reason than memory."""
    options = parse(arguments)
    deadline = (time.monotonic() if start is None else start) + 60 * options.minutes - min(RESERVE, 6 * options.minutes)
    device = torch.device(options.device)
    rows = planned_rows(options)
    result = {
        "environment": environment(device),
        "settings": vars(options) | {"out": None},
        "ceilings": {},
        "rows": rows,
    }
    try:
        with until(deadline):
            result["ceilings"] = ceilings(device, options)
    except OutOfTime:
        log("no time for the ceilings")
    known: dict[tuple[Any, ...], Work] = {}
    for _, group in itertools.groupby(in_order_of_use(rows, options), key=configuration):
        run_group(list(group), result["ceilings"], options, device, deadline, known)
        save(result, options.out)
    save(result, options.out)
    print(markdown(result))
    return int(any(row["status"] == "failed" and row["execution"] == "eager" for row in rows))


def planned_rows(options: argparse.Namespace) -> list[Row]:
    """Every combination, as skipped, in the order of the table."""
    wanted = itertools.product(options.backbones, options.precisions, options.batches, options.executions, MODES)
    names = ("backbone", "precision", "batch", "execution", "mode")
    empty = dict.fromkeys(set(COLUMNS) - set(names)) | {"bytes_per_step": None}
    note = f"skipped: over the {options.minutes:g} minutes"
    return [dict(zip(names, row, strict=True)) | empty | {"status": "skipped", "note": note} for row in wanted]


def configuration(row: Row) -> tuple[Any, ...]:
    return row["execution"], row["batch"], row["precision"], row["backbone"]


def in_order_of_use(rows: list[Row], options: argparse.Namespace) -> list[Row]:
    """Eager first; compiling takes long, so its middle batch and the fast precisions before the others."""
    middle = sorted(options.batches)[len(options.batches) // 2]

    def order(row: Row) -> tuple[Any, ...]:
        compiled = row["execution"] == "compiled"
        far = abs(row["batch"] - middle) if compiled else row["batch"]
        precision = PRECISIONS.index(row["precision"])
        return compiled, far, row["batch"], -precision if compiled else precision, row["backbone"]

    return sorted(rows, key=order)


def ceilings(device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    """FLOP/s of a large matrix product in each precision, bytes per second of a large copy, measured now."""
    gpu = device.type == "cuda"
    found: dict[str, Any] = {"matrix_side": 8192 if gpu else 1024, "copy_bytes": 2**31 if gpu else 2**26, "flops": {}}
    for precision in options.precisions:
        if precision != "tf32" or gpu:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            with arithmetic(precision):
                found["flops"][precision] = matrix_rate(device, dtype, found["matrix_side"], options.window)
    found["bytes"] = copy_rate(device, found["copy_bytes"], options.window)
    return found


def run_group(
    rows: list[Row],
    limits: dict[str, Any],
    options: argparse.Namespace,
    device: torch.device,
    deadline: float,
    known: dict[tuple[Any, ...], Work],
) -> None:
    """Fill in the rows of one configuration, training and evaluation."""
    first = rows[0]
    if first["precision"] == "tf32" and device.type != "cuda":
        for row in rows:
            row["note"] = "skipped: TF32 is a mode of GPUs"
        return
    try:
        with until(deadline), arithmetic(first["precision"]):
            steps = EpisodeSteps(first["backbone"], first["precision"], device=device, size=options.size)
            episodes = steps.episodes(first["batch"])
            for row in rows:
                key = (row["backbone"], row["precision"], row["batch"], row["mode"])
                if key not in known:
                    Replay.enabled = False
                    known[key] = count_work(lambda row=row: getattr(steps, row["mode"])(*episodes))
                    Replay.enabled = True
            if first["execution"] == "compiled":
                torch.compiler.reset()  # else its limit on recompilations counts the earlier configurations
                steps.compile()
            for row in rows:
                work = known[row["backbone"], row["precision"], row["batch"], row["mode"]]
                measure_row(row, steps, episodes, work, limits, options.window)
                log(f"{' '.join(map(str, configuration(row)))} {row['mode']}: {row['note'] or 'done'}")
    except OutOfTime:
        return
    except Exception as error:  # a row that says what failed is worth more than a table that is not there
        reason = "out of memory" if isinstance(error, torch.OutOfMemoryError) else one_line(error)
        for row in rows:
            if row["status"] == "skipped":
                row["status"] = "no memory" if reason == "out of memory" else "failed"
                row["note"] = f"failed: {reason}"
        log(f"{' '.join(map(str, configuration(first)))}: {reason}")
    finally:
        steps = episodes = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def measure_row(row: Row, steps: EpisodeSteps, episodes: Any, work: Work, limits: Row, window: float) -> None:
    device, step = steps.device, getattr(steps, row["mode"])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.monotonic()
    step(*episodes)  # compiles, where that was asked for
    first = time.monotonic() - start
    timing = measure(lambda: step(*episodes), device, window=window)
    row |= {
        "status": "measured",
        "note": f"first step {first:.0f} s" if row["execution"] == "compiled" else "",
        "seconds_per_step": timing.seconds,
        "spread": timing.spread,
        "episodes_per_second": row["batch"] / timing.seconds,
        "flops_per_episode": work.flops / row["batch"],
        "peak_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }
    if row["precision"] in limits.get("flops", {}):
        row["arithmetic_share"] = work.flops / timing.seconds / limits["flops"][row["precision"]]
    if row["execution"] == "eager" and "bytes" in limits:  # a compiler fuses operators: their bytes are not known
        row["bytes_per_step"] = work.bytes
        row["memory_share"] = work.bytes / timing.seconds / limits["bytes"]


def one_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()[:120] if lines else 'no message'}".replace("|", "/")


def save(result: dict[str, Any], path: Path | None) -> None:
    """Write what is known so far: a run that is killed leaves its finished rows."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1))


def log(line: str) -> None:
    print(f"[{time.monotonic() - START:5.0f} s] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(start=START))
