"""From a sample of any size to the fixed square that the network sees, and to normalised floats."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.datasets.base import Sample

# Channel statistics of ImageNet in RGB order: those that torchvision's pretrained weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def resize_image(image: Tensor, size: int) -> Tensor:
    """Squash uint8 [3, H, W], or n of them, to uint8 [3, size, size], bilinear with antialias (precedent: HSNet).

    The aspect ratio is not kept: nothing is padded and nothing is cut off. It is what torchvision's `resize` calls,
    without the seconds in which torchvision is imported.
    """
    check_size(size)
    images = image.reshape(-1, *image.shape[-3:])  # [..., 3, H, W] -> [n, 3, H, W]
    found = functional.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return found.reshape(*image.shape[:-2], size, size)  # [n, 3, size, size] -> [..., 3, size, size]


def resize_labels(labels: Tensor, size: int) -> Tensor:
    """Squash uint8 [H, W] to uint8 [size, size] by the nearest pixel, so that no new value appears."""
    check_size(size)
    # "nearest-exact" looks up pixel centres, as the bilinear image does; "nearest" is up to half a pixel off.
    return functional.interpolate(labels[None, None], (size, size), mode="nearest-exact")[0, 0]  # via [1, 1, H, W]


def resize_sample(sample: Sample, size: int) -> Sample:
    """Squash image and labels of a sample to [3, size, size] and [size, size]."""
    return Sample(resize_image(sample.image, size), resize_labels(sample.labels, size))


def normalise(image: Tensor) -> Tensor:
    """Turn uint8 RGB [..., 3, H, W] into float32 with ImageNet's mean 0 and deviation 1 per channel.

    Raises:
        ValueError: the image is not uint8 (floats could be in [0, 1] or in [0, 255]) or not RGB.
    """
    if image.dtype != torch.uint8 or image.ndim < 3 or image.shape[-3] != 3:
        raise ValueError(f"image is {image.dtype} {list(image.shape)}; give uint8 RGB [..., 3, H, W]")
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).reshape(3, 1, 1)  # [3] -> [3, 1, 1]
    deviation = torch.tensor(_IMAGENET_STD, device=image.device).reshape(3, 1, 1)  # [3] -> [3, 1, 1]
    return (image.float() / 255 - mean) / deviation


def check_size(size: int) -> int:
    """The side of a square in pixels as an int; ValueError for what is none."""
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or not 1 <= size < 10**5:
        raise ValueError(f"size is {size!r}; give the side of the square in pixels, a whole number from 1 to 99999")
    return int(size)
