"""How long an explorer takes to its first picture in a fresh process, and how long a redraw takes, control by control.

python benchmarks/explorers.py                    # all of them, each in a process of its own
python benchmarks/explorers.py --only cycle_explorer
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

EXPLORERS = (
    "episode_explorer",
    "cycle_explorer",
    "gallery_explorer",
    "interaction_explorer",
    "correlation_explorer",
    "scale_explorer",
    "live_ablation",
    "luck_explorer",
    "payoff_explorer",
)
ROUNDS = 5


def others(control: Any) -> list[Any]:
    """Values that a control can take beside its present one, some of them."""
    if hasattr(control, "options"):
        values = [option[1] if isinstance(option, tuple) else option for option in control.options]
    elif hasattr(control, "min"):
        step = getattr(control, "step", None) or 1
        values = [
            control.value + k * step for k in range(-2, 3) if control.min <= control.value + k * step <= control.max
        ]
    else:
        values = [True, False]
    return [value for value in values if value != control.value][:1]


def measure(name: str) -> dict[str, Any]:
    """First picture, from the import on but without PyTorch's own; each control's first change, and going back."""
    import torch  # noqa: F401

    start = time.perf_counter()
    from dpnet_lite.course.explorers import apps

    imported = time.perf_counter()
    made: Any = getattr(apps, name)()
    first = time.perf_counter()
    explorer = getattr(made, "explorer", made)
    controls = {}
    for key, control in getattr(explorer, "controls", {}).items():
        before, new, again = explorer.state, [], []
        for value in others(control):
            begin = time.perf_counter()
            explorer.change({key: value})
            new.append(time.perf_counter() - begin)
            explorer.change({key: before[key]})
            for _ in range(ROUNDS):
                begin = time.perf_counter()
                explorer.change({key: value if explorer.state[key] == before[key] else before[key]})
                again.append(time.perf_counter() - begin)
            explorer.change(before)
        if new:
            controls[key] = {"new": max(new), "again": statistics.median(again), "slowest": max(again)}
    return {"name": name, "import": imported - start, "first": first - start, "controls": controls}


def told(found: dict[str, Any]) -> str:
    """One line for people."""
    again = ", ".join(f"{key} {1e3 * t['again']:.0f} ({1e3 * t['new']:.0f})" for key, t in found["controls"].items())
    return f"{found['name']}: first {found['first']:.2f} s (import {found['import']:.2f}); ms again (new): {again}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", choices=EXPLORERS)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only:
        found = measure(options.only)
        print(json.dumps(found) if options.json else told(found))
        return 0
    for name in EXPLORERS:
        print(told(in_fresh_process(name)), flush=True)
    return 0


def in_fresh_process(name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--only", name, "--json"]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    return found


if __name__ == "__main__":
    sys.exit(main())
