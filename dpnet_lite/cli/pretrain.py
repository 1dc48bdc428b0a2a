"""`dpnet-lite pretrain`: the tiny backbone, made again."""

from __future__ import annotations

import argparse
from pathlib import Path

from dpnet_lite.cli import options


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=options.parse_checkpoint, default=Path("outputs/tiny_backbone.safetensors"))
    parser.add_argument("--steps", type=options.whole(1))
    parser.add_argument("--scenes", type=options.whole(1))
    parser.add_argument("--seed", type=options.parse_seed, default=0)
    parser.add_argument("--device", default="cpu", help=options.DEVICES)
    parser.add_argument("--threads", type=options.whole(1, 4_096))
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out")


def run(args: argparse.Namespace) -> None:
    from dpnet_lite.experiments.pretraining import PretrainingConfig, pretrain
    from dpnet_lite.experiments.progress import Stages
    from dpnet_lite.storage.files import claimed

    options.check_checkpoint(args.out, may_replace=args.overwrite)
    wishes = {"steps": args.steps, "n_scenes": args.scenes, "seed": args.seed}
    config = PretrainingConfig(**{name: value for name, value in wishes.items() if value is not None})
    with claimed(args.out, may_replace=args.overwrite):
        metadata = pretrain(args.out, config, device=args.device, progress=Stages()("pretraining"))
    score = f"mean IoU {100 * metadata['score']:.1f} % on held-out scenes of the auxiliary classes"
    options.say(f"saved {args.out}: {score}")
