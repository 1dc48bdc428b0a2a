"""Are the statistics honest? Compare a network with itself, again and again, and count how often something is found.

Every repeat trains the same network with six seeds on two folds, calls three of them the variant and three the control,
and judges them as any study. python tools/check_null.py FOLDER [REPEATS]; the rows are kept in FOLDER.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from dpnet_lite.ablation.comparisons import NO_DIFFERENCE, judge
from dpnet_lite.ablation.engines import EngineOptions
from dpnet_lite.ablation.jobs import labelled_rows, run_study
from dpnet_lite.ablation.runs import study_runs
from dpnet_lite.ablation.studies import Comparison, Study, Variant, load_study
from dpnet_lite.ablation.table import Row, Table
from dpnet_lite.cli.ablate import QUICK_SCENES
from dpnet_lite.experiments.experiment import Experiment
from dpnet_lite.experiments.presets import TOY

SEEDS = 3  # a side


def halves(rows: list[Row], repeat: int) -> list[Row]:
    """The rows of a repeat's six seeds, the first three named variant, the others control."""
    first = 2 * SEEDS * repeat
    named = [(row, row["seed"] - first) for row in rows if 0 <= row["seed"] - first < 2 * SEEDS]
    return [{**row, "variant": "variant" if k < SEEDS else "control", "seed": k % SEEDS} for row, k in named]


def main(folder: Path, repeats: int) -> None:
    base = load_study("modules")
    study = replace(
        base,
        variants=(base.variant("full"),),
        comparisons=(),
        folds=(0, 1),
        seeds=tuple(range(2 * SEEDS * repeats)),
        n_episodes=200,
        training={**base.training, "steps": 40},
    )
    experiment = Experiment("toy", TOY.model, TOY.training, TOY.backbone, TOY.size, cache_folder=folder / "cache")
    runs, table = study_runs(study, experiment, QUICK_SCENES), Table(folder / "rows.sqlite")
    run_study(runs, table, EngineOptions(), print)
    rows = labelled_rows(runs, table)
    question = Study(
        "null",
        "Nothing",
        "Is there a difference?",
        (Variant("variant"), Variant("control")),
        (Comparison("null", "variant", "control"),),
    )
    verdicts = []
    for repeat in range(repeats):
        (entry,) = judge(question, halves(rows, repeat))
        print(entry.sentence)
        verdicts.append(entry.verdict)
    print(f"{NO_DIFFERENCE}: {verdicts.count(NO_DIFFERENCE)} of {repeats}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
