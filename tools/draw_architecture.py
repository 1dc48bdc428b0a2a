"""Draw docs/architecture.svg: the rooms of the package, from its real imports.

    python tools/draw_architecture.py               # in place
    python tools/draw_architecture.py --out FILE    # elsewhere: .svg or .png

The order from top to bottom is that of the contract in pyproject.toml; an arrow is an import that some file makes, but
for those that follow from other arrows. What is drawn stands in the picture's description as JSON, for a test.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import grimp
import matplotlib
import networkx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGE = "dpnet_lite"
CORE, BELOW = "the core", "settings"
WHAT = {
    "cli": "the command line,\na file a command",
    "course": "opened episodes, explorers,\nexercises, measurements",
    "published": "PASCAL, COCO, FSS-1000,\nprotocols, recipes",
    "ablation": "studies, runs, verdicts,\nrivals",
    "experiments": "the main job: train on base classes, score on novel ones, tables",
    CORE: "dpnet_lite/*.py and model/: read these in one sitting",
    "datasets": "toy world, folders,\nunions, folds",
    "backbones": "frozen networks\nand their weights",
    BELOW: "config.py: all that can be set    storage/: files, states of runs",
}
# Okabe and Ito's colours, which the colour-blind can tell apart, each thinned with white.
COLOURS = {"above": "#d6e9f5", "core": "#ffe7b8", "model": "#fff6df", "below": "#d5eee4"}
LINE, SOFT = "#333333", "#555555"


def layers() -> list[list[str]]:
    """The rows of the contract in pyproject.toml, top first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    rows = next(contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    return [[name.strip() for name in row.split("|")] for row in rows]


def description() -> dict[str, Any]:
    """What the picture shows: its rows of rooms, the rows of the core's files, and the imports between rooms."""
    sys.path.insert(0, str(ROOT))
    graph = grimp.build_graph(PACKAGE, include_external_packages=False)
    rows = layers()
    first = rows.index(["experiments"]) + 1
    last = next(number for number, row in enumerate(rows) if "datasets" in row)
    home = {name: CORE for row in rows[first:last] for name in row} | dict.fromkeys(rows[-1], BELOW)

    def room(module: str) -> str:
        name = module.split(".")[1]
        return home.get(name, name)

    edges = {
        (room(module), room(target))
        for module in graph.modules - {PACKAGE, f"{PACKAGE}.__main__"}
        for target in graph.find_modules_directly_imported_by(module) - {PACKAGE}
    }
    shown = networkx.transitive_reduction(networkx.DiGraph((a, b) for a, b in edges if a != b))
    model = sorted(module.split(".")[2] for module in graph.find_children(f"{PACKAGE}.model"))
    core = [[name for name in row if name != "model"] for row in rows[first:last]]
    return {
        "rooms": [*rows[:first], [CORE], *rows[last:-1], [BELOW]],
        "core": [row for row in core if row],
        "model": sorted(model, key=lambda name: name != "dpnet"),
        "imports": sorted(map(list, shown.edges)),
    }


def box(axes: Axes, place: tuple[float, float, float, float], colour: str, *, edge: str = LINE) -> None:
    x, y, width, height = place
    style = "round,pad=0,rounding_size=1"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=colour, edgecolor=edge, lw=1.2))


def title(axes: Axes, place: tuple[float, float, float, float], name: str) -> None:
    x, y, width, height = place
    axes.text(x + width / 2, y + height - 3.4, name, ha="center", va="center", fontsize=17, weight="bold")
    middle = y + (height - 5) / 2
    axes.text(x + width / 2, middle, WHAT[name], ha="center", va="center", fontsize=13.5, linespacing=1.15, color=LINE)


def draw(shown: dict[str, Any]) -> Figure:
    """The picture of a description."""
    heights = {CORE: 45.0, "experiments": 10.0, BELOW: 10.0}
    gap, width = 5.5, 100.0
    tall = [max(heights.get(name, 12.5) for name in row) for row in shown["rooms"]]
    top = sum(tall) + gap * (len(tall) - 1)
    figure = Figure(figsize=(9, 9 * (top + 2) / 102), layout="constrained")
    axes = figure.add_subplot(xlim=(-1, 101), ylim=(-1, top + 1), aspect="equal")
    axes.axis("off")
    places: dict[str, tuple[float, float, float, float]] = {}
    wing, y = "above", top
    for row, height in zip(shown["rooms"], tall, strict=True):
        y -= height
        wing = "core" if row == [CORE] else "below" if wing == "core" else wing
        share = (width - 4 * (len(row) - 1)) / len(row)
        for number, name in enumerate(row):
            places[name] = (number * (share + 4), y, share, height)
            box(axes, places[name], COLOURS[wing])
            if name != CORE:
                title(axes, places[name], name)
        y -= gap
    draw_core(axes, places[CORE], shown)
    for a, b in shown["imports"]:
        arrow(axes, places[a], places[b])
    return figure


def draw_core(axes: Axes, place: tuple[float, float, float, float], shown: dict[str, Any]) -> None:
    """The files of the core in their rows, and those of model/ beside them."""
    x, y, width, height = place
    axes.text(x + 2, y + height - 3.4, CORE, ha="left", va="center", fontsize=17, weight="bold")
    axes.text(x + width - 2, y + height - 3.4, WHAT[CORE], ha="right", va="center", fontsize=13.5, color=LINE)
    step = (height - 8) / len(shown["core"])
    for number, row in enumerate(shown["core"], start=1):
        share = 58 / len(row)
        for column, name in enumerate(row):
            small = (x + 2 + column * share, y + height - 6.5 - number * step + 0.8, share - 1.5, step - 1.6)
            box(axes, small, "white", edge=SOFT)
            axes.text(small[0] + small[2] / 2, small[1] + small[3] / 2, name, ha="center", va="center", fontsize=13.5)
    inner = (x + 61, y + 2.3, width - 63, height - 9.6)
    box(axes, inner, COLOURS["model"], edge=SOFT)
    names = ["model/", *shown["model"]]
    for number, name in enumerate(names):
        at = inner[1] + inner[3] - (number + 0.6) * inner[3] / (len(names) + 0.2)
        weight = "bold" if number < 2 else "normal"
        axes.text(inner[0] + inner[2] / 2, at, name, ha="center", va="center", fontsize=13.5, weight=weight)


def arrow(axes: Axes, start: tuple[float, ...], end: tuple[float, ...]) -> None:
    """From the lower edge of one room to the upper edge of another, over the part that they share where they do."""
    left, right = max(start[0], end[0]), min(start[0] + start[2], end[0] + end[2])
    middles = (start[0] + start[2] / 2, end[0] + end[2] / 2)
    ends = ((left + right) / 2,) * 2 if right > left else middles
    axes.add_patch(
        FancyArrowPatch(
            (ends[0], start[1]),
            (ends[1], end[1] + end[3]),
            arrowstyle="-|>",
            mutation_scale=20,
            shrinkA=1,
            shrinkB=1,
            color=LINE,
            lw=1.8,
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the rooms of the package from its imports.")
    parser.add_argument("--out", type=Path, default=PICTURE)
    args = parser.parse_args()
    shown = description()
    with matplotlib.rc_context({"svg.hashsalt": PACKAGE, "svg.fonttype": "path"}):
        about = {"Description": json.dumps(shown), "Date": None, "Creator": None} if args.out.suffix == ".svg" else {}
        draw(shown).savefig(args.out, dpi=110, metadata=about)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
