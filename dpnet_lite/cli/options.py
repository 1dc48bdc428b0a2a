"""What commands share: how they read words, options that several of them have, and the experiment these describe.

Nothing here or in a command's own file loads PyTorch before the command runs: help costs no time.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from dpnet_lite.config import BACKBONE_PRECISIONS, BACKBONES, ModelConfig, TrainingConfig, number
from dpnet_lite.experiments.presets import MIN_PER_CLASS, N_FOLDS, PHOTOGRAPHS, TOY, Preset
from dpnet_lite.published.registry import PublishedName

if TYPE_CHECKING:
    from dpnet_lite.checkpoints import Networks
    from dpnet_lite.experiments.experiment import Experiment
    from dpnet_lite.published.copy import PublishedCopy

PUBLISHED = get_args(PublishedName)  # the data sets that `train`, `evaluate` and `data` know by name
EPISODES = f"scored per fold and number of shots (default: 500; intervals need {MIN_PER_CLASS} a class)"
DEVICES = "cpu, cuda, cuda:1, mps, or auto: a GPU where there is one (default: cpu)"


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors take one line, name the option that was probably meant and the help that tells more."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"dpnet-lite: error: {escaped(message)}; see {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        print(message, end="", file=file)  # argparse would pass over a full disk

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = [word.partition("=")[0] for word in args or ()]
        for name, action in self._option_string_actions.items():  # argparse would drop the first list in silence
            if words.count(name) > 1 and action.nargs in ("+", "*") and isinstance(action, argparse._StoreAction):
                self.error(f"{name} is given twice; put all its values behind one")
        # A command's own parser meets what it does not know first, and knows its own options.
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            names = [name for name in self._option_string_actions if name.startswith("--")]
            close = difflib.get_close_matches(unknown[0].partition("=")[0], names, n=1)
            self.error(f"unknown: {' '.join(unknown)}" + (f" (is {close[0]} meant?)" if close else ""))
        return parsed, unknown


def say(text: str) -> None:
    """Print lines, escaped, above a progress bar; the first process alone speaks. Names are handed in `escaped`."""
    from tqdm import tqdm

    from dpnet_lite.experiments.progress import is_first_process

    if is_first_process() and sys.stdout is not None:  # it is None where it was closed (>&-)
        encoding = sys.stdout.encoding or "utf-8"
        text = "\n".join(map(escaped, text.split("\n")))
        tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()


def escaped(text: str) -> str:
    """The text on one line: escapes stand for what would break it, move the cursor or colour the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def whole(low: int, high: int = 10_000_000) -> Callable[[str], int]:
    """What reads an option's whole number, from `low` to `high`."""

    def read(text: str) -> int:
        if not (_is_whole(text) and len(text) < 20 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} does not fit; give a whole number from {low} to {high}")
        return int(text)

    return read


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()  # which other alphabets' digits are, too


def parse_number(text: str) -> float:
    """An option's number, whole or not."""
    try:
        return float(number(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


parse_seed = whole(0, 2**63 - 1)  # what PyTorch takes


def check_output(path: Path, *, is_folder: bool = False, may_replace: bool = True) -> None:
    """ValueError where a file or a folder cannot be written, or what is there would be lost: before the work."""
    from dpnet_lite.storage.files import refuse_existing

    found = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if found == path and not is_folder:
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file; give another name")
        refuse_existing(path, may_replace=may_replace)
        found = path.parent  # files are replaced, not written into
    try:
        with TemporaryFile(dir=found):  # for the superuser, permissions do not tell
            pass
    except OSError:
        raise ValueError(f"{path} cannot be written: {found} is no folder that takes files; give another") from None


def check_checkpoint(path: Path, *, may_replace: bool) -> None:
    """The same for a checkpoint, its .json, which may be another program's, and the folder of its training."""
    from dpnet_lite.storage.files import require_kinds

    check_output(path, may_replace=may_replace)
    check_output(path.with_suffix(""), is_folder=True)
    check_output(sidecar := path.with_suffix(".json"))
    if sidecar.exists():
        foreign = f"{sidecar} is another program's and would be replaced; give another name with --out"
        try:
            require_kinds(json.loads(sidecar.read_bytes()), {"format": (1,), "sha256": str}, foreign)
        except (ValueError, RecursionError):
            raise ValueError(foreign) from None


def check_places(args: argparse.Namespace) -> None:
    """ValueError where an output of a command would lie in a folder of its data, and be read with them later."""
    data = [getattr(args, "root", None), *getattr(args, "extra_base", ())]
    if getattr(args, "data", None) not in (None, "toy"):
        data.append((published_data(args.data) or (None, args.data))[1])
    for name, folder in product(("out", "tensorboard", "table", "cache_folder", "cache"), filter(None, data)):
        path = getattr(args, name, None)
        if path is not None and path.resolve().is_relative_to(Path(folder).expanduser().resolve()):
            option = name.removesuffix("_folder")
            raise ValueError(f"--{option} {path} lies in {folder}, a folder of data; give a place outside it")
    out, logs = getattr(args, "out", None), getattr(args, "tensorboard", None)
    if out is not None and logs is not None and out.resolve() == logs.resolve():
        raise ValueError(f"--out and --tensorboard are both {out}; give each a place of its own")


def parse_path(text: str) -> Path:
    """The path of any option; an empty one, as an unset variable of the shell gives it, is not this folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a path")
    return Path(text).expanduser()  # a shell leaves --out=~/x as it is


def parse_checkpoint(text: str) -> Path:
    """A path to write a checkpoint to; wrong ones are found before the training, not after it."""
    if Path(text).suffix != ".safetensors":  # the name ".safetensors" has none
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .safetensors; give such a name")
    return parse_path(text)


def _parse_fold(text: str) -> int | str:
    """ "all" or one fold's number."""
    if text == "all":
        return text
    if not _is_whole(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no fold; give its number, from 0, or all")
    return int(text)


def _parse_data(text: str) -> str:
    """ "toy", "folder:PATH" to a path that exists, or such a path of a published data set, as "pascal5i:PATH"."""
    if text == "toy":
        return text
    kind, _, path = text.partition(":")
    if kind not in ("folder", *PUBLISHED) or not path:
        known = ", ".join(f"{name}:PATH" for name in ("folder", *PUBLISHED))
        raise argparse.ArgumentTypeError(f"{text!r} is no data set; give toy or {known}")
    path = str(Path(path).expanduser())
    if not Path(path).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path}; give {kind}:PATH to an existing one")
    return path if kind == "folder" else f"{kind}:{path}"


def _parse_folder(text: str) -> Path:
    return Path(_parse_data(text))


def add_data(parser: argparse.ArgumentParser, *, one_fold: bool = False, of_head: bool = False) -> None:
    """Options that choose the data, how they are split and where work runs; `of_head`: a saved head chooses first.

    Here as in the next two, what becomes a field of `Experiment` is stored by its name.
    """
    add = parser.add_argument
    default = "toy for a head trained on it; else it must be given" if of_head else "toy"
    what = f"toy, folder:PATH, or with train and evaluate a published data set, as pascal5i:PATH (default: {default})"
    add("--data", type=_parse_data, default=None if of_head else "toy", help=what)
    how = "how a folder's classes fall into folds: as COCO-20i or as PASCAL-5i"
    layout = None if of_head else "interleaved"
    add("--folds", dest="layout", choices=("interleaved", "blocked"), default=layout, help=how)
    own = "that of the checkpoint" if of_head else ""
    add(
        "--n-folds",
        type=whole(2),
        default=None if of_head else N_FOLDS,
        help=f"number of folds (default: {own or N_FOLDS})",
    )
    default = own or "0"
    which = f"number from 0 (default: {default})" if one_fold else "number from 0, or all"
    first = 0 if one_fold and not of_head else None
    add("--fold", type=whole(0) if one_fold else _parse_fold, default=first, help=which)
    add("--gap", type=parse_number, help="support-query gap of the toy world, 0 to 1")
    add("--backbone-weights", type=parse_path, help=".safetensors or .pth, torchvision's keys")
    add("--size", type=whole(32, 10_000), help="side of the network's square input, pixels")
    more = "more shots than a class has photographs: support images repeat (else scoring is refused)"
    add("--repeat-support", action="store_true", help=more)
    where = "folder for the frozen features of photographs (default: dpnet_lite in your cache folder)"
    add("--cache", dest="cache_folder", metavar="CACHE", type=parse_path, help=where)
    add("--device", default="cpu", help=DEVICES)
    add("--threads", type=whole(1, 4_096), help="CPU threads (default: as PyTorch decides; ablate: 1 for each run)")


def add_training_data(parser: argparse.ArgumentParser) -> None:
    """What only a command that trains can choose; a saved head brings its own."""
    add = parser.add_argument
    further = "further folders whose classes are base classes in every fold"
    add("--extra-base", type=_parse_folder, nargs="*", default=[], metavar="folder:PATH", help=further)
    policy = "training images that show novel classes (default: drop, or the recipe's)"
    add("--novel", dest="policy", choices=("drop", "ignore", "background"), help=policy)
    add("--backbone", choices=BACKBONES)
    add("--precision", choices=BACKBONE_PRECISIONS, help="of the frozen backbone (default: fp32)")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options that change the network and its training."""
    add, form = parser.add_argument, "NAME=VALUE"
    add("--steps", type=whole(1), help="training steps")
    add("--model", nargs="*", action="extend", default=[], metavar=form, help="settings of ModelConfig")
    add("--training", nargs="*", action="extend", default=[], metavar=form, help="settings of TrainingConfig")


def add_lists(parser: argparse.ArgumentParser) -> None:
    """List files of one's own, for commands that take published data sets."""
    own = "list files of your own, or FSS-1000's class lists (published data sets)"
    parser.add_argument("--lists", type=parse_path, help=own)


def experiment_of(args: argparse.Namespace, **settings: Any) -> Experiment:
    """The experiment on the toy world or on a folder that options and `settings` describe, by its fields' names."""
    from dpnet_lite.datasets.folder import open_folder
    from dpnet_lite.experiments.experiment import Experiment

    preset = _preset(args)
    training = training_of(args, preset.training)
    given = {name: value for name, value in vars(args).items() if value is not None} | settings
    given |= {"folds": _folds(args), "training": training, "model": preset.model.with_texts(getattr(args, "model", []))}
    known: dict[str, Any] = {"size": preset.size, "backbone": preset.backbone} | given
    lists = ("seeds", "shots", "extra_base")
    names = [field.name for field in fields(Experiment) if field.name in known]
    chosen: dict[str, Any] = {name: tuple(known[name]) if name in lists else known[name] for name in names}
    experiment = Experiment(**chosen)
    check_model(experiment.model)
    if not experiment.is_toy:  # what the folder lacks is told before features are computed, as are too few classes
        open_folder(experiment.data)
    for fold in experiment.folds:
        experiment.novel(fold)
    return experiment


def training_of(args: argparse.Namespace, training: TrainingConfig) -> TrainingConfig:
    """The training with what --training and --steps change; ValueError where another option sets the same."""
    texts, steps = getattr(args, "training", []), getattr(args, "steps", None)
    for text in texts:
        if text.startswith("seed=") or (steps is not None and text.startswith("steps=")):
            raise ValueError(f"--training {text}: --seed, --seeds and --steps set the same; give that option alone")
    changed = training.with_texts(texts)
    return changed if steps is None else replace(changed, steps=steps)


def _preset(args: argparse.Namespace) -> Preset:
    """The preset of the data; ValueError for options that do not go with it."""
    if published_data(args.data) is not None:
        raise ValueError(f"{args.data} is a published data set; train and evaluate take it, this command does not")
    if args.data != "toy":
        if args.gap is not None:
            raise ValueError(f"--gap {args.gap} is a dial of the toy world; leave it out with --data folder:PATH")
        return PHOTOGRAPHS
    if getattr(args, "extra_base", []) or getattr(args, "backbone", None) not in (None, TOY.backbone):
        raise ValueError("--extra-base and another --backbone need --data folder:PATH; the toy world has its own")
    if args.size not in (None, TOY.size) or args.layout != "interleaved" or args.n_folds != N_FOLDS:
        raise ValueError(
            f"the toy world has {TOY.size} px and {N_FOLDS} interleaved folds; leave out --size, --folds and --n-folds"
        )
    return TOY


def _folds(args: argparse.Namespace) -> tuple[int, ...]:
    """The folds asked for; without a wish the first of the toy world, or all of a folder."""
    if args.fold is None and args.data == "toy":
        return (0,)
    if args.fold in (None, "all"):
        return tuple(range(args.n_folds))
    if args.fold >= args.n_folds:
        raise ValueError(f"--fold is {args.fold}, but there are {args.n_folds} folds; give 0 to {args.n_folds - 1}")
    return (args.fold,)


def check_model(model: ModelConfig) -> None:
    """ValueError for a network that is not known here: told before the data are made ready, not after."""
    if model.network == "dpnet":
        return
    from dpnet_lite.ablation.rivals import check_network

    check_network(model)


def known_networks() -> Networks:
    """The networks that `--model network=NAME` and checkpoints may name: DPNet and its rivals."""
    from dpnet_lite.ablation.rivals import NETWORKS

    return NETWORKS


def published_data(text: str | None) -> tuple[str, Path] | None:
    """Name and folder of "pascal5i:PATH" and its like; None for any other data."""
    name, colon, path = (text or "").partition(":")
    return (name, Path(path).expanduser()) if colon and name in PUBLISHED else None


def published_copy(args: argparse.Namespace) -> PublishedCopy:
    """The copy of a published data set that the options name; ValueError for one that has no meaning there."""
    from dpnet_lite.published.copy import PublishedCopy

    found = published_data(args.data)
    assert found is not None, "asked for after published_data said so"
    for name, default in {"n_folds": N_FOLDS, "layout": "interleaved", "original_size": False, "gap": None}.items():
        if getattr(args, name, default) != default:
            option = "--folds" if name == "layout" else "--" + name.replace("_", "-")
            raise ValueError(f"{option} has no meaning for a published data set, which fixes it; leave it out")
    names = [field.name for field in fields(PublishedCopy) if field.name not in ("name", "root")]
    return PublishedCopy(*found, **{name: value for name in names if (value := getattr(args, name, None)) is not None})
