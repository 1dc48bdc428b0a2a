"""Reading image files of any mode as RGB, and index masks as the numbers that they hold."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
MaskLike = str | Path | Image.Image | np.ndarray | Tensor
MAX_PIXELS = 150_000_000  # of an image; the environment's DPNET_LITE_MAX_PIXELS may say otherwise
# Pillow decodes these itself (HEIF where pillow-heif is registered); for others it may start programs.
_FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Masks are read from these alone: the others blur, number (GIF) or stretch (PPM) what was stored, or may do so.
_MASK_FORMATS = ("BMP", "PNG", "TIFF")
_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif")
# Pillow stretches grey PNGs of 2 and 4 bits to 0..255. PNG optimisers write such files, and here the numbers
# themselves count.
_STRETCH_OF_PACKED_GREY = {"L;2": 85, "L;4": 17}
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's orientation -> the Image.Transpose that takes it away
_pillows_limit = threading.Lock()


def image_extensions() -> tuple[str, ...]:
    """In lower case, the extensions of photographs that this Pillow reads."""
    return tuple(extension for extension in _EXTENSIONS if extension in Image.registered_extensions())


def read_image(path: str | Path) -> Tensor:
    """Read an image file as uint8 RGB [3, H, W], upright (EXIF rotation applied); the first frame if several.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, is cut short, is too large, or holds numbers without a known range.
    """
    with opened(Path(path)) as image:
        result = _upright(image)
    try:
        return image_tensor(result, f"{path}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file once upright, from its header; errors as in `read_image`."""
    with opened(path) as image:
        is_turned = image.format != "TIFF" and _orientation(image) > 4  # Pillow turns TIFF by itself
        return image.size if is_turned else image.size[::-1]


def read_mask(path: str | Path, *, of_voc: bool = False) -> Tensor:
    """Read an index mask as uint8 [H, W]: the stored numbers, whatever the colours of a palette.

    VOC's colours alone, in RGB or in a palette of another order than VOC's, each stand for a number, which is warned
    of. Grey is read as stored; what is both, as class 7 is, (128, 128, 128), is taken for VOC's if `of_voc`. EXIF
    rotation is not applied: masks are drawn by programs, not by cameras.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no image, is cut short, holds colours, or is of a format that may change the numbers.
    """
    numbers = _stored_mask(Path(path), of_voc=of_voc)
    if numbers.ndim == 3 and numbers.shape[2] == 3:
        is_grey = (numbers == numbers[..., :1]).all()  # as paint programs save it
        numbers = _voc_numbers(numbers) if of_voc or not is_grey else numbers  # [H, W, 3] -> [H, W]
        numbers = numbers[..., 0] if is_grey and numbers.ndim == 3 else numbers
    if numbers.ndim != 2 or numbers.dtype.kind not in "iub":
        raise ValueError(
            f"{path} is a colour mask; save one class number per pixel, in grey or VOC's colours, without transparency"
        )
    if numbers.size and (numbers.max() > 255 or numbers.min() < 0):
        raise ValueError(f"{path} holds {numbers.min()} to {numbers.max()}; use 0 to 254, and 255 to ignore")
    return torch.from_numpy(numbers.astype(np.uint8))


def voc_colours(numbers: np.ndarray) -> np.ndarray:
    """Class numbers in the colours of VOC's palette, int [...] -> [..., 3]: bit 3 k + c is bit 7 - k of channel c."""
    channels = [sum(((numbers >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
    return np.stack(channels, axis=-1)


def _voc_numbers(colours: np.ndarray) -> np.ndarray:
    """What VOC's colours, uint8 [H, W, 3], stand for, [H, W]; `colours` itself where another is among them."""
    palette = _codes(voc_colours(np.arange(256)))
    values, places = np.unique(_codes(colours), return_inverse=True)
    numbers = palette.argsort()[np.searchsorted(np.sort(palette), values).clip(max=255)]
    if (palette[numbers] != values).any():
        return colours
    text = "masks in VOC's colours are read as the class numbers of VOC's palette: (128, 0, 0) is 1 ..."
    warnings.warn(text, stacklevel=3)
    return numbers.astype(np.uint8)[places].reshape(colours.shape[:2])


def _codes(colours: np.ndarray) -> np.ndarray:
    """[..., 3] -> int64 [...]: one number for each colour, 0 for black."""
    return np.asarray(colours.astype(np.int64) @ [65536, 256, 1])


def _stored_mask(path: Path, *, of_voc: bool | None = None) -> np.ndarray:
    """What the file of a mask holds, [H, W] or [H, W, channels]; `of_voc` as in `read_mask`, of no matter if None."""
    with opened(path) as mask:
        codec = mask.info.get("compression", "") if mask.format == "TIFF" else ""
        is_exact = mask.format in _MASK_FORMATS and codec not in ("jpeg", "tiff_jpeg", "webp")
        n_pages, numbers = getattr(mask, "n_frames", 1), _stored_numbers(mask)
    if not is_exact:
        kind = f"{mask.format} ({codec})" if codec else mask.format
        raise ValueError(f"{path} is a {kind} file, which may change the class numbers; save the mask as PNG")
    return _shown_numbers(mask, numbers, f"{path}", n_pages, of_voc=of_voc)


def _stored_numbers(mask: Image.Image) -> np.ndarray:
    """The numbers of an image that was opened and maybe not decoded yet."""
    raw_mode = tile[0][3] if (tile := getattr(mask, "tile", [])) else ""  # "L;4": 4-bit grey; loading forgets it
    numbers = np.array(mask)
    return numbers // _STRETCH_OF_PACKED_GREY[raw_mode] if raw_mode in _STRETCH_OF_PACKED_GREY else numbers


def _shown_numbers(
    mask: Image.Image, numbers: np.ndarray, path: str, n_pages: int, *, of_voc: bool | None
) -> np.ndarray:
    """The numbers of a mask, of which a palette may say that they are meant otherwise."""
    if n_pages > 1:
        raise ValueError(f"{path} has {n_pages} pages; save the one that is the mask")
    if mask.mode == "P":
        palette = np.array(mask.getpalette() or [0, 0, 0], np.uint8).reshape(-1, 3)  # [colours, 3]
        used = np.flatnonzero(np.bincount(numbers.ravel(), minlength=len(palette))[: len(palette)])
        colours = palette[used]  # [n, 3]
        black = used[~colours.any(axis=1)]
        if palette[0].any() and len(black):  # as programs do that sort colours
            raise ValueError(f"{path} shows the number {black[0]} in black and 0 in a colour; save the mask in grey")
        has_colour = colours.any(axis=1) | (used == 0)  # palettes are filled up with black
        used, colours = used[has_colour], colours[has_colour]
        if of_voc is not None and (colours != voc_colours(used)).any() and (of_voc or np.ptp(colours, axis=1).any()):
            codes = _codes(colours)
            values, counts = np.unique(codes, return_counts=True)
            doubled = values[(counts > 1) & np.isin(values, _codes(voc_colours(np.arange(256))))]
            if len(doubled):
                first, second, *_ = used[codes == doubled[0]]
                raise ValueError(f"{path} shows the numbers {first} and {second} in one colour; save the mask in grey")
            meant = _voc_numbers(colours[None])
            if meant.ndim == 2:
                table = np.arange(256, dtype=np.uint8)
                table[used] = meant[0]
                numbers = table[numbers]
    return numbers


def image_tensor(image: Image.Image, name: str = "an image") -> Tensor:
    """Turn a PIL image of any mode into uint8 RGB [3, H, W]; what is transparent becomes white.

    16-bit grey is scaled to 8 bits (65535 becomes 255), not clipped.

    Raises:
        ValueError: the mode is float, or 32-bit integers that 16 bits do not hold or 8 would, whose white is unknown.
    """
    if image.mode.startswith("I"):
        image = _grey_from_16_bit(image, name)
    elif image.mode == "F":
        raise ValueError("the image holds 32-bit floats, whose white is unknown; save it with 8 or 16 bits")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()  # [H, W, 3] -> [3, H, W]


def _grey_from_16_bit(image: Image.Image, name: str) -> Image.Image:
    levels = np.array(image).astype(np.int64)
    is_of_32 = image.mode == "I" and getattr(image, "format", None) in (None, "TIFF")  # PGM has 16, too
    is_8_bit = is_of_32 and levels.size and 0 < levels.max() < 256
    if (levels.size and (levels.min() < 0 or levels.max() > 65535)) or is_8_bit:
        raise ValueError(f"the image holds the values {levels.min()} to {levels.max()}; save it with 8 or 16 bits")
    if levels.size and 0 < levels.max() < 4096:
        text = f"{name} has 16 bits and holds {levels.max()} of 65535 at most: nearly black; stretch its values"
        warnings.warn(text, stacklevel=4)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))  # rounds to the nearest of 0..255


def png(image: Image.Image | np.ndarray, **options: Any) -> bytes:
    """A PIL image, or an array of uint8, as a PNG file; `options` as Pillow has them."""
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format="PNG", **options)
    return buffer.getvalue()


@contextmanager
def opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The image in a file, not decoded yet; whatever fails inside `with` is a ValueError that names the file."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path!s:.500} is not a file; check the path")
    most_pixels()  # a wrong wish is told without the file, which is not to blame
    try:
        Image.init()
        with _pillows_limit:  # it would warn and raise before ours, which can be raised and is the same everywhere
            before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                opened = Image.open(path, formats=[name for name in _FORMATS if name in Image.OPEN])
            finally:
                Image.MAX_IMAGE_PIXELS = before
        with opened as image:
            _check_pixels(image.height, image.width, f"{path}")
            yield image
    except _TooLargeError:
        raise
    except Exception as error:  # broken files make Pillow raise anything from SyntaxError to struct.error
        remedy = "" if path.suffix.lower() in image_extensions() else "convert it to PNG, "
        if isinstance(error, PermissionError):
            remedy = "change its owner or its permissions, "
        text = f"{path} cannot be read as an image ({_reason(error)}); {remedy}replace or remove it"
        raise ValueError(text) from error


def most_pixels() -> int:
    """How many pixels an image may have; ValueError where the environment's wish is no such number."""
    wish = os.environ.get("DPNET_LITE_MAX_PIXELS") or str(MAX_PIXELS)
    if not (wish.isascii() and wish.isdecimal() and len(wish) < 20 and int(wish)):
        raise ValueError(f"the environment variable DPNET_LITE_MAX_PIXELS is {wish!r}; give a whole number of pixels")
    return int(wish)


class _TooLargeError(ValueError):
    """An image of too many pixels: nothing is wrong with its file."""


def _check_pixels(height: int, width: int, what: str = "image") -> None:
    """ValueError for an image of too many pixels, told before it is decoded."""
    if height * width > (most := most_pixels()):
        raise _TooLargeError(
            f"{what}: {width} x {height} is more than {most:,} pixels: scale it down, or set the environment variable "
            "DPNET_LITE_MAX_PIXELS higher"
        )


def _reason(error: Exception) -> str:
    """What Pillow says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; other tags may be broken. A PNG is not decoded for it."""
    try:
        return int(Image.Image.getexif(image).get(0x0112, 1))
    except Exception:  # broken tags make Pillow raise anything; what cannot be read says nothing
        return 1


def _upright(image: Image.Image) -> Image.Image:
    """The decoded image, turned by hand: Pillow's `exif_transpose` fails where it cannot write another tag back."""
    image.load()  # first: a TIFF is turned by that, a PNG may name its orientation behind the pixels
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(Image.Transpose(turn))


def to_image(image: ImageLike) -> Tensor:
    """Path, PIL image, array [H, W, 3] or [H, W], or tensor [3, H, W], all uint8 -> uint8 RGB [3, H, W].

    Raises:
        ValueError: another type or shape, no pixel, or see `read_image`.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        _check_pixels(image.height, image.width)
        image = image_tensor(_decoded(image, _upright))
    if not isinstance(image, np.ndarray | Tensor):
        raise ValueError(f"image is a {type(image).__name__}; give a path, a PIL image, an array or a tensor")
    if str(image.dtype).removeprefix("torch.") != "uint8":
        raise ValueError(f"image is {image.dtype}; give uint8 values from 0 to 255")
    pixels = _dense(image, "image")
    tensor = torch.from_numpy(np.array(pixels, order="C")) if isinstance(image, np.ndarray) else pixels
    if isinstance(image, np.ndarray) and tensor.ndim == 2:
        tensor = tensor.expand(3, -1, -1)  # [H, W] -> [3, H, W]
    elif isinstance(image, np.ndarray) and tensor.ndim == 3:
        tensor = tensor.permute(2, 0, 1)  # [H, W, 3] -> [3, H, W]
    if tensor.ndim == 3 and tensor.shape[0] == 3 and tensor.numel():
        _check_pixels(*tensor.shape[1:])
        return tensor
    raise ValueError(f"image is {list(image.shape)}; give an array [H, W, 3] or [H, W], or a tensor [3, H, W]")


def _decoded(image: Image.Image, decode: Callable[[Image.Image], Any]) -> Any:
    """What `decode` makes of an image that the caller opened, and may have closed."""
    try:
        return decode(image)
    except Exception as error:
        raise ValueError(
            f"the PIL image cannot be decoded ({_reason(error)}); open it again, or give its path"
        ) from error


def _dense(pixels: Any, what: str) -> Any:
    """`pixels` itself; ValueError for tensors and arrays that do not hold a number in each place."""
    is_dense = not isinstance(pixels, np.ma.MaskedArray)
    if isinstance(pixels, Tensor):
        is_odd = pixels.is_nested or pixels.is_quantized or pixels.is_meta
        is_dense = not is_odd and pixels.layout == torch.strided
    if not is_dense:
        raise ValueError(f"{what} is masked, sparse, nested, quantized or without data; give plain numbers in full")
    return pixels


def to_mask(mask: MaskLike) -> Tensor:
    """Path, PIL image, array or tensor [H, W] of any integer or bool type -> bool [H, W], True above 0.

    RGB [H, W, 3] may be black and one colour, which is warned of.

    Raises:
        ValueError: another type or shape, or several values above 0, as in a mask of several classes.
    """
    numbers: Any = _stored_mask(Path(mask)) if isinstance(mask, str | Path) else _dense(mask, "mask")
    if isinstance(mask, Image.Image):
        n_pages = _decoded(mask, lambda opened: getattr(opened, "n_frames", 1))
        numbers = _shown_numbers(mask, _decoded(mask, _stored_numbers), "the mask", n_pages, of_voc=None)
    is_real = isinstance(mask, Tensor) and (mask.is_floating_point() or mask.is_complex())
    array: Any = numbers if is_real else np.asarray(numbers.detach().cpu() if isinstance(mask, Tensor) else numbers)
    if is_real or array.dtype.kind not in "iub":
        dtype = str(array.dtype).removeprefix("torch.")
        raise ValueError(f"mask ({type(mask).__name__}) is {dtype}; give integers or bools, as in mask > 0.5")
    if array.ndim == 3 and array.shape[2] == 3 and len(np.unique((codes := _codes(array))[codes > 0])) <= 1:
        array = codes > 0
        warnings.warn("a mask in RGB, black and one colour, is read as the object in that colour", stacklevel=2)
    if array.ndim != 2:
        raise ValueError(f"mask is {list(array.shape)}; give [H, W], or in RGB [H, W, 3] black and one colour")
    values = np.unique(array[array != 0])
    if (values < 0).any():
        raise ValueError(f"mask holds {values[0]}; give 0 and one other value above 0")
    if len(values) > 1:
        few = ", ".join(str(value) for value in values[:5])
        raise ValueError(
            f"mask holds {len(values)} values above 0 ({few}{' ...' if len(values) > 5 else ''}), so several classes "
            "or soft edges; give 0 and one other value: draw with a hard brush, or take mask == 3 in Python"
        )
    return torch.from_numpy(array > 0)
