"""`dpnet-lite train`: one head on the base classes of one fold, of any data."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dpnet_lite.cli import options

if TYPE_CHECKING:
    from torch import Tensor

    from dpnet_lite.config import TrainingConfig
    from dpnet_lite.experiments.experiment import Experiment, TrainingData
    from dpnet_lite.published.recipe_files import Recipe


def add_options(parser: argparse.ArgumentParser) -> None:
    options.add_data(parser, one_fold=True)
    options.add_training_data(parser)
    options.add_settings(parser)
    add = parser.add_argument
    how = "how to train on a published data set (see dpnet_lite/published/recipes)"
    add("--recipe", metavar="NAME or FILE", help=how)
    add("--workers", type=options.whole(0, 1_024), default=0, help="processes that decode images (published data sets)")
    nothing = "train nothing: measure a few steps of the recipe, say what all would cost"
    add("--estimate", action="store_true", help=nothing)
    options.add_lists(parser)
    add("--seed", type=options.parse_seed, default=0)
    add("--out", type=options.parse_checkpoint, default=Path("outputs/dpnet.safetensors"))
    add("--tensorboard", type=options.parse_path, help="folder for TensorBoard logs")
    start = "begin with these trained weights: photographs, or a checkpoint of the same backbone (not with a recipe)"
    add("--from", dest="start", metavar="WEIGHTS", type=options.parse_path, help=start)
    add = parser.add_mutually_exclusive_group().add_argument
    add("--resume", action="store_true", help="continue a run that was stopped")
    add("--overwrite", action="store_true", help="train anew where the file of --out is there already")


def run(args: argparse.Namespace) -> None:
    is_published = options.published_data(args.data) is not None
    if not is_published and (args.recipe is not None or args.estimate or args.lists is not None or args.workers):
        raise ValueError(
            "--recipe, --estimate, --lists and --workers need a published data set, such as --data pascal5i:PATH"
        )
    if is_published and args.start is not None:
        raise ValueError(f"--from {args.start} has no meaning for a recipe, which starts from nothing; leave it out")
    options.check_checkpoint(args.out, may_replace=args.resume or args.overwrite or args.estimate)
    if args.tensorboard is not None:
        options.check_output(args.tensorboard, is_folder=True)
    (_train_by_recipe if is_published else _train)(args)


def _train(args: argparse.Namespace) -> None:
    from dpnet_lite.experiments.devices import make_fabric
    from dpnet_lite.experiments.experiment import plain_name
    from dpnet_lite.experiments.jobs import train
    from dpnet_lite.experiments.progress import Stages

    plan = options.experiment_of(args, seeds=(args.seed,))
    experiment, begun = _begun(args, plan)
    fabric = make_fabric(args.device, experiment.training.precision, tensorboard=args.tensorboard)
    experiment = replace(experiment, device=str(fabric.device))
    training, stages = replace(experiment.training, seed=args.seed), Stages(2 if experiment.is_toy else 1)
    backbone = experiment.build_backbone()
    if begun is not None and backbone.fingerprint != begun.metadata["backbone_fingerprint"]:
        raise ValueError(f"{args.start} was trained on other {backbone.name} weights; give these as --backbone-weights")
    data = experiment.training_data(backbone, args.fold, args.seed, stages)
    for note in _notes(data, training):
        options.say(note)
    how: dict[str, Any] = {"fabric": fabric, "stage": stages, "networks": options.known_networks()}
    how |= {"resume": args.resume, "may_replace": args.overwrite, "n_folds": plan.n_folds, "layout": plan.layout}
    if begun is not None:  # a class that it was trained on stays one that it was trained on
        names = [data.train.dataset.class_names[index] for index in data.base]
        before = begun.metadata.get("base_classes", [])
        own = [experiment.own_classes[index] for index in experiment.novel(args.fold)]
        if known := [name for name in own if plain_name(name) in map(plain_name, before)]:
            text = f"{args.start} was trained on {', '.join(known[:5])}, novel in fold {args.fold}"
            options.say(options.escaped(f"{text}: what begins with it cannot be scored on this fold"))
        seen = list(dict.fromkeys([*before, *names]))
        how |= {"initial_weights": begun.weights, "base_classes": seen, "continued_from": args.start.name}
    result = train(data, experiment.model, training, args.out, **how)
    options.say(f"saved {args.out}: weights of step {result.step} of {training.steps}")


def _notes(data: TrainingData, training: TrainingConfig) -> list[str]:
    """What must be known of training episodes: classes that have none, support images that repeat."""
    from dpnet_lite.episodes import class_pools
    from dpnet_lite.training import area_rule

    dataset = data.train.dataset
    sizes = {dataset.class_names[i]: len(p) for i, p in class_pools(dataset, data.base, **area_rule(training)).items()}
    left_out, notes = [name for name, size in sizes.items() if size < 2], []
    if left_out:
        few = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
        notes.append(
            f"{len(left_out)} of {len(sizes)} classes have fewer than two images and are not trained on: {few}"
        )
    fewest = min((size for size in sizes.values() if size > 1), default=0)
    if 0 < fewest <= training.n_shot:
        notes.append(
            f"support images repeat: n_shot is {training.n_shot}, and a class has only {fewest - 1} more images"
        )
    return notes


class _Begun(NamedTuple):
    """The trained weights that a training goes on from."""

    weights: Mapping[str, Tensor]
    metadata: Mapping[str, Any]


def _begun(args: argparse.Namespace, experiment: Experiment) -> tuple[Experiment, _Begun | None]:
    """The experiment with what the weights of --from fix, and these weights; None where none are named."""
    if args.start is None:
        return experiment, None
    from dpnet_lite.checkpoints import load_head

    head, metadata = load_head(args.start, networks=options.known_networks())
    if args.model:
        raise ValueError(f"--model {' '.join(args.model)} would change the network of {args.start}; leave it out")
    for name in ("backbone", "size", "precision"):
        own, option = metadata[name], getattr(experiment if experiment.is_toy else args, name)
        if option not in (None, own):
            raise ValueError(f"{name} is {option}, but {args.start} was trained with {own}; leave out --{name}")
    fixed = {name: metadata[name] for name in ("backbone", "size", "precision")}
    return replace(experiment, model=head.config, **fixed), _Begun(head.state_dict(), metadata)


def _train_by_recipe(args: argparse.Namespace) -> None:
    from dpnet_lite.experiments.devices import make_fabric
    from dpnet_lite.experiments.jobs import train
    from dpnet_lite.experiments.progress import Stages
    from dpnet_lite.published.train import count_images, estimate_cost, recipe_data

    recipe = _recipe(args)
    options.check_model(recipe.model)
    copy = options.published_copy(args)
    fabric = make_fabric(args.device, recipe.training.precision, tensorboard=args.tensorboard)
    data = recipe_data(recipe, copy, args.fold, fabric)
    steps = recipe.steps(count_images(data, recipe.training)) if args.steps is None else args.steps
    training = replace(recipe.training, seed=args.seed, steps=steps)
    if args.estimate:
        options.say(estimate_cost(recipe, data, training, fabric, stage=Stages(2), networks=options.known_networks()))
        return
    for note in _notes(data, training):
        options.say(note)
    how: dict[str, Any] = {"fabric": fabric, "stage": Stages(1), "networks": options.known_networks()}
    how |= {"resume": args.resume, "may_replace": args.overwrite}
    how |= {"recipe": recipe.name, "novel": recipe.novel, "origin": copy.origin}
    result = train(data, recipe.model, training, args.out, **how)
    share = 100 * result.waited / result.seconds if result.seconds else 0.0
    options.say(
        f"saved {args.out}: weights of step {result.step} of {steps}; {result.seconds:.0f} s in the loop, "
        f"of which {share:.0f} % waiting for images"
    )


def _recipe(args: argparse.Namespace) -> Recipe:
    """The recipe with what the options change of it."""
    from dpnet_lite.published.recipe_files import load_recipe, shipped_recipes

    if args.recipe is None:
        name = args.data.partition(":")[0]
        raise ValueError(f"{name} is trained by a recipe; give --recipe with {', '.join(shipped_recipes())} or a file")
    if args.extra_base or args.gap is not None:
        raise ValueError("--extra-base and --gap are not for published data sets; leave them out")
    if any(text.startswith("steps=") for text in args.training):
        raise ValueError("--training steps=...: the steps of a recipe follow from its epochs; give --steps")
    recipe = load_recipe(args.recipe)
    wishes = {"backbone": args.backbone, "size": args.size, "novel": args.policy}
    return replace(
        recipe,
        model=recipe.model.with_texts(args.model),
        training=options.training_of(args, recipe.training),
        **{name: value for name, value in wishes.items() if value is not None},
    )
