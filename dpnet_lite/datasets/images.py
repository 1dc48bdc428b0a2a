"""Reading image files of any mode as RGB, and index masks as the numbers that they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
MaskLike = str | Path | Image.Image | np.ndarray | Tensor
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
    numbers = np.array(mask)
    if mask.mode == "RGB" and (numbers == numbers[..., :1]).all():  # grey, as paint programs save it
        numbers = numbers[..., 0]  # [H, W, 3] -> [H, W]
    elif mask.mode not in ("1", "L", "P") and not mask.mode.startswith("I"):
        raise ValueError(
            f"{path} is a colour mask (mode {mask.mode}); save one class number per pixel, in grey and without "
            "transparency"
        )
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


def to_image(image: ImageLike) -> Tensor:
    """Path, PIL image, array [H, W, 3] or [H, W], or tensor [3, H, W], all uint8 -> uint8 RGB [3, H, W]."""
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        return image_tensor(ImageOps.exif_transpose(image))
    tensor = torch.from_numpy(np.array(image, order="C")) if isinstance(image, np.ndarray) else image
    if tensor.dtype != torch.uint8:
        raise ValueError(f"image is {tensor.dtype}; give uint8 values from 0 to 255")
    if isinstance(image, np.ndarray) and tensor.ndim == 2:
        return tensor.expand(3, -1, -1)  # [H, W] -> [3, H, W]
    if isinstance(image, np.ndarray) and tensor.ndim == 3 and tensor.shape[2] == 3:
        return tensor.permute(2, 0, 1)  # [H, W, 3] -> [3, H, W]
    if isinstance(image, Tensor) and tensor.ndim == 3 and tensor.shape[0] == 3:
        return tensor
    raise ValueError(f"image is {list(tensor.shape)}; give an array [H, W, 3] or [H, W], or a tensor [3, H, W]")


def to_mask(mask: MaskLike) -> Tensor:
    """Path, PIL image, array or tensor [H, W] of any integer or bool type -> bool [H, W], True above 0.

    Raises:
        ValueError: another shape, or several values above 0, as in a mask of several classes.
    """
    if isinstance(mask, str | Path):
        mask = read_mask(Path(mask))
    if isinstance(mask, Image.Image):
        mask = np.array(mask)
    array = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    if array.ndim != 2:
        raise ValueError(f"mask is {list(array.shape)}; give [H, W]")
    values = np.unique(array[array > 0])
    if len(values) > 1:
        few = ", ".join(str(value) for value in values[:5])
        raise ValueError(
            f"mask holds {len(values)} values above 0 ({few}{' ...' if len(values) > 5 else ''}), so several classes "
            "or soft edges; give 0 and one other value: draw with a hard brush, or take mask == 3 in Python"
        )
    return torch.from_numpy(array > 0)
