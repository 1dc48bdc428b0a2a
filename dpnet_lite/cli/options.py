"""The options of the command line: what each command takes, and how its texts are read."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from dpnet_lite import __version__
from dpnet_lite.backbones.backbone import ARCHITECTURES, PRECISIONS
from dpnet_lite.cli.ablate import add_ablate
from dpnet_lite.cli.data import add_data
from dpnet_lite.cli.published import NAMES, add_scoring_options, add_training_options
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.experiments.fold_data import N_FOLDS
from dpnet_lite.experiments.tables import MIN_PER_CLASS

Handler = Callable[[argparse.Namespace], None]
Settings = TypeVar("Settings", ModelConfig, TrainingConfig)
DATA_OF_HEAD = "toy for a head trained on it; else it must be given"
EPISODES = f"scored per fold and number of shots (default: 500; intervals need {MIN_PER_CLASS} a class)"
EXAMPLES = """examples:
  dpnet-lite demo
  dpnet-lite demo --fold all --seeds 0 1 2
  dpnet-lite demo --data folder:my_photos --backbone vgg16 --backbone-weights vgg16.safetensors
  dpnet-lite train --fold 1 --out outputs/fold1.safetensors
  dpnet-lite evaluate --checkpoint outputs/fold1.safetensors --fold 1 --shots 1 5
  dpnet-lite predict garden.jpg --checkpoint outputs/fold1.safetensors --support cat.jpg cat.png --out masks
  dpnet-lite ablate modules --quick
  dpnet-lite data check pascal5i --root data/pascal
  dpnet-lite train --data pascal5i:data/pascal --recipe pascal_resnet50 --fold 0 --device cuda --workers 8
  dpnet-lite evaluate --checkpoint outputs/dpnet.safetensors --data pascal5i:data/pascal --protocol ours hsnet
  dpnet-lite info outputs/fold1.safetensors
"""


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors take one line, name the option that was probably meant and the help that tells more."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"dpnet-lite: error: {message}; see {self.prog} --help\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # A command's own parser meets what it does not know first, and knows its own options.
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [name for name in self._option_string_actions if name.startswith("--")]
            close = difflib.get_close_matches(unknown[0].partition("=")[0], names, n=1)
            self.error(f"unknown: {' '.join(unknown)}" + (f" (is {close[0]} meant?)" if close else ""))
        return parsed, unknown


def parse_fold(text: str) -> int | str:
    """ "all" or one fold's number."""
    if text == "all":
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no fold; give its number, from 0, or all")
    return int(text)


def parse_one_fold(text: str) -> int | str:
    """One fold's number, for commands that work on a single fold."""
    if text == "all":
        raise argparse.ArgumentTypeError("'all' is for demo; this command takes one fold: give its number, from 0")
    return parse_fold(text)


def parse_checkpoint(text: str) -> Path:
    """A path to write a checkpoint to; wrong ones are found before the training, not after it."""
    if not text.endswith(".safetensors"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .safetensors; give such a name")
    return Path(text)


def parse_data(text: str) -> str:
    """ "toy", "folder:PATH" to a path that exists, or such a path of a published data set, as "pascal5i:PATH"."""
    if text == "toy":
        return text
    kind, _, path = text.partition(":")
    if kind not in ("folder", *NAMES) or not path:
        known = ", ".join(f"{name}:PATH" for name in ("folder", *NAMES))
        raise argparse.ArgumentTypeError(f"{text!r} is no data set; give toy or {known}")
    path = str(Path(path).expanduser())
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path}; give {kind}:PATH to an existing one")
    return path if kind == "folder" else f"{kind}:{path}"


def with_settings(settings: Settings, changes: Sequence[str]) -> Settings:
    """Apply "name=value" texts to a settings object, each value read as the type of the one it replaces."""
    known = [field.name for field in fields(settings)]
    values = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or name not in known:
            raise ValueError(f"{change!r} is no setting; give NAME=VALUE with a name of {', '.join(known)}")
        values[name] = _parsed(text, getattr(settings, name), change)
    return replace(settings, **values)  # all at once: some settings must fit each other


def _parsed(text: str, old: Any, change: str) -> Any:
    try:
        if isinstance(old, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(old, tuple):
            return tuple(float(part) for part in text.split(","))
        return type(old)(text)
    except (KeyError, ValueError):
        raise ValueError(f"{change!r} does not fit; the value now is {old!r}") from None


def option_parser(handlers: Mapping[str, Handler]) -> argparse.ArgumentParser:
    """The whole parser; each command carries its handler as `run`."""
    parser = OneLineParser(
        prog="dpnet-lite",
        description="Dual prototype network for few-shot segmentation.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dpnet-lite {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_pretrain(commands)
    add_ablate(commands, lambda parser: _add_data(parser, folds=True), _add_training_data)
    add_data(commands)
    info = commands.add_parser("info", allow_abbrev=False, help="say what a checkpoint holds, or what is installed")
    info.add_argument("checkpoint", nargs="?", type=Path, help="a .safetensors file of this project")
    for name, command in commands.choices.items():
        command.set_defaults(run=handlers[name])
        # May also stand behind the command's name.
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _add_data(parser: argparse.ArgumentParser, *, folds: bool, from_checkpoint: bool = False) -> None:
    parser.add_argument(
        "--data",
        type=parse_data,
        default=None if from_checkpoint else "toy",
        help="toy, folder:PATH, or with train and evaluate a published data set, as pascal5i:PATH "
        f"(default: {DATA_OF_HEAD if from_checkpoint else 'toy'})",
    )
    parser.add_argument(
        "--folds",
        choices=("interleaved", "blocked"),
        default="interleaved",
        help="how a folder's classes fall into folds: as COCO-20i or as PASCAL-5i",
    )
    parser.add_argument("--n-folds", type=int, default=N_FOLDS, help=f"number of folds (default: {N_FOLDS})")
    default = "that of the checkpoint" if from_checkpoint else "0"
    parser.add_argument(
        "--fold",
        type=parse_fold if folds else parse_one_fold,
        default=None if folds or from_checkpoint else 0,
        help="number from 0, or all" if folds else f"number from 0 (default: {default})",
    )
    parser.add_argument("--gap", type=float, default=None, help="support-query gap of the toy world, 0 to 1")
    parser.add_argument("--backbone-weights", type=Path, default=None, help=".safetensors or .pth, torchvision's keys")
    parser.add_argument("--size", type=int, default=None, help="side of the network's square input, pixels")
    parser.add_argument(
        "--cache",
        type=Path,
        default=None,
        help="folder for the frozen features of photographs (default: dpnet_lite in your cache folder)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ...")
    parser.add_argument(
        "--threads", type=int, default=None, help="CPU threads (default: as PyTorch decides; ablate: 1 for each run)"
    )


def _add_training_data(parser: argparse.ArgumentParser) -> None:
    """What only a command that trains can choose; a saved head brings its own."""
    parser.add_argument(
        "--extra-base",
        type=parse_data,
        nargs="*",
        default=[],
        metavar="folder:PATH",
        help="further folders whose classes are base classes in every fold",
    )
    parser.add_argument(
        "--novel",
        choices=("drop", "ignore", "background"),
        default=None,
        help="training images that show novel classes (default: drop, or the recipe's)",
    )
    parser.add_argument("--backbone", choices=tuple(ARCHITECTURES), default=None)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the frozen backbone")


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=None, help="training steps")
    parser.add_argument("--model", nargs="*", default=[], metavar="NAME=VALUE", help="settings of ModelConfig")
    parser.add_argument("--training", nargs="*", default=[], metavar="NAME=VALUE", help="settings of TrainingConfig")


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", allow_abbrev=False, help="train, score beside two rivals, print a table, write pictures"
    )
    _add_data(demo, folds=True)
    _add_training_data(demo)
    _add_training(demo)
    demo.add_argument("--seeds", type=int, nargs="+", default=[0])
    demo.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    demo.add_argument("--episodes", type=int, default=500, help=EPISODES)
    demo.add_argument("--original-size", action="store_true", help="score at each photograph's own size")
    demo.add_argument("--out", type=Path, default=Path("outputs/demo"))
    demo.add_argument("--resume", action="store_true", help="skip folds and seeds that are done")


def _add_train(commands: Any) -> None:
    train = commands.add_parser("train", allow_abbrev=False, help="train one head and save it")
    _add_data(train, folds=False)
    _add_training_data(train)
    _add_training(train)
    add_training_options(train)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=parse_checkpoint, default=Path("outputs/dpnet.safetensors"))
    train.add_argument("--tensorboard", type=Path, default=None, help="folder for TensorBoard logs")
    train.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    train.add_argument("--overwrite", action="store_true", help="train anew where the file of --out is there already")


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser("evaluate", allow_abbrev=False, help="score a trained head on novel classes")
    _add_data(evaluate, folds=False, from_checkpoint=True)
    add_scoring_options(evaluate)
    evaluate.add_argument("--checkpoint", type=Path, required=True)
    evaluate.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    evaluate.add_argument("--episodes", type=int, default=None, help=f"{EPISODES[:-1]}; or as the protocol has it)")
    evaluate.add_argument("--seed", type=int, default=None, help="of the episodes (default: that of the demo)")
    evaluate.add_argument("--original-size", action="store_true")
    evaluate.add_argument("--out", type=Path, default=None, help="write the scores as JSON")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser("predict", allow_abbrev=False, help="segment your own images from a few masks")
    predict.add_argument("images", nargs="*", type=Path, help="to segment; put them before the options")
    predict.add_argument("--support", nargs="+", required=True, metavar="IMAGE MASK", help="pairs of image and mask")
    predict.add_argument("--checkpoint", type=Path, required=True)
    predict.add_argument("--backbone-weights", type=Path, default=None)
    predict.add_argument("--device", default="cpu")
    predict.add_argument("--out", type=Path, default=Path("outputs/masks"), help="folder for the masks (PNG, 0 or 255)")
    predict.add_argument("--overwrite", action="store_true", help="replace masks that are there already")
    predict.set_defaults(threads=None)


def _add_pretrain(commands: Any) -> None:
    pretrain = commands.add_parser(
        "pretrain", allow_abbrev=False, help="make the tiny backbone again from the auxiliary classes"
    )
    pretrain.add_argument("--out", type=parse_checkpoint, default=Path("outputs/tiny_backbone.safetensors"))
    pretrain.add_argument("--steps", type=int, default=None)
    pretrain.add_argument("--scenes", type=int, default=None)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--device", default="cpu")
    pretrain.add_argument("--threads", type=int, default=None)
