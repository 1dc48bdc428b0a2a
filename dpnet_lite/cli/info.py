"""`dpnet-lite info`: what a checkpoint holds, or what is installed."""

from __future__ import annotations

import argparse
import json

from dpnet_lite.cli.options import parse_path, say


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", nargs="?", type=parse_path, help="a .safetensors file of this project")


def run(args: argparse.Namespace) -> None:
    from dpnet_lite.checkpoints import load_checkpoint, versions

    if args.checkpoint is None:
        say(json.dumps(versions(), indent=2))
        return
    tensors, metadata = load_checkpoint(args.checkpoint)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    say(f"{args.checkpoint}: {len(tensors)} tensors, {parameters:,} numbers\n{json.dumps(metadata, indent=2)}")
