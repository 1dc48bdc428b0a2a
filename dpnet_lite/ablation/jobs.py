"""A whole study: plan its runs, leave out what is done, execute the rest, judge, write the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dpnet_lite.ablation.comparisons import Judged, judge
from dpnet_lite.ablation.engines import EngineOptions, require, run_all
from dpnet_lite.ablation.report import verdict_table, write_report
from dpnet_lite.ablation.runs import TOY_SCENES, Run, digest, study_runs
from dpnet_lite.ablation.studies import Study
from dpnet_lite.ablation.table import Row, Table, check_rows, write_rows
from dpnet_lite.experiments.experiment import Experiment

_Say = Callable[[str], None]


def ablate(
    study: Study,
    experiment: Experiment,
    *,
    table: Path,
    folder: Path,
    options: EngineOptions,
    say: _Say,
    scenes: tuple[int, int] = TOY_SCENES,
    threads: int = 1,
    report_only: bool = False,
    command: str = "",
) -> list[Judged]:
    """Run what is missing of a study, write its report, its figures and its rows to `folder`, say the verdicts.

    Variants that are retired are left out. The report names `command`, by default that of a shipped study as it is.
    """
    require("scipy", "joblib")
    study = study.without_retired()
    runs, rows = study_runs(study, experiment, scenes, threads), Table(table)
    if (older := table.parent / "rows.jsonl").exists():
        say(f"{older} was written by an older version and is not read; what it holds is run again once")
    check_rows([row for run in runs for row in rows.find(run.row_keys) or ()], table)
    if not report_only:
        run_study(runs, rows, options, say)
    labelled = labelled_rows(runs, rows)
    judged = judge(study, labelled)
    say(verdict_table(judged, study))
    write_rows(folder / "rows.jsonl.xz", labelled)
    if find_spec("matplotlib") is None:
        say(f"rows: {folder / 'rows.jsonl.xz'}; no report: it needs matplotlib: pip install 'dpnet-lite[notebooks]'")
        return judged
    for path in write_report(study, labelled, judged, folder, command=command or f"dpnet-lite ablate {study.name}"):
        say(f"written: {path}")
    return judged


def run_study(runs: Sequence[Run], table: Table, options: EngineOptions, say: _Say) -> None:
    """Execute what `table` lacks of `runs`, rows into the table as they come; shows runs done and the time left.

    Stopped by Ctrl-C or killed, it loses only the runs that were under way; the same call goes on from there.
    """
    distinct = {tuple(run.row_keys): run for run in reversed(runs)}  # runs without training are the same for all seeds
    todo = [run for keys, run in reversed(distinct.items()) if table.find(keys) is None]
    done = len(distinct) - len(todo)
    say(f"{len(todo)} of {len(distinct)} runs to do" + (f", the others are in {table.path}" if done else ""))
    if not todo:
        return
    if stale := _of_other_data(todo, table):
        say(f"{stale} of them are in {table.path} for other images or masks only, and are done again for these")
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


def _of_other_data(runs: Sequence[Run], table: Table) -> int:
    """How many runs on photographs have a row that differs in nothing but the data."""

    def settings(identity: dict[str, Any]) -> str:
        return digest({name: value for name, value in identity.items() if name != "data"})

    if runs[0].experiment.is_toy:
        return 0
    known = {settings(row["identity"]) for row in table.all_rows() if isinstance(row.get("identity"), dict)}
    return sum(settings(run.identity(run.conditions[0])) in known for run in runs)


def labelled_rows(runs: Sequence[Run], table: Table) -> list[Row]:
    """The rows of a study with the names it gives them: variant and condition, fold and seed.

    Raises:
        ValueError: some are missing.
    """
    found = [table.find(run.row_keys) for run in runs]
    if None in found:
        made = f"device {runs[0].experiment.device} and {runs[0].threads} thread(s)"
        raise ValueError(
            f"{found.count(None)} of {len(runs)} runs with {made} are not in {table.path}; run the study first, "
            "without --report"
        )
    return [
        {**row, "variant": run.variant.name, "condition": condition.name, "fold": run.fold, "seed": run.seed}
        for run, rows in zip(runs, found, strict=True)
        for condition, row in zip(run.conditions, rows or [], strict=True)
    ]
