"""The command line: `dpnet-lite COMMAND`, also `python -m dpnet_lite COMMAND`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from dpnet_lite.cli.ablate import chosen_study, list_studies, run_ablate
from dpnet_lite.cli.data import run_data
from dpnet_lite.cli.options import Handler, option_parser, with_settings
from dpnet_lite.cli.published import NAMES, evaluate_by_protocol, published_data, train_by_recipe
from dpnet_lite.datasets.toy import DEFAULT_GAP
from dpnet_lite.experiments.devices import check_device
from dpnet_lite.experiments.experiment import DemoConfig, run_demo
from dpnet_lite.experiments.fold_data import N_FOLDS
from dpnet_lite.experiments.jobs import evaluate_checkpoint, train_one
from dpnet_lite.experiments.presets import PHOTOGRAPHS, TOY
from dpnet_lite.experiments.progress import is_first_process
from dpnet_lite.heads import load_head


def say(text: str) -> None:
    if is_first_process():
        print(text, flush=True)


def _demo_config(
    args: argparse.Namespace, *, seeds: Sequence[int], shots: Sequence[int] = (1,), episodes: int = 1
) -> DemoConfig:
    is_toy = args.data == "toy"
    if published_data(args.data) is not None:
        raise ValueError(f"{args.data} is a published data set; train and evaluate take it, this command does not")
    if is_toy and (getattr(args, "extra_base", []) or getattr(args, "backbone", None) not in (None, "tiny")):
        raise ValueError("--extra-base and another --backbone need --data folder:PATH; the toy world has its own")
    if is_toy and (args.size not in (None, TOY.size) or args.folds != "interleaved" or args.n_folds != N_FOLDS):
        raise ValueError(
            f"the toy world has {TOY.size} px and {N_FOLDS} interleaved folds; leave out --size, --folds and --n-folds"
        )
    if not is_toy and args.gap is not None:
        raise ValueError(f"--gap {args.gap} is a dial of the toy world; leave it out with --data folder:PATH")
    preset = TOY if is_toy else PHOTOGRAPHS
    training = with_settings(preset.training, getattr(args, "training", []))
    if getattr(args, "steps", None) is not None:
        training = replace(training, steps=args.steps)
    return DemoConfig(
        data=args.data,
        model=with_settings(preset.model, getattr(args, "model", [])),
        training=training,
        backbone=getattr(args, "backbone", None) or preset.backbone,
        size=preset.size if args.size is None else args.size,
        backbone_weights=args.backbone_weights,
        precision=getattr(args, "precision", "fp32"),
        folds=_folds(args, is_toy),
        n_folds=args.n_folds,
        seeds=tuple(seeds),
        shots=tuple(shots),
        n_episodes=episodes,
        gap=DEFAULT_GAP if args.gap is None else args.gap,
        layout=args.folds,
        extra_base=tuple(Path(path) for path in getattr(args, "extra_base", [])),
        policy=getattr(args, "novel", None) or "drop",
        original_size=getattr(args, "original_size", False),
        cache_folder=args.cache,
        device=args.device,
    )


def _folds(args: argparse.Namespace, is_toy: bool) -> tuple[int, ...]:
    """The folds asked for; without a wish the first of the toy world, or all of a folder."""
    if args.fold is None:
        return (0,) if is_toy else tuple(range(args.n_folds))
    if args.fold == "all":
        return tuple(range(args.n_folds))
    if args.fold >= args.n_folds:
        raise ValueError(f"--fold is {args.fold}, but there are {args.n_folds} folds; give 0 to {args.n_folds - 1}")
    return (args.fold,)


def _demo(args: argparse.Namespace) -> None:
    config = _demo_config(args, seeds=args.seeds, shots=args.shots, episodes=args.episodes)
    run_demo(config, args.out, say=say, resume=args.resume)


def _train(args: argparse.Namespace) -> None:
    if published_data(args.data) is not None:
        say(train_by_recipe(args, with_settings))
        return
    if args.recipe is not None or args.estimate or args.lists is not None or args.workers:
        raise ValueError(
            "--recipe, --estimate, --lists and --workers need a published data set, such as --data pascal5i:PATH"
        )
    saved = train_one(
        _demo_config(args, seeds=[args.seed]),
        args.out,
        resume=args.resume,
        overwrite=args.overwrite,
        tensorboard=args.tensorboard,
    )
    say(saved)


def _evaluate(args: argparse.Namespace) -> None:
    if published_data(args.data) is not None:
        say(evaluate_by_protocol(args))
        return
    if args.lists is not None:
        raise ValueError("--lists needs a published data set, such as --data pascal5i:PATH")
    if args.protocol and args.original_size:
        raise ValueError("--protocol says at what size predictions are compared; leave out --original-size")
    _, metadata = load_head(args.checkpoint)
    own = metadata.get("data", "toy")
    if args.data is None and own != "toy":
        kind = next((name for name in NAMES if own.startswith(name)), "folder")
        raise ValueError(f"{args.checkpoint} was trained on {own}; give --data {kind}:PATH, or --data toy")
    args.data = args.data or "toy"
    args.fold = int(metadata.get("fold", 0)) if args.fold is None else args.fold
    config = _demo_config(args, seeds=[0], shots=args.shots, episodes=500 if args.episodes is None else args.episodes)
    say(
        evaluate_checkpoint(
            config,
            args.checkpoint,
            size=args.size,
            seed=args.seed,
            output=args.out,
            protocols=args.protocol or [],
        )
    )


def _predict(args: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    from dpnet_lite.predictor import Predictor

    if len(args.support) % 2 or not args.images:
        raise ValueError(
            f"there are {len(args.images)} images to segment and {len(args.support)} files after --support, which "
            "takes all that follow it; give: predict IMAGE ... --support IMAGE MASK [IMAGE MASK ...]"
        )
    targets = [args.out / f"{image.stem}.png" for image in args.images]
    given = {Path(path).resolve() for path in (*args.images, *args.support)}
    for number, target in enumerate(targets):
        if target in targets[:number] or target.resolve() in given:
            raise ValueError(f"{target} would be overwritten; rename an image or give another folder with --out")
        if target.exists() and not args.overwrite:
            raise ValueError(
                f"{target} is there already; give another folder with --out, or replace it with --overwrite"
            )
    predictor = Predictor.load(args.checkpoint, backbone_weights=args.backbone_weights, device=args.device)
    predictor.set_support(args.support[0::2], args.support[1::2])
    args.out.mkdir(parents=True, exist_ok=True)
    for image, target in zip(args.images, targets, strict=True):
        mask = predictor.predict(image).mask
        Image.fromarray((mask * np.uint8(255)).astype(np.uint8)).save(target)
        say(f"{target}: {100 * float(mask.mean()):.1f} % of the pixels are foreground")


def _pretrain(args: argparse.Namespace) -> None:
    from dpnet_lite.experiments.pretraining import PretrainingConfig, pretrain
    from dpnet_lite.experiments.progress import Stages

    config = PretrainingConfig(seed=args.seed)
    if args.steps is not None:
        config = replace(config, steps=args.steps)
    if args.scenes is not None:
        config = replace(config, n_scenes=args.scenes)
    metadata = pretrain(args.out, config, device=args.device, progress=Stages()("pretraining"))
    say(f"saved {args.out}: mean IoU {100 * metadata['score']:.1f} % on held-out scenes of the auxiliary classes")


def _info(args: argparse.Namespace) -> None:
    import json

    from dpnet_lite.checkpoints import load_checkpoint, versions

    if args.checkpoint is None:
        say(json.dumps(versions(), indent=2))
        return
    tensors, metadata = load_checkpoint(args.checkpoint)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    say(f"{args.checkpoint}: {len(tensors)} tensors, {parameters:,} numbers\n{json.dumps(metadata, indent=2)}")


def _ablate(args: argparse.Namespace) -> None:
    if args.list:
        say(list_studies())
        return
    study = chosen_study(args)
    config = _demo_config(args, seeds=study.seeds, episodes=study.n_episodes)
    if config.data != "toy" and args.fold is None:
        study = replace(study, folds=config.folds)
    run_ablate(args, config, study, say)


def _data(args: argparse.Namespace) -> None:
    run_data(args, say)


HANDLERS: dict[str, Handler] = {
    "ablate": _ablate,
    "data": _data,
    "demo": _demo,
    "train": _train,
    "evaluate": _evaluate,
    "predict": _predict,
    "pretrain": _pretrain,
    "info": _info,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of `dpnet-lite` with its commands."""
    return option_parser(HANDLERS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for an error that is told in one line, 130 after Ctrl-C."""
    args = build_parser().parse_args(arguments)
    args.arguments = sys.argv[1:] if arguments is None else list(arguments)  # as typed, for the reports
    if getattr(args, "threads", None):
        torch.set_num_threads(args.threads)
    run: Handler = args.run
    try:
        if hasattr(args, "device"):
            check_device(args.device)
        run(args)
    except KeyboardInterrupt as stop:
        print(f"dpnet-lite: {str(stop) or 'stopped'}", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if args.debug:
            traceback.print_exc()
        print(f"dpnet-lite: error: {error}; install it with: pip install 'dpnet-lite[notebooks]'", file=sys.stderr)
        return 2
    except (ValueError, OSError, RuntimeError) as error:
        if args.debug:
            traceback.print_exc()
        first = (str(error) or type(error).__name__).splitlines()[0]
        print(f"dpnet-lite: error: {first}", file=sys.stderr)
        return 2
    return 0
