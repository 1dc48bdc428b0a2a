"""The command line: `dpnet-lite COMMAND`, also `python -m dpnet_lite COMMAND`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from . import __version__
from .config import ModelConfig, TrainingConfig
from .datasets.toy import DEFAULT_GAP
from .demo import DemoConfig, run_demo
from .jobs import evaluate_checkpoint, train_one
from .model.backbone import ARCHITECTURES, PRECISIONS
from .presets import PHOTOGRAPHS, TOY

Settings = TypeVar("Settings", ModelConfig, TrainingConfig)
EXAMPLES = """examples:
  dpnet-lite demo
  dpnet-lite demo --fold all --seeds 0 1 2
  dpnet-lite demo --data folder:my_photos --backbone vgg16 --backbone-weights vgg16.safetensors
  dpnet-lite train --fold 1 --out outputs/fold1.safetensors
  dpnet-lite evaluate --checkpoint outputs/fold1.safetensors --fold 1 --shots 1 5
  dpnet-lite predict --checkpoint outputs/fold1.safetensors --support cat.jpg cat.png --out masks garden.jpg
  dpnet-lite info outputs/fold1.safetensors
"""


def say(text: str) -> None:
    print(text, flush=True)


def parse_fold(text: str) -> tuple[int, ...]:
    """ "all" or one fold's number."""
    if text == "all":
        return (0, 1, 2, 3)
    if text not in ("0", "1", "2", "3"):
        raise argparse.ArgumentTypeError(f"{text!r} is no fold; give 0, 1, 2, 3 or all")
    return (int(text),)


def parse_one_fold(text: str) -> tuple[int, ...]:
    """One fold's number, for commands that work on a single fold."""
    if text == "all":
        raise argparse.ArgumentTypeError("'all' is for demo; this command takes one fold: give 0, 1, 2 or 3")
    return parse_fold(text)


def parse_checkpoint(text: str) -> Path:
    """A path to write a checkpoint to; wrong ones are found before the training, not after it."""
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .safetensors; give such a name")
    return Path(text)


def parse_data(text: str) -> str:
    """ "toy", or "folder:PATH" to a path that exists."""
    if text == "toy":
        return text
    kind, _, path = text.partition(":")
    if kind != "folder" or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is no data set; give toy or folder:PATH")
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path}; give folder:PATH to an existing one")
    return path


def with_settings(settings: Settings, changes: Sequence[str]) -> Settings:
    """Apply "name=value" texts to a settings object, each value read as the type of the one it replaces."""
    for change in changes:
        name, equals, text = change.partition("=")
        known = [field.name for field in fields(settings)]
        if not equals or name not in known:
            raise ValueError(f"{change!r} is no setting; give NAME=VALUE with a name of {', '.join(known)}")
        settings = replace(settings, **{name: _parsed(text, getattr(settings, name), change)})
    return settings


def _parsed(text: str, old: Any, change: str) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, tuple):
            return tuple(float(part) for part in text.split(","))
        return type(old)(text)
    except (KeyError, ValueError):
        raise ValueError(f"{change!r} does not fit; the value now is {old!r}") from None


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dpnet-lite", description="Dual prototype network for few-shot segmentation.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"dpnet-lite {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_pretrain(commands)
    info = commands.add_parser("info", help="say what a checkpoint holds, or what is installed")
    info.add_argument("checkpoint", nargs="?", type=Path, help="a .safetensors file of this project")
    info.set_defaults(run=_info)
    for command in commands.choices.values():  # may also stand behind the command's name
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _add_data(parser: argparse.ArgumentParser, *, folds: bool) -> None:
    parser.add_argument("--data", type=parse_data, default="toy", help="toy (default) or folder:PATH")
    parser.add_argument("--extra-base", type=parse_data, nargs="*", default=[], metavar="folder:PATH",
                        help="further folders whose classes are base classes in every fold")  # fmt: skip
    parser.add_argument("--folds", choices=("interleaved", "blocked"), default="interleaved",
                        help="how a folder's classes fall into folds: as COCO-20i or as PASCAL-5i")  # fmt: skip
    parser.add_argument("--novel", choices=("drop", "ignore", "background"), default="drop",
                        help="training photographs that show novel classes (default: drop them)")  # fmt: skip
    default = None if folds else (0,)
    parser.add_argument("--fold", type=parse_fold if folds else parse_one_fold, default=default,
                        help="0 to 3, or all" if folds else "0 to 3")  # fmt: skip
    parser.add_argument("--gap", type=float, default=None, help="support-query gap of the toy world, 0 to 1")
    parser.add_argument("--backbone", choices=tuple(ARCHITECTURES), default=None)
    parser.add_argument("--backbone-weights", type=Path, default=None, help=".safetensors or .pth, torchvision's keys")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the frozen backbone")
    parser.add_argument("--size", type=int, default=None, help="side of the network's square input, pixels")
    parser.add_argument("--cache", type=Path, default=None, help="folder for the frozen features of photographs")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: as PyTorch decides)")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=None, help="training steps")
    parser.add_argument("--model", nargs="*", default=[], metavar="NAME=VALUE", help="settings of ModelConfig")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="settings of TrainingConfig")


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="train, score beside two rivals, print a table, write pictures")
    _add_data(demo, folds=True)
    _add_training(demo)
    demo.add_argument("--seeds", type=int, nargs="+", default=[0])
    demo.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    demo.add_argument("--episodes", type=int, default=500, help="scored per fold and number of shots")
    demo.add_argument("--original-size", action="store_true", help="score at each photograph's own size")
    demo.add_argument("--out", type=Path, default=Path("outputs/demo"))
    demo.add_argument("--resume", action="store_true", help="skip folds and seeds that are done")
    demo.set_defaults(run=_demo)


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", help="train one head and save it")
    _add_data(train, folds=False)
    _add_training(train)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=parse_checkpoint, default=Path("outputs/dpnet.safetensors"))
    train.add_argument("--tensorboard", type=Path, default=None, help="folder for TensorBoard logs")
    train.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    train.set_defaults(run=_train)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", help="score a trained head on novel classes")
    _add_data(evaluate, folds=False)
    evaluate.add_argument("--checkpoint", type=Path, required=True)
    evaluate.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    evaluate.add_argument("--episodes", type=int, default=500)
    evaluate.add_argument("--seed", type=int, default=None, help="of the episodes (default: that of the demo)")
    evaluate.add_argument("--original-size", action="store_true")
    evaluate.add_argument("--out", type=Path, default=None, help="write the scores as JSON")
    evaluate.set_defaults(run=_evaluate)


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", help="segment your own images from a few masks")
    predict.add_argument("images", nargs="+", type=Path)
    predict.add_argument("--support", nargs="+", required=True, metavar="IMAGE MASK", help="pairs of image and mask")
    predict.add_argument("--checkpoint", type=Path, required=True)
    predict.add_argument("--backbone-weights", type=Path, default=None)
    predict.add_argument("--device", default="cpu")
    predict.add_argument("--out", type=Path, default=Path("outputs/masks"), help="folder for the masks (PNG, 0 or 255)")
    predict.set_defaults(run=_predict, threads=None)


def _add_pretrain(commands: Any) -> None:
    pretrain = commands.add_parser("pretrain", help="make the tiny backbone again from the auxiliary classes")
    pretrain.add_argument("--out", type=parse_checkpoint, default=Path("outputs/tiny_backbone.safetensors"))
    pretrain.add_argument("--steps", type=int, default=None)
    pretrain.add_argument("--scenes", type=int, default=None)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--device", default="cpu")
    pretrain.add_argument("--threads", type=int, default=None)
    pretrain.set_defaults(run=_pretrain)


def _demo_config(
    args: argparse.Namespace, *, seeds: Sequence[int], shots: Sequence[int] = (1,), episodes: int = 1
) -> DemoConfig:
    is_toy = args.data == "toy"
    if is_toy and (args.extra_base or args.backbone not in (None, "tiny")):
        raise ValueError("--extra-base and another --backbone need --data folder:PATH; the toy world has its own")
    if is_toy and (args.size not in (None, TOY.size) or args.folds != "interleaved"):
        raise ValueError(f"the toy world has {TOY.size} px and interleaved folds; leave out --size and --folds")
    if not is_toy and args.gap is not None:
        raise ValueError(f"--gap {args.gap} is a dial of the toy world; leave it out with --data folder:PATH")
    preset = TOY if is_toy else PHOTOGRAPHS
    training = with_settings(preset.training, getattr(args, "training", []))
    if getattr(args, "steps", None) is not None:
        training = replace(training, steps=args.steps)
    return DemoConfig(
        data=args.data, model=with_settings(preset.model, getattr(args, "model", [])), training=training,
        backbone=args.backbone or preset.backbone, size=preset.size if args.size is None else args.size,
        backbone_weights=args.backbone_weights, precision=args.precision,
        folds=args.fold or ((0,) if is_toy else (0, 1, 2, 3)), seeds=tuple(seeds), shots=tuple(shots),
        n_episodes=episodes, gap=DEFAULT_GAP if args.gap is None else args.gap, layout=args.folds,
        extra_base=tuple(Path(path) for path in args.extra_base), policy=args.novel,
        original_size=getattr(args, "original_size", False), cache_folder=args.cache, device=args.device,
    )  # fmt: skip


def _demo(args: argparse.Namespace) -> None:
    config = _demo_config(args, seeds=args.seeds, shots=args.shots, episodes=args.episodes)
    run_demo(config, args.out, say=say, resume=args.resume)


def _train(args: argparse.Namespace) -> None:
    path = train_one(_demo_config(args, seeds=[args.seed]), args.out, resume=args.resume, tensorboard=args.tensorboard)
    say(f"saved {path}")


def _evaluate(args: argparse.Namespace) -> None:
    config = _demo_config(args, seeds=[0], shots=args.shots, episodes=args.episodes)
    say(evaluate_checkpoint(config, args.checkpoint, size=args.size, seed=args.seed, output=args.out))


def _predict(args: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    from .predictor import Predictor

    if len(args.support) % 2:
        raise ValueError(f"--support has {len(args.support)} files; give pairs: IMAGE MASK [IMAGE MASK ...]")
    targets = [args.out / f"{image.stem}.png" for image in args.images]
    given = {Path(path).resolve() for path in (*args.images, *args.support)}
    for number, target in enumerate(targets):
        if target in targets[:number] or target.resolve() in given:
            raise ValueError(f"{target} would be overwritten; rename an image or give another folder with --out")
    predictor = Predictor.load(args.checkpoint, backbone_weights=args.backbone_weights, device=args.device)
    predictor.set_support(args.support[0::2], args.support[1::2])
    args.out.mkdir(parents=True, exist_ok=True)
    for image, target in zip(args.images, targets, strict=True):
        mask = predictor.predict(image).mask
        Image.fromarray((mask * np.uint8(255)).astype(np.uint8)).save(target)
        say(f"{target}: {100 * float(mask.mean()):.1f} % of the pixels are foreground")


def _pretrain(args: argparse.Namespace) -> None:
    from .pretraining import PretrainingConfig, pretrain
    from .progress import Stages

    config = PretrainingConfig(seed=args.seed)
    if args.steps is not None:
        config = replace(config, steps=args.steps)
    if args.scenes is not None:
        config = replace(config, n_scenes=args.scenes)
    metadata = pretrain(args.out, config, device=args.device, progress=Stages()("pretraining"))
    say(f"saved {args.out}: mean IoU {100 * metadata['score']:.1f} % on held-out scenes of the auxiliary classes")


def _info(args: argparse.Namespace) -> None:
    import json

    from .checkpoints import load_checkpoint, versions

    if args.checkpoint is None:
        say(json.dumps(versions(), indent=2))
        return
    tensors, metadata = load_checkpoint(args.checkpoint)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    say(f"{args.checkpoint}: {len(tensors)} tensors, {parameters:,} numbers\n{json.dumps(metadata, indent=2)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 2 for an error that is told in one line, 130 after Ctrl-C."""
    args = build_parser().parse_args(arguments)
    if getattr(args, "threads", None):
        torch.set_num_threads(args.threads)
    run: Callable[[argparse.Namespace], None] = args.run
    try:
        run(args)
    except KeyboardInterrupt as stop:
        print(f"dpnet-lite: {stop or 'stopped'}", file=sys.stderr)
        return 130
    except (ValueError, OSError, RuntimeError) as error:
        if args.debug:
            traceback.print_exc()
        first = (str(error) or type(error).__name__).splitlines()[0]
        print(f"dpnet-lite: error: {first}", file=sys.stderr)
        return 2
    return 0
