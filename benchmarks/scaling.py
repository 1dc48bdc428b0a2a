"""How the time of the network grows with the image, the shots and the batch, beside the backbone's: fitted exponents.

Time ~ size^exponent, fitted to the logarithms. The head gets random features; the backbone, random images.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cpu import HEADS, Episodes, yard_network
from benchmarks.measuring import Step
from dpnet_lite.model.dpnet import DPNet

SIZES, SHOTS, BATCHES = (256, 353, 473, 593, 713), (1, 2, 5, 10, 20), (1, 2, 4, 8)
IN, DEEP, SIZE = 1536, 1024, 473
BACKBONE = "backbone, two images"
NAMES = ("64 channels, the default", "the preset for photographs")
SHORT = dict(zip((*NAMES, BACKBONE), ("default head", "head for photographs", "backbone, 2 images"), strict=True))
_ROUNDS = 5


def seconds(step: Step, rounds: int = _ROUNDS) -> float:
    step()
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        step()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)


@torch.no_grad()
def head_seconds(name: str, *, size: int = SIZE, n_shot: int = 1, batch: int = 1) -> float:
    """One forward pass of a head on features of the benchmark's episodes."""
    episodes, cells = Episodes(size, n_shot, batch), -(-size // 8)
    shape = (batch * (1 + n_shot), cells, cells, IN)
    features = torch.rand(shape, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    head, assembled = DPNet(HEADS[name][0], IN, DEEP).eval(), episodes.assembled(features)
    return seconds(lambda: head(assembled, (size, size)))


def curves() -> dict[str, Any]:
    """By what grows: the values, and for each line its seconds and its exponent."""
    yard = yard_network()

    def backbone_seconds(size: int) -> float:
        images = torch.randn(2, 3, size, size).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            return seconds(lambda: yard(images))

    pixels = {name: [head_seconds(name, size=size) for size in SIZES] for name in NAMES}
    pixels[BACKBONE] = [backbone_seconds(size) for size in SIZES]
    found = {
        "pixels": ([size**2 for size in SIZES], pixels),
        "shots": (SHOTS, {name: [head_seconds(name, n_shot=n) for n in SHOTS] for name in NAMES}),
        "batch": (BATCHES, {name: [head_seconds(name, batch=n) for n in BATCHES] for name in NAMES}),
    }
    return {
        what: {"values": list(values), "lines": with_exponents(values, lines)}
        for what, (values, lines) in found.items()
    }


def with_exponents(values: Any, lines: dict[str, list[float]]) -> dict[str, Any]:
    return {
        name: {"seconds": line, "exponent": float(np.polyfit(np.log(values), np.log(line), 1)[0])}
        for name, line in lines.items()
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Three panels with logarithmic axes, the exponents beside the lines."""
    import matplotlib
    from matplotlib.figure import Figure

    from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE

    figure = Figure(figsize=(10.5, 5), layout="constrained")
    looks = zip((*NAMES, BACKBONE), (BLUE, ORANGE, BLACK), "os^", strict=True)
    styles = {name: {"color": colour, "marker": marker} for name, colour, marker in looks}
    labels = {"pixels": "side of the image, px", "shots": "support images", "batch": "episodes at once"}
    for axes, (what, curve) in zip(figure.subplots(1, 3, sharey=True), found.items(), strict=True):
        ticks = SIZES if what == "pixels" else curve["values"]
        for name, line in curve["lines"].items():
            label = f"{SHORT[name]}: {line['exponent']:.2f}"
            axes.plot(curve["values"], line["seconds"], label=label, linewidth=2, **styles[name])
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel(labels[what], fontsize=14)
        axes.set_xticks(curve["values"], [str(tick) for tick in ticks], fontsize=11)
        axes.minorticks_off()
        axes.tick_params(labelsize=12)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.18), "frameon": False}
        axes.legend(fontsize=12, title=f"exponent of {what}", title_fontsize=12, **place)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds", fontsize=14)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "scaling"}):  # letters as letters: a small file
        figure.savefig(path, metadata={"Date": None})
