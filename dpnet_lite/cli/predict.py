"""`dpnet-lite predict`: masks for your own images."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpnet_lite.cli.options import DEVICES, check_output, escaped, known_networks, parse_number, parse_path, say

if TYPE_CHECKING:
    import numpy as np

    from dpnet_lite.datasets.images import MaskLike

# Of the classes in masks and overlays: orange, blue, green, yellow, light blue, red, pink; told apart by the
# colour-blind (Okabe and Ito).
_COLOURS = ((230, 159, 0), (0, 114, 178), (0, 158, 115), (240, 228, 66), (86, 180, 233), (213, 94, 0), (204, 121, 167))


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("images", nargs="*", type=parse_path, help="to segment, or folders of them; put them before the options")
    pairs = "pairs of image and mask of one class; give it again for a further class; or one image, and its outline"
    add("--support", type=parse_path, nargs="+", required=True, action="append", metavar="IMAGE MASK", help=pairs)
    box = "in the place of a mask: the object's box in the support image, in pixels from the top left"
    add("--support-box", nargs=4, type=parse_number, action=_Outline, metavar=("X0", "Y0", "X1", "Y1"), help=box)
    corners = "in the place of a mask: the object's corners, three or more pairs"
    add("--support-polygon", nargs="+", type=parse_number, action=_Outline, metavar="X Y", help=corners)
    add("--names", nargs="+", metavar="NAME", help="of the classes, in the order of --support")
    add("--checkpoint", type=parse_path, default=Path("photographs"), help="your own, photographs (default) or toy")
    add("--backbone-weights", type=parse_path, help="where the checkpoint was trained with such a file")
    add("--device", default="cpu", help=DEVICES)
    where = "folder for the masks: PNG, 0 or 255; with several classes 0, 1, 2 ... (default: outputs/masks)"
    add("--out", type=parse_path, default=Path("outputs/masks"), help=where)
    add("--overlay", action="store_true", help="also write each image with what was found painted on it")
    add("--overwrite", action="store_true", help="replace masks that are there already")


class _Outline(argparse.Action):
    """Boxes and polygons in one list, in the order in which they were given: as typed, and as corners (x, y)."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        typed = " ".join(f"{value:g}" for value in values)
        if not all(abs(value) < 1e6 for value in values):
            raise argparse.ArgumentError(self, f"has {typed}; give pixels of the image")
        if option == "--support-box":
            x0, y0, x1, y1 = values
            if x1 <= x0 or y1 <= y0:
                raise argparse.ArgumentError(
                    self, f"has {typed}; give X0 Y0 X1 Y1, the upper left corner first, no width and height"
                )
            values = (x0, y0, x1, y0, x1, y1, x0, y1)
        if len(values) < 6 or len(values) % 2:
            raise argparse.ArgumentError(self, f"has {len(values)} numbers; give x and y of three or more corners")
        corners = list(zip(values[0::2], values[1::2], strict=True))
        (x, y), *others = corners
        if all((a - x) * (d - y) == (c - x) * (b - y) for (a, b), (c, d) in pairwise(others)):
            raise argparse.ArgumentError(self, f"has {typed}, which encloses nothing; give corners around the object")
        area = sum(a * d - b * c for (a, b), (c, d) in pairwise([*corners, corners[0]])) / 2  # the shoelace formula
        if abs(area) < 1 and all(0 <= value <= 1 for value in values):
            raise argparse.ArgumentError(self, f"has {typed}, less than a pixel; give pixels of the image, not shares")
        namespace.outlines = [*getattr(namespace, "outlines", []), (f"{option} {typed}", corners)]


def run(args: argparse.Namespace) -> None:
    from dpnet_lite.experiments.progress import Stages
    from dpnet_lite.predictor import Predictor
    from dpnet_lite.storage.files import refuse_existing

    images = _image_files(args)
    if not images:
        raise ValueError(
            "there is no image to segment: --support takes all files that follow it; give: "
            "predict IMAGE ... --support IMAGE MASK [IMAGE MASK ...]"
        )
    support_images, support_masks = _support(args)
    targets = _targets(args, images)
    check_output(args.out, is_folder=True)
    weights, networks = args.backbone_weights, known_networks()
    predictor = Predictor.load(args.checkpoint, backbone_weights=weights, device=args.device, networks=networks)
    predictor.set_support(support_images, support_masks)
    args.out.mkdir(parents=True, exist_ok=True)
    for number in Stages(1)("segmenting")(range(len(images))) if len(images) > 1 else range(1):
        mask = predictor.predict(images[number]).mask
        refuse_existing(targets[number], may_replace=args.overwrite)  # another process may have made it by now
        _save_mask(mask, targets[number], n_classes=len(support_images))
        if args.overlay:
            _save(_painted(images[number], mask), _overlay_path(targets[number]))
        shares = {name: 100 * float((mask == value).mean()) for value, name in enumerate(support_images, start=1)}
        words = ", ".join(f"{share:.1f} % {name}" for name, share in shares.items())
        say(escaped(f"{targets[number]}: {words}"))


def _image_files(args: argparse.Namespace) -> list[Path]:
    """The images that are named, and those in the folders that are named, the support's files left out there."""
    from dpnet_lite.datasets.images import image_extensions
    from dpnet_lite.storage.files import require_file

    files: list[Path] = []
    support = {file.resolve() for files in args.support for file in files}
    for path in args.images:
        there = sorted(p for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else [path]
        inside = [p for p in there if p.suffix.lower() in image_extensions() or p == path]
        kept = [p for p in inside if p == path or p.resolve() not in support]
        if not kept:
            inner = f"; give {path / 'images'}" if (path / "images").is_dir() else ""
            endings = " ".join(image_extensions())
            raise ValueError(f"{path} holds no image to segment{inner}; what is read ends in {endings}")
        others = Counter("folder" if p.is_dir() else p.suffix.lower() or p.name for p in there if p not in inside)
        others += Counter({"of --support": len(inside) - len(kept)})
        if others:
            say(escaped(f"{path}: left out: {', '.join(f'{count} {kind}' for kind, count in others.items())}"))
        files += map(require_file, kept)
    return files


def _support(args: argparse.Namespace) -> tuple[dict[str, list[Path]], dict[str, list[MaskLike]]]:
    """Images and masks of each class, by its name; outlines are drawn as masks."""
    outlines = list(getattr(args, "outlines", []))
    numbered = [f"class {number}" for number in range(1, len(args.support) + 1)]
    names = args.names or (numbered if len(numbered) > 1 else ["foreground"])
    if not (len(names) == len(set(names)) == len(args.support) and all(map(str.strip, names))):
        given = f"--support is given {len(args.support)} times"
        raise ValueError(f"--names has {', '.join(names)}, {given}; give each class a name of its own")
    images: dict[str, list[Path]] = {}
    masks: dict[str, list[MaskLike]] = {}
    for name, files in zip(names, args.support, strict=True):
        if len(files) == 1 and outlines:
            images[name], masks[name] = files, [_outline_mask(files[0], *outlines.pop(0))]
        elif len(files) % 2:
            raise ValueError(
                f"--support has {' '.join(map(str, files))}, no pairs; give pairs of image and mask, or one image and "
                "--support-box X0 Y0 X1 Y1"
            )
        else:
            images[name], masks[name] = files[0::2], list(files[1::2])
    pairs = [pair for files in args.support if len(files) > 1 for pair in zip(files[0::2], files[1::2], strict=True)]
    if doubled := next((pair for pair in pairs if pairs.count(pair) > 1), None):
        raise ValueError(f"--support has {doubled[0]} with {doubled[1]} twice; give each pair once, for one class")
    if outlines:
        raise ValueError("a --support-box or --support-polygon has no --support with a single image; give one, or less")
    return images, masks


def _outline_mask(path: Path, typed: str, corners: Sequence[tuple[float, float]]) -> np.ndarray:
    """The pixels inside corners (x, y) in an image, bool [H, W]."""
    import numpy as np
    from PIL import Image, ImageDraw

    from dpnet_lite.datasets.images import image_size

    height, width = image_size(path)
    if not all(0 <= x <= width and 0 <= y <= height for x, y in corners):
        raise ValueError(f"{typed} leaves {path}, which is {width} x {height} pixels; keep it inside")
    mask = Image.new("1", (width, height))
    ImageDraw.Draw(mask).polygon(corners, fill=1)
    if mask.getbbox() is None:
        raise ValueError(f"{typed} holds no pixel of {path}, which is {width} x {height} pixels")
    drawn = np.array(mask)
    say(escaped(f"{path}: an outline takes in what lies beside the object too; a mask is better"))
    return drawn


def _targets(args: argparse.Namespace, images: Sequence[Path]) -> list[Path]:
    """Where the masks go; ValueError where something would be lost."""
    targets = [args.out / f"{image.stem}.png" for image in images]
    every = [path for target in targets for path in ([target, _overlay_path(target)] if args.overlay else [target])]
    given = {path.resolve() for path in (*images, *(file for files in args.support for file in files))}
    for number, path in enumerate(every):
        if path in every[:number]:
            raise ValueError(f"{path} would be written for two images; rename one, or leave one out")
        if path.resolve() in given:
            raise ValueError(f"{path} would be overwritten; rename an image or give another folder with --out")
        check_output(path, may_replace=args.overwrite)
    return targets


def _overlay_path(target: Path) -> Path:
    return target.with_name(f"{target.stem}_overlay.png")


def _save_mask(mask: np.ndarray, target: Path, *, n_classes: int) -> None:
    """One class as 0 and 255; several as their numbers, with a palette that shows them."""
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(mask if n_classes > 1 else mask * np.uint8(255))
    if n_classes > 1:
        picture.putpalette([0, 0, 0, *(part for number in range(n_classes) for part in _colour(number))])
    _save(picture, target)


def _save(picture: Any, target: Path) -> None:
    """Write a PIL image as PNG, all of it or nothing."""
    from dpnet_lite.datasets.images import png
    from dpnet_lite.storage.files import write_atomically

    write_atomically(target, png(picture))


def _painted(path: Path, mask: np.ndarray) -> Any:
    """The image with each class tinted, its outline in full colour: a PIL image of the same size."""
    import numpy as np
    from PIL import Image, ImageFilter

    from dpnet_lite.datasets.images import read_image

    picture = read_image(path).permute(1, 2, 0).numpy().copy()
    width = 1 + max(mask.shape) // 300  # of the outline in pixels
    for value in range(1, int(mask.max()) + 1):
        shrunk = Image.fromarray(np.uint8(255) * (mask == value).astype(np.uint8))
        for _ in range(width):  # many small filters: a wide one takes seconds for a large photograph
            shrunk = shrunk.filter(ImageFilter.MinFilter(3))
        inside, colour = mask == value, np.array(_colour(value - 1))
        picture[inside] = 0.65 * picture[inside] + 0.35 * colour
        picture[inside & (np.array(shrunk) == 0)] = colour
    return Image.fromarray(picture)


def _colour(number: int) -> tuple[int, int, int]:
    return _COLOURS[number % len(_COLOURS)]
