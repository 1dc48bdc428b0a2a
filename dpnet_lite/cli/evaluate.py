"""`dpnet-lite evaluate`: a trained head on the novel classes of a fold, beside the training-free baseline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpnet_lite.cli.options import (
    EPISODES,
    PUBLISHED,
    add_data,
    add_lists,
    experiment_of,
    known_networks,
    published_copy,
    published_data,
    say,
)
from dpnet_lite.published.protocols.specs import PROTOCOLS

if TYPE_CHECKING:
    from dpnet_lite.episodes import EpisodeList


def add_options(parser: argparse.ArgumentParser) -> None:
    add_data(parser, one_fold=True, of_head=True)
    add = parser.add_argument
    whose = "whose way of testing; several count the same predictions (default: ours)"
    add("--protocol", nargs="+", choices=tuple(PROTOCOLS), help=whose)
    add_lists(parser)
    add("--checkpoint", type=Path, required=True)
    add("--shots", type=int, nargs="+", default=[1, 5])
    add("--episodes", type=int, help=f"{EPISODES[:-1]}; or as the protocol has it)")
    add("--seed", type=int, help="of the episodes (default: that of the demo)")
    add("--original-size", action="store_true")
    add("--out", type=Path, help="write the scores as JSON")


def run(args: argparse.Namespace) -> None:
    if published_data(args.data) is None:
        say(_evaluate(args))
        return
    from dpnet_lite.published.score import evaluate_published

    scored = evaluate_published(
        published_copy(args),
        args.checkpoint,
        protocols=args.protocol or ["ours"],
        fold=args.fold,
        shots=args.shots,
        seed=args.seed,
        n_episodes=args.episodes,
        size=args.size,
        output=args.out,
        networks=known_networks(),
    )
    say(scored)


def _evaluate(args: argparse.Namespace) -> str:
    """Score on the toy world or on a folder; with protocols, the same predictions are counted as each of them does."""
    from dpnet_lite.checkpoints import load_trained
    from dpnet_lite.experiments import jobs
    from dpnet_lite.experiments.progress import Stages
    from dpnet_lite.experiments.tables import summary_table
    from dpnet_lite.files import write_atomically
    from dpnet_lite.scoring import score_episodes

    if args.lists is not None:
        raise ValueError("--lists needs a published data set, such as --data pascal5i:PATH")
    if args.protocol and args.original_size:
        raise ValueError("--protocol says at what size predictions are compared; leave out --original-size")
    _take_from_head(args)
    n_episodes = 500 if args.episodes is None else args.episodes
    experiment = experiment_of(args, seeds=[0], shots=args.shots, n_episodes=n_episodes)
    weights, networks = args.backbone_weights, known_networks()
    trained = load_trained(args.checkpoint, backbone_weights=weights, device=args.device, networks=networks)
    novel = experiment.novel(args.fold)
    names = [experiment.own_classes[index] for index in novel]
    jobs.refuse_seen_classes(args.checkpoint, trained.metadata, names, args.fold)
    if args.size is None:
        experiment = replace(experiment, size=trained.size)
    stages = Stages(experiment.is_toy + 2 * len(args.shots))
    bank = experiment.test_bank(trained.backbone, args.fold, stages)
    seed = jobs.TEST_SEED if args.seed is None else args.seed
    lists = jobs.novel_lists(bank.dataset, novel, fold=args.fold, shots=args.shots, n_episodes=n_episodes, seed=seed)
    methods = jobs.trained_and_training_free(trained)
    head = _what_is_scored(bank.dataset.name, lists, args.checkpoint, trained.metadata)
    if args.protocol:
        from dpnet_lite.published.score import count_under, protocol_table, write_runs

        specs = [PROTOCOLS[name] for name in args.protocol]
        runs = jobs.evaluate(methods, bank, lists, count=count_under(specs), stage=stages)
        if args.out is not None:
            write_runs(args.out, args.checkpoint.name, runs, novel)
        return f"{head}\n\n{protocol_table(runs, specs, novel)}"
    count = partial(score_episodes, original_size=args.original_size)
    scored = jobs.evaluate(methods, bank, lists, count=count, stage=stages)
    if args.out is not None:
        rows = [[entry.method, entry.episodes.n_shot, entry.scores.to_dict()] for entry in scored]
        write_atomically(args.out, json.dumps({"checkpoint": args.checkpoint.name, "scores": rows}).encode())
    run = {(entry.method, entry.episodes.n_shot): entry.scores for entry in scored}
    return f"{head}\n\n{summary_table([run])}"


def _take_from_head(args: argparse.Namespace) -> None:
    """Data and fold, where they are not given, are those of the head's training."""
    from dpnet_lite.checkpoints import load_checkpoint

    _, metadata = load_checkpoint(args.checkpoint)
    own = metadata.get("data", "toy")
    if args.data is None and own != "toy":
        kind = next((name for name in PUBLISHED if own.startswith(name)), "folder")
        raise ValueError(f"{args.checkpoint} was trained on {own}; give --data {kind}:PATH, or --data toy")
    args.data = args.data or "toy"
    args.fold = int(metadata.get("fold", 0)) if args.fold is None else args.fold


def _what_is_scored(name: str, lists: Sequence[EpisodeList], path: Path, metadata: Mapping[str, Any]) -> str:
    ordered = sorted(lists, key=lambda episodes: episodes.n_shot)
    hashes = ", ".join(f"{episodes.n_shot}-shot {episodes.sha256[:12]}" for episodes in ordered)
    return (
        f"Novel classes of fold {lists[0].fold} of {name}, {len(lists[0].episodes)} episodes each (SHA-256: "
        f"{hashes}), by {path}, trained on {metadata.get('data', 'unknown data')}, "
        f"fold {metadata.get('fold', 'unknown')}"
    )
