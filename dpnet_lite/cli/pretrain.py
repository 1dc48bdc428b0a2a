"""`dpnet-lite pretrain`: the tiny backbone, made again."""

from __future__ import annotations

import argparse
from pathlib import Path

from dpnet_lite.cli.options import parse_checkpoint, say


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=parse_checkpoint, default=Path("outputs/tiny_backbone.safetensors"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--scenes", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)


def run(args: argparse.Namespace) -> None:
    from dpnet_lite.experiments.pretraining import PretrainingConfig, pretrain
    from dpnet_lite.experiments.progress import Stages

    wishes = {"steps": args.steps, "n_scenes": args.scenes, "seed": args.seed}
    config = PretrainingConfig(**{name: value for name, value in wishes.items() if value is not None})
    metadata = pretrain(args.out, config, device=args.device, progress=Stages()("pretraining"))
    say(f"saved {args.out}: mean IoU {100 * metadata['score']:.1f} % on held-out scenes of the auxiliary classes")
