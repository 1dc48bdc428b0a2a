"""Reading image files of any mode as RGB, and index masks as the numbers that they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

# Pillow stretches grey PNGs of 2 and 4 bits to 0..255. PNG optimisers write such files, and here the numbers
# themselves count.
_STRETCH_OF_PACKED_GREY = {"L;2": 85, "L;4": 17}


def read_image(path: str | Path) -> Tensor:
    """Read an image file as uint8 RGB [3, H, W], upright (EXIF rotation applied); the first frame if several.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, is cut short, or holds numbers without a known range.
    """
    image, _ = _load(Path(path), upright=True)
    try:
        return image_tensor(image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_mask(path: str | Path) -> Tensor:
    """Read an index mask as uint8 [H, W]: the stored numbers, never the colours of a palette.

    EXIF rotation is not applied: masks are drawn by programs, not by cameras.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, is cut short, holds colours, or is a JPEG (which blurs the numbers).
    """
    mask, raw_mode = _load(Path(path), upright=False)
    if mask.format == "JPEG":
        raise ValueError(f"{path} is a JPEG, which changes the class numbers; save the mask as PNG")
    if mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
        raise ValueError(
            f"{path} is a colour mask (mode {mask.mode}); save one class number per pixel, PNG mode L or P"
        )
    numbers = np.array(mask)
    if numbers.size and (numbers.max() > 255 or numbers.min() < 0):
        raise ValueError(f"{path} holds {numbers.min()} to {numbers.max()}; use 0 to 254, and 255 to ignore")
    return torch.from_numpy(numbers.astype(np.uint8) // _STRETCH_OF_PACKED_GREY.get(raw_mode, 1))


def image_tensor(image: Image.Image) -> Tensor:
    """Turn a PIL image of any mode into uint8 RGB [3, H, W]; what is transparent becomes white.

    16-bit grey is scaled to 8 bits (65535 becomes 255), not clipped.

    Raises:
        ValueError: the mode is float or 32-bit integers beyond 16 bits, whose white is not known.
    """
    if image.mode.startswith("I"):
        image = _grey_from_16_bit(image)
    elif image.mode == "F":
        raise ValueError("the image holds 32-bit floats, whose white is unknown; save it with 8 or 16 bits")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]


def _grey_from_16_bit(image: Image.Image) -> Image.Image:
    levels = np.array(image).astype(np.int64)
    if levels.size and (levels.min() < 0 or levels.max() > 65535):
        raise ValueError(f"the image holds the values {levels.min()} to {levels.max()}; save it with 8 or 16 bits")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # rounds to the nearest of 0..255


def _load(path: Path, *, upright: bool) -> tuple[Image.Image, str]:
    """The decoded image, and the raw mode of its file ("L;4": 4-bit grey) or "" where that is unknown."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; check the path")
    try:
        with Image.open(path) as image:
            raw_mode = image.tile[0][3] if image.tile else ""  # loading forgets it
            image.load()
            result = ImageOps.exif_transpose(image) if upright else image
        return result, raw_mode if isinstance(raw_mode, str) else ""
    except Exception as error:  # broken files make Pillow raise anything from SyntaxError to struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be read as an image ({reason}); replace or remove it") from error
