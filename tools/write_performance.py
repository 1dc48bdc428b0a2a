"""Write docs/performance.md and its picture from the files in benchmarks/measured/; `make bench-all` measures first.

python tools/write_performance.py
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from benchmarks.scaling import draw  # noqa: E402
from dpnet_lite.experiments.tables import aligned  # noqa: E402

MEASURED, PAGE, PICTURE = ROOT / "benchmarks/measured", ROOT / "docs/performance.md", ROOT / "docs/performance.svg"

HEAD = """# Performance

Written by `tools/write_performance.py` from the files in `benchmarks/measured/`. `make bench-all` measures the goals,
the picture and the column *now* anew on a CPU and writes the page; the rest stays as it was measured on the machines
named. [benchmarks/README.md](../benchmarks/README.md) says what each row is.
"""


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def verdict(row: dict[str, Any]) -> str:
    if row["goal"] is None:
        return "no goal"
    over = row["value"] / row["goal"] - 1
    return "met" if over <= 0 else f"missed by {over:.0%}"


def goals(found: dict[str, Any]) -> str:
    where, rows = found["environment"], {row["what"]: row for row in found["rows"]}
    lines = [[name, cell(r["value"]), spread(r), cell(r["goal"]), verdict(r)] for name, r in rows.items()]
    told = f"{where['device']} ({where['processor']}), torch {where['torch']}, {found['size']} px, float32. {CPU}"
    return "\n\n".join([told, aligned([["what", "now", "rounds", "goal at most", "verdict"], *lines]), singly(rows)])


def spread(row: dict[str, Any]) -> str:
    return f"{row['least']:.2f} to {row['most']:.2f}" if "least" in row else ""


def singly(rows: dict[str, Any]) -> str:
    """The ratios to a yard that gets its images one at a time, as our backbone takes large ones on a CPU."""
    one = rows["5 shots, supports cached / yard on one image: 64 channels, the default"]["yard_seconds"]
    counts = {
        name: 8 if name.startswith("training step") else 2
        for name in rows
        if name.startswith(("1-shot ep", "training step"))
    }
    told = [f"{name.split(': ')[-1].split(',')[0]} {rows[name]['seconds'] / n / one:.2f}" for name, n in counts.items()]
    first = rows["1-shot episode / yard: 64 channels, the default"]["seconds"]
    return (
        f"A 1-shot episode of the default network takes {first:.2f} s here. The yard gets all its images at once; our "
        "backbone takes large images one at a time, which is faster on a CPU. Beside a yard that does so as well "
        f"({one:.3f} s an image, by the row of 5 shots) the ratios are: {', '.join(told)}. Ratios can be below 1, for "
        "our backbone has its BatchNorm folded in."
    )


def steps(changes: dict[str, Any], now: dict[str, Any]) -> str:
    """The ratios after each step, and what each was."""
    kept = changes["kept"]
    columns = [{row["what"]: row["value"] for row in json.loads((MEASURED / one["file"]).read_text())} for one in kept]
    columns.append({row["what"]: row["value"] for row in now["rows"]})
    names = [name for name in columns[-1] if name in columns[0] and "/ yard" in name]
    table = [["what", *(one["name"] for one in kept), "now"]]
    table += [[name, *(cell(column.get(name)) for column in columns)] for name in names]
    told = [f"- **{one['name'][0].upper()}{one['name'][1:]}.** {one['what']}" for one in kept[1:]]
    told.append(
        "- **Now.** Besides, a CPU computes one large image at a time: activations of two are asked of the system anew."
    )
    dropped = [f"- {one['what']}. {one['why']}" for one in changes["dropped"]]
    return "\n".join([aligned(table), "", *told, "", "Tried and dropped:", "", *dropped])


def gpu(found: dict[str, Any]) -> str:
    """The rates, and how they stand to the plain backbone's in the same run."""
    measured = {(r["precision"], r["batch"], r["execution"], r["mode"]): r for r in found["rows"]}
    rate = {key: row["episodes_per_second"] for key, row in measured.items() if row["status"] == "measured"}
    lines = []
    for (precision, batch, execution, mode), value in rate.items():
        if mode != "backbone_alone":
            alone = rate[precision, batch, "eager", "backbone_alone"]
            own = rate[precision, batch, execution, "backbone_alone"]
            seconds = measured[precision, batch, execution, mode]["seconds_per_step"]
            what = [precision, str(batch), execution, mode, f"{value:.0f}", f"{1e3 * seconds:.2f}"]
            lines.append([*what, f"{alone / value:.2f}", f"{own / value:.2f}"])
    head = ["precision", "batch", "execution", "step", "episodes/s", "ms", "time / backbone", "both run alike"]
    where = found["environment"]
    ratios = {e: rate["bf16", 8, e, "evaluate"] / rate["tf32", 8, e, "evaluate"] for e in ("eager", "compiled")}
    told = f"{where['device']}, torch {where['torch']}, {found['settings']['size']} px, ResNet-50, 1-shot. {GPU}"
    met = []
    for what, batch, mode, goal in (
        ("Evaluation at batch 1", 1, "evaluate", 1.5),
        ("Training at batch 8", 8, "train", 1.67),
    ):
        pairs = [(p, how) for p in ("tf32", "bf16") for how in ("eager", "compiled")]
        times = {f"{p} {how}": rate[p, batch, how, "backbone_alone"] / rate[p, batch, how, mode] for p, how in pairs}
        told_times = ", ".join(
            f"{name} {value:.2f} ({'met' if value <= goal else 'missed'})" for name, value in times.items()
        )
        met.append(f"{what}, goal at most {goal} times the backbone: {told_times}.")
    reached = "met" if min(ratios.values()) >= 1.3 else "missed"
    fast = ", ".join(f"{how} {value:.2f}" for how, value in ratios.items())
    goals = f"bf16 against tf32, evaluation at batch 8, goal at least 1.3 times as fast: {fast} ({reached}). "
    goals += " ".join(met) + " Compiled is beside the compiled backbone."
    return "\n\n".join([told, aligned([head, *lines]), goals])


def main() -> None:
    read = {path.stem: json.loads(path.read_text()) for path in MEASURED.glob("*.json")}
    changes = tomllib.loads((MEASURED / "changes.toml").read_text())
    cpu = read["cpu"]
    draw(cpu["curves"], PICTURE)
    parts = [
        HEAD,
        "## Goals",
        goals(cpu),
        "## How it grows",
        GROWS,
        f"![Time against image size, shots and batch]({PICTURE.name})",
    ]
    parts += ["## Before and after, step by step", steps(changes, cpu)]
    if "peers" in read:
        rows = [[row["what"], str(row["size"]), row["commit"], cell(row["value"])] for row in read["peers"]]
        parts += ["## Peers", PEERS, aligned([["", "size, px", "commit", "/ yard"], *rows])]
    parts += ["## The same numbers", SAME, (MEASURED / "same_numbers.txt").read_text().strip()]
    parts += ["## On a GPU", gpu(read["gpu"]), (MEASURED / "gpu_notes.md").read_text().strip()]
    PAGE.write_text("\n\n".join(part.strip() for part in parts) + "\n")


CPU = """A ratio is the median of rounds in which step and yard are timed in turn in one process; the yard is
torchvision's ResNet-50 up to layer3 at stride 8, as it comes, with random weights."""
GROWS = """Seconds of a forward pass of the head on random features, and of the plain backbone on two images; time
grows as pixels, shots or batch to the power of the exponent, fitted to the logarithms."""
PEERS = """Their own published code, random weights, one episode as their own test script runs it, timed beside the
same yard on the same machine; the code is not copied here. Rows noted from a run by hand; 1-shot, beside
the 1-shot rows above. The yard is at 473 px in each. SSP's work depends on how many pixels pass its
threshold, which random weights do not let pass: its second row has the statistics of its BatchNorm from
the two images, and is closer to its use."""
SAME = """`benchmarks/same_numbers.py` runs random batches (1 to 20 shots, 12 to 60 cells a side, 1 to 8 episodes)
in the version before and in this one. Matches that differ are near ties. Where none differs, logits agree
to rounding; where one does, another pixel enters P_q, and logits move with it."""
GPU = """*time / backbone* is the time of a step over that of the plain backbone alone on the same images, eager;
*both run alike*, a compiled step over the compiled backbone. An eager evaluation replays recorded CUDA
graphs, as scoring and the predictor do; the eager backbone does not."""


if __name__ == "__main__":
    main()
