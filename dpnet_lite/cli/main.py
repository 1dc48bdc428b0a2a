"""The command line: `dpnet-lite COMMAND`, also `python -m dpnet_lite COMMAND`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from dpnet_lite import __version__
from dpnet_lite.cli.options import OneLineParser, check_places, escaped

COMMANDS = {  # each is a file of this folder with `add_options` and `run`
    "demo": "train, score beside two rivals, print a table, write pictures",
    "train": "train one head and save it",
    "evaluate": "score a trained head on novel classes",
    "predict": "segment your own images from a few masks",
    "pretrain": "make the tiny backbone again from the auxiliary classes",
    "ablate": "compare variants of the network in pairs, write a report",
    "data": "check or prepare PASCAL-5i, COCO-20i, FSS-1000; draw their episode lists",
    "info": "say what a checkpoint holds, or what is installed",
}
_EXAMPLES = """examples:
  dpnet-lite demo
  dpnet-lite demo --fold all --seeds 0 1 2 --resume
  dpnet-lite demo --data folder:my_photos --out outputs/my_photos
  dpnet-lite train --fold 1 --out outputs/fold1.safetensors
  dpnet-lite evaluate --checkpoint outputs/fold1.safetensors --fold 1 --shots 1 5
  dpnet-lite predict garden.jpg --support cat.jpg cat.png --overlay --out masks
  dpnet-lite train --data folder:my_photos --from photographs --out outputs/mine.safetensors
  dpnet-lite ablate modules --quick
  dpnet-lite data check pascal5i --root data/pascal
  dpnet-lite train --data pascal5i:data/pascal --recipe pascal_resnet50 --fold 0 --device cuda --workers 8
  dpnet-lite evaluate --checkpoint outputs/dpnet.safetensors --data pascal5i:data/pascal --protocol ours hsnet
  dpnet-lite info outputs/fold1.safetensors
"""


_LOG = logging.getLogger(__name__)


class _CommandParser(OneLineParser):
    """A command's parser: its options are read from its file when it is chosen, and from no other's."""

    name = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.name:
            command, self.name = import_module(f"dpnet_lite.cli.{self.name.replace('-', '_')}"), ""
            command.add_options(self)
            self.set_defaults(run=command.run)
        return super().parse_known_args(args, namespace)


def build_parser() -> argparse.ArgumentParser:
    """The parser of `dpnet-lite` with its commands; each carries its function as `run`."""
    parser = OneLineParser(
        prog="dpnet-lite",
        description="Dual prototype network for few-shot segmentation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dpnet-lite {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_CommandParser)
    for name, what in COMMANDS.items():
        commands.add_parser(name, allow_abbrev=False, help=what).name = name
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0; 2 for an error, told in one line; 130 after Ctrl-C.

    Where nobody reads on (`| head -1`) it is 141, without a word, as a shell has it for what SIGPIPE ends.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if arguments is None:  # a process of our own draws to files alone, whatever is set for others
        os.environ["MPLBACKEND"] = "Agg"
        sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 -- closed by the shell, and bars write to it
    with warnings.catch_warnings():
        if arguments is None:
            warnings.simplefilter("default", UserWarning)  # told, though others ask for errors
        logging.lastResort = _Lines(logging.WARNING)
        tell = lru_cache(maxsize=None)(lambda text: _LOG.warning("dpnet-lite: warning: %s", text))
        warnings.showwarning = lambda message, *where, **how: tell(str(message))  # once; Python forgets what it showed
        return _run(words)


class _Lines(logging.Handler):
    """What is logged, warnings among it: a line each on standard error, escaped, above a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with contextlib.suppress(OSError):  # nobody reads it
            tqdm.write(escaped(record.getMessage()), file=sys.stderr)


def _run(words: list[str]) -> int:
    try:
        try:
            if hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: no name ends a run
            try:
                os.getcwd()
            except FileNotFoundError:  # libraries end without a word there
                raise FileNotFoundError("the current folder was removed; change to another") from None
            args = build_parser().parse_args([word for word in words if word != "--debug"])  # it may stand anywhere
            args.arguments = words  # as typed, for the reports
            _prepare(args)
            args.run(args)
        finally:
            _flush()
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt as stop:
        status, line = 130, str(stop) or "stopped"
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        status, line = 2, f"error: {escaped(one_line(error))}"
    else:
        return 0
    with contextlib.suppress(OSError):  # its disk is full, or nobody reads it
        print(f"dpnet-lite: {line}", file=sys.stderr, flush=True)
    return status


def _flush() -> None:
    """Write what is held back; OSError where that fails: then it is dropped, or Python would fail with it again."""
    for stream, name in ((sys.stdout, "standard output"), (sys.stderr, "standard error")):
        try:
            print(end="", file=stream, flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            raise OSError(error.errno, error.strerror, name) from None


def one_line(error: Exception) -> str:
    """What went wrong and what to do. Errors of ours say both; where the system's own words are all, this adds it."""
    is_ours = isinstance(error, ValueError | OSError)  # then a line break is part of a name, and the remedy behind it
    lines = [str(error)] if is_ours else str(error).splitlines()
    text = next((line for line in lines if line.strip()), type(error).__name__)
    if isinstance(error, ModuleNotFoundError):
        return text if "pip install" in text else f"{text}; install it again: pip install dpnet-lite"
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return f"{text}; lower --size, batch_size or --jobs, or raise accumulate"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}; check the path, its rights and the room on its disk, or give another"
    if is_ours or isinstance(error, RuntimeError):
        return text
    return f"an error inside dpnet-lite: {type(error).__name__}: {text}; run again with --debug and report it"


def _prepare(args: argparse.Namespace) -> None:
    """Refuse outputs among the data; what takes seconds to import; threads and device, for commands that have them."""
    check_places(args)
    if "torch" not in sys.modules and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # While they are imported, libraries swallow a KeyboardInterrupt.
        signal.signal(signal.SIGINT, lambda *_: (os.write(2, b"dpnet-lite: stopped\n"), os._exit(130)))
        import_module("torchvision")  # and torch
        signal.signal(signal.SIGINT, signal.default_int_handler)
    import_module("dpnet_lite.datasets.images").most_pixels()  # a wrong wish is told once, not of every image
    if getattr(args, "threads", None):
        import torch

        torch.set_num_threads(args.threads)
    if hasattr(args, "device"):
        from dpnet_lite.backbones.devices import check_device

        args.device = check_device(args.device)
