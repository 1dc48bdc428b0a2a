"""What five evaluation protocols fix, read from specs.toml: episodes, seeds, sizes, geometry, labels, and the mean."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dpnet_lite.datasets.folds import FoldLayout


class PerBenchmark(NamedTuple):
    """One figure for each benchmark; None where the repository has none."""

    pascal5i: int | None = None
    coco20i: int | None = None
    fss1000: int | None = None

    def of(self, benchmark: str) -> int | None:
        """The figure of a benchmark. Raises ValueError: an unknown benchmark."""
        if benchmark not in self._fields:
            raise ValueError(f"benchmark is {benchmark!r}; choose one of {', '.join(self._fields)}")
        value: int | None = getattr(self, benchmark)
        return value


@dataclass(frozen=True)
class Protocol:
    """One way of testing.

    Attributes:
        name: the key in `PROTOCOLS`.
        repository: owner and name on GitHub, and the commit that was read; empty for our own.
        episodes: test episodes of one fold, one number of shots and one seed.
        seeds: one list of episodes each; several are averaged.
        size: side of the network's square in pixels; None where the repository does not fix it.
        geometry: how the image gets there: "squash" to the square; "pad": keep the aspect, both sides rounded down to
            multiples of 8, then fill to the square; "own": no resizing at all.
        align_corners: of the bilinear resizing of the logits.
        label_resolution: what the prediction is compared with: labels of the image's "own" size; nearest-resized ones
            of the "network"'s square; or own ones in a square of the image's "longer side", filled with 255.
        min_pixels: of the class that a support image must show, at its own size; 0: no rule; None where list files
            decide, or the repository has no such benchmark. `draw_for` draws by it.
        background_255: benchmarks where label 255 counts as background; in all others it counts nowhere.
        rule: how counts become a score, see `protocols.scoring`.
        drawing: how episodes are drawn, see `protocols.drawing`.
        workers: processes that draw, each with random numbers of its own; 0: the main process draws.
        coco_folds: layout of COCO-20i's folds (see `datasets.folds`); those of PASCAL-5i are runs of neighbours in all.
        fb_iou: whether the code reports FB-IoU.
        where: for each fact, the file and the lines that say so; a fact without a named place is left out.
    """

    name: str
    repository: str
    episodes: PerBenchmark
    seeds: tuple[int, ...]
    size: PerBenchmark
    geometry: Literal["squash", "pad", "own"]
    align_corners: bool
    label_resolution: Literal["own", "network", "longer side"]
    min_pixels: PerBenchmark
    background_255: tuple[str, ...]
    rule: Literal["accumulated", "clamped", "epsilon", "seen"]
    drawing: Literal["turns", "listed", "images", "random"]
    workers: PerBenchmark
    coco_folds: FoldLayout
    fb_iou: bool
    where: Mapping[str, str]


def _read(name: str, table: Mapping[str, Any]) -> Protocol:
    figures = {field: PerBenchmark(**table[field]) for field in ("episodes", "size", "min_pixels", "workers")}
    lists = {field: tuple(table[field]) for field in ("seeds", "background_255")}
    return Protocol(**{"name": name, **table, **figures, **lists})


_TABLES = tomllib.loads((Path(__file__).parent / "specs.toml").read_text(encoding="utf-8"))
PROTOCOLS: dict[str, Protocol] = {name: _read(name, table) for name, table in _TABLES.items()}
