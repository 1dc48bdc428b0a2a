"""VOC's masks: the class numbers that they hold, or the colours of VOC's palette, as some programs save them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dpnet_lite.datasets.images import read_mask


def read_voc_mask(path: Path) -> Tensor:
    """Labels, uint8 [H, W]; RGB in VOC's colours is taken for the numbers, of which a UserWarning tells once.

    Raises FileNotFoundError, ValueError: as `read_mask`, also for RGB in other colours.
    """
    try:
        with Image.open(path) as mask:
            pixels = np.array(mask).astype(np.int32) if mask.mode == "RGB" else None  # [H, W, 3]
    except Exception:  # `read_mask` tells what is wrong
        pixels = None
    if pixels is not None:
        bits = [((pixels[..., c] >> (7 - k)) & 1) << (3 * k + c) for c in range(3) for k in range(3)]
        numbers = np.sum(bits, axis=0) % 256  # [H, W]
        if (voc_colours(numbers) == pixels).all():
            warnings.warn("masks in VOC's colours (RGB) are read as the class numbers of its palette", stacklevel=2)
            return torch.from_numpy(numbers.astype(np.uint8))
    return read_mask(path)


def voc_colours(numbers: np.ndarray) -> np.ndarray:
    """Class numbers, int [H, W], in the colours of VOC's palette, [H, W, 3]: bit 3 k + c is bit 7 - k of channel c."""
    channels = [sum(((numbers >> (3 * k + c)) & 1) << (7 - k) for k in range(3)) for c in range(3)]
    return np.stack(channels, axis=-1)
