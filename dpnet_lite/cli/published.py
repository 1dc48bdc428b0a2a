"""The options of `train` and `evaluate` for the published data sets, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from dpnet_lite.experiments.fold_data import N_FOLDS
from dpnet_lite.published.protocols.specs import PROTOCOLS
from dpnet_lite.published.registry import PublishedName

NAMES = get_args(PublishedName)


def published_data(text: str | None) -> tuple[str, Path] | None:
    """Name and folder of "pascal5i:PATH" and its like; None for any other data."""
    name, colon, path = (text or "").partition(":")
    return (name, Path(path).expanduser()) if colon and name in NAMES else None


def add_training_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        default=None,
        metavar="NAME or FILE",
        help="how to train on a published data set (see dpnet_lite/full_size/recipes)",
    )
    parser.add_argument("--workers", type=int, default=0, help="processes that decode images (published data sets)")
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="train nothing: measure a few steps of the recipe, say what all would cost",
    )
    _add_lists(parser)


def add_scoring_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--protocol",
        nargs="+",
        choices=tuple(PROTOCOLS),
        default=None,
        help="whose way of testing; several count the same predictions (default: ours)",
    )
    _add_lists(parser)


def _add_lists(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lists",
        type=Path,
        default=None,
        help="list files of your own, or FSS-1000's class lists (published data sets)",
    )


def train_by_recipe(args: argparse.Namespace, with_settings: Callable[[Any, list[str]], Any]) -> str:
    """Train on a published data set."""
    from dpnet_lite.published.recipe_files import load_recipe, shipped_recipes
    from dpnet_lite.published.train import train_published

    _refuse(args, n_folds=N_FOLDS, folds="interleaved")
    copy = _copy(args, args.precision, args.workers)
    if args.recipe is None:
        raise ValueError(
            f"{copy.name} is trained by a recipe; give --recipe with {', '.join(shipped_recipes())} or a file"
        )
    if args.extra_base or args.gap is not None:
        raise ValueError("--extra-base and --gap are not for published data sets; leave them out")
    recipe = load_recipe(args.recipe)
    wishes = {"backbone": args.backbone, "size": args.size, "novel": args.novel}
    recipe = replace(
        recipe,
        model=with_settings(recipe.model, args.model),
        training=with_settings(recipe.training, args.training),
        **{name: value for name, value in wishes.items() if value is not None},
    )
    return train_published(
        recipe,
        copy,
        args.out,
        fold=args.fold,
        seed=args.seed,
        steps=args.steps,
        resume=args.resume,
        overwrite=args.overwrite,
        tensorboard=args.tensorboard,
        estimate=args.estimate,
    )


def evaluate_by_protocol(args: argparse.Namespace) -> str:
    """Score a head on a published data set."""
    from dpnet_lite.published.score import evaluate_published

    _refuse(args, n_folds=N_FOLDS, folds="interleaved", gap=None, original_size=False)
    return evaluate_published(
        _copy(args),
        args.checkpoint,
        protocols=args.protocol or ["ours"],
        fold=args.fold,
        shots=args.shots,
        seed=args.seed,
        n_episodes=args.episodes,
        size=args.size,
        output=args.out,
    )


def _refuse(args: argparse.Namespace, **defaults: Any) -> None:
    """ValueError for an option that has no meaning here."""
    for name, default in defaults.items():
        if getattr(args, name) != default:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} has no meaning for a published data set, which fixes it; leave it out")


def _copy(args: argparse.Namespace, precision: str = "fp32", workers: int = 0) -> Any:
    from dpnet_lite.published.copy import PublishedCopy

    found = published_data(args.data)
    assert found is not None, "asked for after published_data said so"
    return PublishedCopy(
        *found,
        lists=args.lists,
        cache_folder=args.cache,
        device=args.device,
        backbone_weights=args.backbone_weights,
        precision=precision,
        workers=workers,
    )
