"""`dpnet-lite evaluate`: a trained head on the novel classes of a fold, beside the training-free baseline."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from dpnet_lite.cli import options
from dpnet_lite.experiments.presets import N_FOLDS
from dpnet_lite.published.protocols.specs import PROTOCOLS

if TYPE_CHECKING:
    from dpnet_lite.checkpoints import Trained
    from dpnet_lite.evaluation import EpisodeScores
    from dpnet_lite.experiments.experiment import EvaluationData
    from dpnet_lite.experiments.progress import Stages


def add_options(parser: argparse.ArgumentParser) -> None:
    options.add_data(parser, one_fold=True, of_head=True)
    add = parser.add_argument
    whose = "whose way of testing; several count the same predictions (default: ours)"
    add("--protocol", nargs="+", choices=tuple(PROTOCOLS), help=whose)
    options.add_lists(parser)
    add("--checkpoint", type=options.parse_path, required=True)
    add("--shots", type=options.whole(1, 1_000), nargs="+", default=[1, 5])
    episodes = f"{options.EPISODES[:-1]}; or as the protocol has it)"
    add("--episodes", dest="n_episodes", metavar="EPISODES", type=options.whole(1), help=episodes)
    add("--seed", type=options.parse_seed, help="of the episodes (default: that of the demo)")
    add("--original-size", action="store_true")
    add("--out", type=options.parse_path, help="write the scores as JSON")
    add("--overwrite", action="store_true", help="replace the file of --out")


def run(args: argparse.Namespace) -> None:
    from dpnet_lite.storage.files import claimed

    _refuse(args, is_published=options.published_data(args.data) is not None)
    if args.out is None:
        _evaluate(args)
        return
    options.check_output(args.out, may_replace=args.overwrite)
    if args.out.suffix != ".json" or args.out.resolve().with_suffix(".safetensors").exists():
        raise ValueError(f"--out {args.out} is not for scores; give a name in .json that is no checkpoint's")
    with claimed(args.out, may_replace=args.overwrite):
        _evaluate(args)


def _evaluate(args: argparse.Namespace) -> None:
    from dpnet_lite.checkpoints import load_trained
    from dpnet_lite.experiments.jobs import evaluate, trained_and_training_free
    from dpnet_lite.experiments.progress import Stages
    from dpnet_lite.experiments.tables import difference_table, episode_notes, summary_table
    from dpnet_lite.scoring import score_episodes

    published = options.published_data(args.data)
    names = list(dict.fromkeys(args.protocol or ([] if published is None else ["ours"])))
    weights, networks = args.backbone_weights, options.known_networks()
    trained = load_trained(args.checkpoint, backbone_weights=weights, device=args.device, networks=networks)
    _take_from_head(args, trained.metadata)
    stages = Stages()
    data, title, notes = (_own_data if published is None else _published_data)(args, names, trained, stages)
    methods = trained_and_training_free(trained)
    stages.total = stages.number + len(data.lists) * len(methods)
    if names:
        from dpnet_lite.published.score import count_under, protocol_table, run_rows

        specs = [PROTOCOLS[name] for name in names]
        count = count_under(specs, "pascal5i" if published is None else published[0])
        runs = evaluate(methods, data.source, data.lists, count=count, stage=stages)
        _save(args, data, runs=run_rows(runs, data.novel))
        tables = [protocol_table(runs, specs, data.novel)]
        if "ours" in names:
            by_seed: dict[int, dict[tuple[str, int], EpisodeScores]] = {}
            for run in runs:
                by_seed.setdefault(run.episodes.seed, {})[run.method, run.episodes.n_shot] = run.scores["ours"]
            tables += ["Differences, by ours:", difference_table([*by_seed.values()], resample_runs=False)]
    else:
        plain = partial(score_episodes, original_size=args.original_size)
        scored = evaluate(methods, data.source, data.lists, count=plain, stage=stages)
        _save(args, data, scores=[[entry.method, entry.episodes.n_shot, entry.scores.to_dict()] for entry in scored])
        scores = [{(entry.method, entry.episodes.n_shot): entry.scores for entry in scored}]
        tables = [summary_table(scores), difference_table(scores)]
    in_turn = not names or PROTOCOLS[names[0]].drawing == "turns"  # else the table says which classes have no episode
    notes += episode_notes(data.lists, data.novel if in_turn else [], data.source.dataset.class_names)
    options.say("\n\n".join([title, *tables, *notes]))


def _save(args: argparse.Namespace, data: EvaluationData, **record: Any) -> None:
    """Write scores to --out, if it is given: before tables are made of them, which may fail."""
    from dpnet_lite.storage.files import write_atomically

    if args.out is not None:
        lists = [json.loads(episodes.to_json()) for episodes in data.lists]  # `read_scores` takes images from these
        record |= {"checkpoint": args.checkpoint.name, "episodes": lists}
        write_atomically(args.out, json.dumps(record).encode())


def _take_from_head(args: argparse.Namespace, metadata: dict[str, Any]) -> None:
    """Data, folds and fold, where they are not given, are those of the head's training."""
    data = metadata.get("data", "toy")
    if args.data is None and data != "toy":
        kind = next((name for name in options.PUBLISHED if data.startswith(name)), "folder")
        raise ValueError(f"{args.checkpoint} was trained on {data}; give --data {kind}:PATH, or --data toy")
    args.data = args.data or "toy"
    args.fold = int(metadata.get("fold") or 0) if args.fold is None else args.fold
    own = metadata if args.data != "toy" and options.published_data(args.data) is None else {}  # the others fix them
    lacks = own is metadata and (args.n_folds or own.get("n_folds"), args.layout or own.get("layout"))
    args.n_folds = args.n_folds or own.get("n_folds", N_FOLDS)
    args.layout = args.layout or own.get("layout", "interleaved")
    if lacks and None in lacks:
        taken = f"--n-folds {args.n_folds} --folds {args.layout} is taken; give what it was trained with"
        options.say(f"{options.escaped(str(args.checkpoint))} does not say its folds: {taken}")


def _refuse(args: argparse.Namespace, *, is_published: bool) -> None:
    """ValueError for options that have no meaning for the data."""
    if args.lists is not None and not is_published:
        raise ValueError("--lists needs a published data set, such as --data pascal5i:PATH")
    if args.protocol and args.original_size and not is_published:
        raise ValueError("--protocol says at what size predictions are compared; leave out --original-size")


def _own_data(
    args: argparse.Namespace, names: list[str], trained: Trained, stages: Stages
) -> tuple[EvaluationData, str, list[str]]:
    """The toy world or a folder, and what the table's title says of it."""
    from dpnet_lite.experiments.experiment import TEST_SEED
    from dpnet_lite.experiments.jobs import refuse_seen_classes

    experiment = options.experiment_of(args, size=trained.size if args.size is None else args.size)
    novel = [experiment.own_classes[index] for index in experiment.novel(args.fold)]
    refuse_seen_classes(args.checkpoint, trained.metadata, novel, args.fold)
    seed = TEST_SEED if args.seed is None else args.seed
    data = experiment.evaluation_data(trained.backbone, args.fold, seed, stages)
    ordered = sorted(data.lists, key=lambda episodes: episodes.n_shot)
    hashes = ", ".join(f"{episodes.n_shot}-shot {episodes.sha256[:12]}" for episodes in ordered)
    title = (
        f"Novel classes of fold {args.fold} of {data.source.dataset.name}, {len(ordered[0])} episodes each (SHA-256: "
        f"{hashes}), by {args.checkpoint}, trained on {trained.metadata.get('data', 'unknown data')}, "
        f"fold {trained.metadata.get('fold', 'unknown')}"
    )
    return data, title, []


def _published_data(
    args: argparse.Namespace, names: list[str], trained: Trained, stages: Stages
) -> tuple[EvaluationData, str, list[str]]:
    """A published data set by the first protocol's own rules, the table's title, and where it departs from theirs."""
    from dpnet_lite.published.registry import published
    from dpnet_lite.published.score import departures, published_data

    copy, specs = options.published_copy(args), [PROTOCOLS[name] for name in names]
    size = trained.size if args.size is None else args.size
    seeds = specs[0].seeds if args.seed is None else (args.seed,)
    how = {"fold": args.fold, "shots": args.shots, "seeds": seeds, "n_episodes": args.n_episodes, "size": size}
    data = published_data(copy, args.checkpoint, trained, specs[0], **how)
    recipe = trained.metadata.get("recipe", "no recipe")
    title = f"{published(copy.name).title}, fold {args.fold}, by {args.checkpoint} ({recipe})"
    notes = departures(specs, copy.name, has_pairs=copy.hsnet_lists is not None, shots=args.shots)
    is_of_it = trained.metadata.get("data") == f"{copy.name}-train"
    if is_of_it and (own := trained.metadata.get("origin", copy.origin)) != copy.origin:
        text = f"Trained on {own}, scored on {copy.origin}"
        notes.append(f"{text}: images of the training may be among those of the test, which is not looked at.")
    return data, title, notes
