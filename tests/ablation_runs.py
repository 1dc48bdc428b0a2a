"""A study that runs in seconds, for tests of the engines: `python ablation_runs.py FOLDER ENGINE JOBS [SEEDS]`."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

from dpnet_lite.ablation.engines import EngineOptions
from dpnet_lite.ablation.jobs import ablate
from dpnet_lite.ablation.runs import Run, study_runs
from dpnet_lite.ablation.studies import Comparison, Condition, Study, Variant
from dpnet_lite.ablation.table import Table
from dpnet_lite.experiments.experiment import Experiment
from dpnet_lite.experiments.presets import TOY

SCENES = (62, 42)
VARIANTS = (
    Variant("training-free", method="prototypes"),
    Variant("control", model={"pseudo_prototype": False}),
    Variant("full"),
)
SMALL = Study(
    "small",
    "A small study",
    "Does it run?",
    VARIANTS,
    (Comparison("full network", "full", "control"),),
    (Condition("1-shot"), Condition("careless", n_shot=2, mask="dilated", pixels=3)),
    folds=(0, 1),
    seeds=(1, 2),
    n_episodes=40,
    training={"steps": 6, "batch_size": 2},
)
OWN = ("seconds_per_episode", "training_seconds", "finished")  # what differs between two runs of the same


def experiment(folder: Path) -> Experiment:
    return Experiment("toy", TOY.model, TOY.training, TOY.backbone, TOY.size, cache_folder=folder / "cache")


def runs(folder: Path) -> list[Run]:
    return study_runs(SMALL, experiment(folder), SCENES)


def rows_without_times(folder: Path) -> dict[str, dict]:
    """The rows of a study's table by key, without what differs between two runs of the same."""
    rows = Table(folder / "rows.sqlite").all_rows()
    return {row["key"]: {name: value for name, value in row.items() if name not in OWN} for row in rows}


def main(folder: Path, engine: str, jobs: int, seeds: int = len(SMALL.seeds)) -> None:
    study = replace(SMALL, seeds=tuple(range(1, seeds + 1)))
    where = {"table": folder / "rows.sqlite", "folder": folder, "options": EngineOptions(engine, jobs)}
    ablate(study, experiment(folder), **where, say=print, scenes=SCENES)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore Ctrl-C
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
