"""`dpnet-lite ablate`: a study of variants, in pairs."""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dpnet_lite.cli import options

if TYPE_CHECKING:
    from dpnet_lite.ablation.studies import Study

QUICK_SCENES = (600, 200)  # training and test scenes of the toy world with --quick
_WHAT = "Runs what is missing of a study, then writes its report. A stopped study goes on where it was."
_STUDIES = sorted(path.stem for path in (Path(__file__).parents[1] / "ablation" / "studies").glob("*.toml"))
_ROWS = Path("outputs/ablation/rows.sqlite")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = _WHAT
    add = parser.add_argument
    add("study", nargs="?", help=f"{', '.join(_STUDIES)}, or a .toml file of your own")
    options.add_data(parser)
    options.add_training_data(parser)
    add("--quick", action="store_true", help="two folds, two seeds, 60 steps, few scenes: to try it")
    add("--report", action="store_true", help="run nothing, write the report of what is there")
    add("--list", action="store_true", help="name the shipped studies and what they ask")
    add("--seeds", type=options.parse_seed, nargs="+", help="training seeds (default: the study's)")
    add("--steps", type=options.whole(1), help="training steps (default: the study's)")
    add("--episodes", type=options.whole(1), help="test episodes per fold (default: the study's)")
    add("--original-size", action="store_true", help="score at each photograph's own size")
    where = "processes of this machine, or Ray (needs the extra cluster)"
    add("--engine", choices=("local", "ray"), default="local", help=where)
    add("--jobs", type=options.whole(1), help="runs at once (default: one per core)")
    add("--address", help="of a running Ray cluster, such as auto or HOST:6379")
    add("--cpus-per-run", type=options.parse_number, default=1.0, help="cores that Ray keeps for a run")
    add("--gpus-per-run", type=options.parse_number, default=0.0, help="GPUs, such as 0.25 for four runs on one")
    add("--table", type=options.parse_path, default=_ROWS, help=f"all rows of all studies (default: {_ROWS})")
    add("--out", type=options.parse_path, help="report folder (default: outputs/ablation/DATA/STUDY)")


def run(args: argparse.Namespace) -> None:
    if args.list:
        options.say(_list_of_studies())
        return
    from dpnet_lite.ablation.engines import EngineOptions
    from dpnet_lite.ablation.jobs import ablate
    from dpnet_lite.ablation.runs import TOY_SCENES

    study = _chosen_study(args)
    experiment = options.experiment_of(args, seeds=study.seeds, n_episodes=study.n_episodes)
    name = study.name + ("-quick" if args.quick else "")
    folder = args.out or Path("outputs/ablation") / os.path.basename(os.path.abspath(experiment.data)) / name
    options.check_output(folder, is_folder=True)
    options.check_output(args.table)
    ablate(
        study,
        experiment,
        table=args.table,
        folder=folder,
        options=EngineOptions(args.engine, args.jobs, args.address, args.cpus_per_run, args.gpus_per_run),
        say=options.say,
        scenes=QUICK_SCENES if args.quick else TOY_SCENES,
        threads=1 if args.threads is None else args.threads,
        report_only=args.report,
        # What made the rows.
        command=shlex.join(["dpnet-lite", *(word for word in args.arguments if word != "--report")]),
    )
    if args.quick:
        options.say("quick: so short a training shows how the tool works, and says nothing about the modules")


def _chosen_study(args: argparse.Namespace) -> Study:
    """The study with what the options change of it."""
    from dpnet_lite.ablation.studies import load_study, quick

    if args.study is None:
        raise ValueError(f"name a study: {', '.join(_STUDIES)}, or a .toml file; --list tells what they ask")
    study = load_study(args.study)
    if args.quick:
        study = quick(study)
    if args.fold is not None:
        study = replace(study, folds=() if args.fold == "all" else (args.fold,))
    if args.seeds is not None:
        study = replace(study, seeds=tuple(args.seeds))
    if args.episodes is not None:
        study = replace(study, n_episodes=args.episodes)
    if args.steps is not None:
        study = replace(study, training={**study.training, "steps": args.steps})
    return study


def _list_of_studies() -> str:
    """A line a shipped study: its name and its question."""
    from dpnet_lite.ablation.studies import load_study

    studies = [load_study(name) for name in _STUDIES]
    width = max(len(study.name) for study in studies)
    return "\n".join(f"{study.name.ljust(width)}  {study.question}" for study in studies)
