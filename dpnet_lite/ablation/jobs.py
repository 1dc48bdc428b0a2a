"""A whole study: plan its runs, leave out what is done, execute the rest, give the labelled rows."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from dpnet_lite.ablation.code_hash import code_hash
from dpnet_lite.ablation.comparisons import Judged, judge
from dpnet_lite.ablation.engines import EngineOptions, run_all
from dpnet_lite.ablation.report import verdict_table, write_report
from dpnet_lite.ablation.runs import TOY_SCENES, Run, plan
from dpnet_lite.ablation.studies import Study
from dpnet_lite.ablation.table import Row, Table, write_rows
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.experiments.experiment import Experiment

Say = Callable[[str], None]


def study_runs(study: Study, config: Experiment, scenes: tuple[int, int] = TOY_SCENES, threads: int = 1) -> list[Run]:
    """The runs of a study on the data of `config`; the study's own budget counts on the toy world alone."""
    config = replace(config, model=ModelConfig.from_dict({**config.model.to_dict(), **study.model}))
    if config.data == "toy":
        training = TrainingConfig.from_dict({**config.training.to_dict(), **study.training})
        config = replace(config, training=training)
    return plan(study, config, scenes, threads)


def run_study(
    runs: Sequence[Run], table: Table, options: EngineOptions, say: Say, other_codes: Sequence[str] = ()
) -> None:
    """Execute what `table` lacks of `runs`, rows into the table as they come; shows runs done and the time left.

    Rows count as done if the present code made them, or one of `other_codes`.
    Stopped by Ctrl-C or killed, it loses only the runs that were under way; the same call goes on from there.
    """
    distinct = {tuple(run.keys()): run for run in reversed(runs)}  # runs without training are the same for all seeds
    open_runs = {
        keys: run for keys, run in reversed(distinct.items()) if table.find(keys, (code_hash(), *other_codes)) is None
    }
    strangers = set(other_codes) - {code for _, code in table.rows}
    if strangers:
        have = ", ".join(sorted({code for _, code in table.rows})) or "no rows"
        raise ValueError(f"no row of {table.path} was made by code {', '.join(sorted(strangers))}; it has {have}")
    done = len(distinct) - len(open_runs)
    say(f"{len(open_runs)} of {len(distinct)} runs to do" + (f", the others are in {table.path}" if done else ""))
    if not open_runs:
        return
    todo = list(open_runs.values())
    bar = "{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} runs, {remaining} left"
    with tqdm(total=len(todo), desc="ablation", bar_format=bar, mininterval=0.5) as progress:
        try:
            for number, rows in run_all(todo, options):
                table.append(rows)
                run = todo[number]
                progress.set_description_str(f"{run.variant.name}, fold {run.fold}, seed {run.seed}")
                progress.update()
        except KeyboardInterrupt:
            kept = f"{progress.n} of {len(todo)} runs are done and kept; the same command goes on"
            raise KeyboardInterrupt(f"stopped; {kept}") from None


def labelled_rows(runs: Sequence[Run], table: Table, other_codes: Sequence[str] = ()) -> list[Row]:
    """The rows of a study with the names it gives them: variant and condition, fold and seed.

    They are those of the present code, or else of `other_codes`; where the table lacks some, all are those of another
    code that has them all, the latest one.

    Raises:
        ValueError: no code has all rows.
    """
    keys = [run.keys() for run in runs]
    present = (code_hash(), *other_codes)
    for codes in dict.fromkeys([present, *((code,) for _, code in reversed(table.rows))]):
        found = [table.find(own, codes) for own in keys]
        if all(rows is not None for rows in found):
            return [
                {**row, "variant": run.variant.name, "condition": condition.name, "fold": run.fold, "seed": run.seed}
                for run, rows in zip(runs, found, strict=True)
                for condition, row in zip(run.conditions, rows or [], strict=True)
            ]
    missing = sum(table.find(own, present) is None for own in keys)
    made = f"device {runs[0].config.device} and {runs[0].threads} thread(s)"
    raise ValueError(
        f"{missing} of {len(runs)} runs with {made} are not in {table.path}; run the study first, without --report"
    )


def ablate(
    study: Study,
    config: Experiment,
    *,
    table: Path,
    folder: Path,
    options: EngineOptions,
    say: Say,
    scenes: tuple[int, int] = TOY_SCENES,
    threads: int = 1,
    report_only: bool = False,
    other_codes: Sequence[str] = (),
    command: str = "",
) -> list[Judged]:
    """Run what is missing of a study, write its report, its figures and its rows to `folder`, say the verdicts.

    The report names `command`, by default that of a shipped study as it is.
    """
    runs = study_runs(study, config, scenes, threads)
    rows = Table(table)
    if not report_only:
        run_study(runs, rows, options, say, other_codes)
    labelled = labelled_rows(runs, rows, other_codes)
    judged = judge(study, labelled)
    say(verdict_table(judged, study))
    write_rows(folder / "rows.jsonl.xz", labelled)
    if importlib.util.find_spec("matplotlib") is None:
        say(f"rows: {folder / 'rows.jsonl.xz'}; no report: it needs matplotlib: pip install 'dpnet-lite[notebooks]'")
        return judged
    for path in write_report(study, labelled, judged, folder, command=command or f"dpnet-lite ablate {study.name}"):
        say(f"written: {path}")
    return judged
