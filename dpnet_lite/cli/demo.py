"""`dpnet-lite demo`: the main job with its tables and pictures."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpnet_lite.cli import options

if TYPE_CHECKING:
    from dpnet_lite.experiments.experiment import Experiment
    from dpnet_lite.experiments.jobs import FoldResult
    from dpnet_lite.experiments.results import FoldRun


_PICTURES = ("episodes.png", "learning_curve.png", "photographs.png")


def add_options(parser: argparse.ArgumentParser) -> None:
    options.add_data(parser)
    options.add_training_data(parser)
    options.add_settings(parser)
    parser.add_argument("--seeds", type=options.parse_seed, nargs="+", default=[0])
    parser.add_argument("--shots", type=options.whole(1, 1_000), nargs="+", default=[1, 5])
    episodes: dict[str, Any] = {"dest": "n_episodes", "metavar": "EPISODES", "help": options.EPISODES}
    parser.add_argument("--episodes", type=options.whole(1), default=500, **episodes)
    parser.add_argument("--original-size", action="store_true", help="score at each photograph's own size")
    parser.add_argument("--out", type=options.parse_path, default=Path("outputs/demo"))
    add = parser.add_mutually_exclusive_group().add_argument
    add("--resume", action="store_true", help="skip folds and seeds that are done")
    add("--overwrite", action="store_true", help="replace heads and scores of the same folds and seeds")


def run(args: argparse.Namespace) -> None:
    experiment = options.experiment_of(args)
    options.check_output(args.out, is_folder=True)
    for name in _PICTURES:  # another program's, where no result of ours lies beside it
        is_ours = args.resume or args.overwrite or any(args.out.glob("fold*_seed*.json"))
        options.check_output(args.out / name, may_replace=is_ours)
    how = {"resume": args.resume, "may_replace": args.overwrite, "networks": options.known_networks()}
    run_demo(experiment, args.out, say=options.say, **how)


def run_demo(
    experiment: Experiment,
    output: Path,
    *,
    say: Callable[[str], None],
    resume: bool = False,
    pictures: bool = True,
    **settings: Any,
) -> list[FoldResult]:
    """Run all folds and seeds, write results, heads and pictures to `output`, say the tables."""
    from dpnet_lite.experiments.devices import world_size
    from dpnet_lite.experiments.results import run_experiment

    if world_size() > 1:
        raise ValueError("demo runs in one process, but torchrun started several; use train for several processes")
    if pictures and importlib.util.find_spec("matplotlib") is None:
        say("no pictures: matplotlib is missing; install it with: pip install 'dpnet-lite[notebooks]'")
        pictures = False
    results, last = [], None
    for fold_run in run_experiment(experiment, output, resume=resume, say=say, **settings):
        results.append(fold_run.result)
        last = fold_run if fold_run.data is not None else last
    say(_tables(results, experiment))
    if pictures and last is not None:
        for path in _draw(output, last):
            say(f"picture: {path}")
    if pictures and experiment.is_toy:
        say(f"picture: {_draw_photographs(output)}, by the weights for photographs that come with the package")
    return results


def _draw_photographs(output: Path) -> Path:
    """Write the picture of photographs: three episodes drawn at random, by the shipped weights."""
    from dpnet_lite.checkpoints import load_trained
    from dpnet_lite.datasets import OBJECTS_CREDIT, objects
    from dpnet_lite.episodes import draw_episodes
    from dpnet_lite.experiments.jobs import FULL
    from dpnet_lite.experiments.kept_features import compute_features
    from dpnet_lite.experiments.plots import episodes_figure, png
    from dpnet_lite.storage.files import write_atomically

    trained, photographs = load_trained("photographs"), objects()
    every = range(len(photographs.class_names))
    shown = draw_episodes(photographs, every, fold=0, n_shot=1, count=3, seed=0).episodes
    bank = compute_features(photographs, trained.backbone, size=trained.size)
    figure = episodes_figure(bank, shown, {FULL: trained.head})
    figure.supxlabel(OBJECTS_CREDIT, fontsize=8)
    write_atomically(output / "photographs.png", png(figure, dpi=150))
    return output / "photographs.png"


def _tables(results: Sequence[FoldResult], experiment: Experiment) -> str:
    from dpnet_lite.experiments.tables import difference_table, episode_notes, fold_table, summary_table

    first = results[0].episodes if results[0].episodes else {}
    hashes = ", ".join(f"{n_shot}-shot {episodes.sha256[:12]}" for n_shot, episodes in sorted(first.items()))
    runs = [result.scores for result in results]
    folds, seeds = (", ".join(map(str, numbers)) for numbers in (experiment.folds, experiment.seeds))
    parts = [
        f"Novel classes of fold {folds}, seeds {seeds}, "
        f"{experiment.n_episodes} episodes each (SHA-256 of fold {results[0].fold}: {hashes})",
        summary_table(runs),
        difference_table(runs),
    ]
    for r in results:
        notes = episode_notes([*r.episodes.values()], experiment.novel(r.fold), experiment.own_classes)
        parts[1:1] = [note for note in notes if note not in parts]
    if len(experiment.folds) > 1:
        parts.append(fold_table(results))
    return "\n\n".join(parts)


def _draw(output: Path, fold_run: FoldRun) -> list[Path]:
    """Write the episode and learning-curve pictures of one trained fold."""
    from dpnet_lite.experiments.jobs import FULL
    from dpnet_lite.experiments.plots import episodes_figure, learning_curve_figure, png
    from dpnet_lite.storage.files import write_atomically

    result, data = fold_run
    assert data is not None, "what was read from a file is not drawn"
    heads = {name: trained.head.cpu() for name, trained in result.trained.items()}
    shown = result.episodes[min(result.episodes)].episodes[:5]
    figures = {
        "episodes.png": episodes_figure(data.test, shown, heads, main=FULL),
        "learning_curve.png": learning_curve_figure({n: t.losses for n, t in result.trained.items()}),
    }
    for name, figure in figures.items():
        write_atomically(output / name, png(figure, dpi=150))
    return [output / name for name in figures]
