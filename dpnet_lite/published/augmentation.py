"""Augmentation of training images on the device: mirror, scale, turn, shift and blur, by torchvision's transforms.

Images have been squashed to the network's square before; the scene is then scaled and turned inside that square. What
comes in from outside is the mean colour of ImageNet, ignored in the labels. Range of scales and angles, blur and
mirroring are PFENet's [precedent]; that they act on the squashed image is ours, so that training sees what testing
does. What is drawn depends on the seed, the step and the place in the step alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import IGNORE_LABEL
from dpnet_lite.datasets.transforms import IMAGENET_MEAN
from dpnet_lite.episodes import Part

_BLUR_KERNEL = 5  # pixels
_OUTSIDE = [round(255 * mean) for mean in IMAGENET_MEAN]


class View(NamedTuple):
    """How one image is changed."""

    flip: bool = False
    scale: float = 1.0
    angle: float = 0.0  # degrees
    shift: tuple[float, float] = (0.0, 0.0)  # to the right and down, in shares of the side
    blur: bool = False


def draw_views(part: Part, config: TrainingConfig) -> list[View]:
    """The views of a part's images: for every episode that of its query, then those of its support."""
    views = []
    for place in range(part.first, part.first + len(part.episodes)):
        rng = np.random.default_rng((config.seed, part.step, place, 1))
        for _ in range(1 + config.n_shot):
            flip, angle_of, scale_of, right, down, blur = rng.uniform(size=6)
            scale = 1 + config.scale * (2 * scale_of - 1)
            room = abs(scale - 1) / 2  # a larger scene is cropped, a smaller one placed, anywhere
            views.append(
                View(
                    flip=bool(config.flip and flip < 0.5),
                    scale=float(scale),
                    angle=float(config.rotation * (2 * angle_of - 1)),
                    shift=(float(room * (2 * right - 1)), float(room * (2 * down - 1))),
                    blur=bool(blur < config.blur),
                )
            )
    return views


def augment(images: Tensor, labels: Tensor, views: list[View]) -> tuple[Tensor, Tensor]:
    """Change every image and its labels alike.

    Args:
        images: uint8 [n, 3, S, S].
        labels: uint8 [n, S, S] with 0, 1 and 255.
        views: n of them.

    Returns:
        The same shapes and types; labels take the nearest pixel, and 255 where nothing is known.
    """
    pairs = [_apply(image, label, view) for image, label, view in zip(images, labels, views, strict=True)]
    return torch.stack([image for image, _ in pairs]), torch.stack([label for _, label in pairs])


def _apply(image: Tensor, labels: Tensor, view: View) -> tuple[Tensor, Tensor]:
    if view.flip:
        image, labels = image.flip(-1), labels.flip(-1)
    if view.scale != 1 or view.angle:
        side = image.shape[-1]
        move = {
            "angle": view.angle,
            "scale": view.scale,
            "shear": [0.0],
            "translate": [side * view.shift[0], side * view.shift[1]],
        }
        # Moved as the difference to the colour outside: torchvision's own `fill` leaves a dark rim between the two.
        outside = torch.tensor(_OUTSIDE, device=image.device).reshape(3, 1, 1)  # [3] -> [3, 1, 1]
        moved = functional.affine((image - outside).float(), interpolation=InterpolationMode.BILINEAR, **move)
        image = (moved + outside).round().clamp(0, 255).to(torch.uint8)
        labels = functional.affine(labels[None], interpolation=InterpolationMode.NEAREST, fill=[IGNORE_LABEL], **move)[
            0
        ]  # [S, S] -> [1, S, S] and back
    if view.blur:
        image = functional.gaussian_blur(image, [_BLUR_KERNEL, _BLUR_KERNEL])
    return image, labels
