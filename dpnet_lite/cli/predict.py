"""`dpnet-lite predict`: masks for your own images."""

from __future__ import annotations

import argparse
from pathlib import Path

from dpnet_lite.cli.options import known_networks, say


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="*", type=Path, help="to segment; put them before the options")
    add("--support", nargs="+", required=True, metavar="IMAGE MASK", help="pairs of image and mask")
    add("--checkpoint", type=Path, required=True)
    add("--backbone-weights", type=Path)
    add("--device", default="cpu")
    add("--out", type=Path, default=Path("outputs/masks"), help="folder for the masks (PNG, 0 or 255)")
    add("--overwrite", action="store_true", help="replace masks that are there already")


def run(args: argparse.Namespace) -> None:
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
    weights, networks = args.backbone_weights, known_networks()
    predictor = Predictor.load(args.checkpoint, backbone_weights=weights, device=args.device, networks=networks)
    predictor.set_support(args.support[0::2], args.support[1::2])
    args.out.mkdir(parents=True, exist_ok=True)
    for image, target in zip(args.images, targets, strict=True):
        mask = predictor.predict(image).mask
        Image.fromarray((mask * np.uint8(255)).astype(np.uint8)).save(target)
        say(f"{target}: {100 * float(mask.mean()):.1f} % of the pixels are foreground")
