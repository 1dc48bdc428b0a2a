"""The command `dpnet-lite ablate`: its options, and what they mean."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from dpnet_lite.ablation.engines import EngineName, EngineOptions
from dpnet_lite.ablation.studies import Study, load_study, quick, shipped_studies
from dpnet_lite.experiments.experiment import DemoConfig

QUICK_SCENES = (600, 200)  # training and test scenes of the toy world with --quick


def add_ablate(commands: Any, *option_groups: Any) -> None:
    """Add the command; `option_groups` add the options that it shares with other commands."""
    parser = commands.add_parser(
        "ablate",
        allow_abbrev=False,
        help="compare variants of the network in pairs, write a report",
        description="Runs what is missing of a study, then writes its report. A stopped study goes on where it was.",
    )
    parser.add_argument("study", nargs="?", help=f"{', '.join(shipped_studies())}, or a .toml file of your own")
    for add in option_groups:
        add(parser)
    parser.add_argument("--quick", action="store_true", help="two folds, two seeds, 60 steps, few scenes: to try it")
    parser.add_argument("--report", action="store_true", help="run nothing, write the report of what is there")
    parser.add_argument("--list", action="store_true", help="name the shipped studies and what they ask")
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="training seeds (default: the study's)")
    parser.add_argument("--steps", type=int, default=None, help="training steps (default: the study's)")
    parser.add_argument("--episodes", type=int, default=None, help="test episodes per fold (default: the study's)")
    parser.add_argument("--original-size", action="store_true", help="score at each photograph's own size")
    parser.add_argument(
        "--engine",
        choices=get_args(EngineName),
        default="local",
        help="processes of this machine, or Ray (needs the extra cluster)",
    )
    parser.add_argument("--jobs", type=int, default=None, help="runs at once (default: one per core)")
    parser.add_argument("--address", default=None, help="of a running Ray cluster, such as auto or HOST:6379")
    parser.add_argument("--cpus-per-run", type=float, default=1.0, help="cores that Ray keeps for a run")
    parser.add_argument("--gpus-per-run", type=float, default=0.0, help="GPUs, such as 0.25 for four runs on one")
    parser.add_argument(
        "--accept-code",
        action="append",
        default=[],
        metavar="HASH",
        help="take rows that this code made as done, too; a report names the codes",
    )
    parser.add_argument(
        "--table",
        type=Path,
        default=Path("outputs/ablation/rows.jsonl"),
        help="all rows of all studies (default: outputs/ablation/rows.jsonl)",
    )
    parser.add_argument("--out", type=Path, default=None, help="report folder (default: outputs/ablation/DATA/STUDY)")


def chosen_study(args: argparse.Namespace) -> Study:
    """The study with what the options change of it."""
    if args.study is None:
        raise ValueError(f"name a study: {', '.join(shipped_studies())}, or a .toml file; --list tells what they ask")
    study = load_study(args.study)
    if args.quick:
        study = quick(study)
    if args.fold not in (None, "all"):
        study = replace(study, folds=(args.fold,))
    if args.seeds is not None:
        study = replace(study, seeds=tuple(args.seeds))
    if args.episodes is not None:
        study = replace(study, n_episodes=args.episodes)
    if args.steps is not None:
        study = replace(study, training={**study.training, "steps": args.steps})
    return study


def run_ablate(args: argparse.Namespace, config: DemoConfig, study: Study, say: Any) -> None:
    """Run the study on the data of `config`."""
    from dpnet_lite.ablation.jobs import ablate
    from dpnet_lite.ablation.runs import TOY_SCENES

    name = study.name + ("-quick" if args.quick else "")
    data = "toy" if config.data == "toy" else Path(config.data).name
    command = shlex.join(["dpnet-lite", *(word for word in args.arguments if word != "--report")])  # what made the rows
    options = EngineOptions(args.engine, args.jobs, args.address, args.cpus_per_run, args.gpus_per_run)
    ablate(
        study,
        config,
        table=args.table,
        folder=args.out or Path("outputs/ablation") / data / name,
        options=options,
        say=say,
        scenes=QUICK_SCENES if args.quick else TOY_SCENES,
        threads=1 if args.threads is None else args.threads,
        report_only=args.report,
        other_codes=args.accept_code,
        command=command,
    )


def list_studies() -> str:
    """A line a shipped study: its name and its question."""
    studies = [load_study(name) for name in shipped_studies()]
    width = max(len(study.name) for study in studies)
    return "\n".join(f"{study.name.ljust(width)}  {study.question}" for study in studies)
