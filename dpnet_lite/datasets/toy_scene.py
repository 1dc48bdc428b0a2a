"""Drawing one toy scene: a plan of objects, then pixels. NumPy only; our choice throughout.

A scene's *appearance* (colours, light, texture scale and turn, pose) is drawn once per scene and class, so
two objects of one class in one scene look alike, and the same class in another scene may not. `gap` in [0, 1]
says how far the appearance of a scene may stray from the canonical one.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpnet_lite.datasets.toy_outlines import Outline
from dpnet_lite.datasets.toy_textures import Texture

Array = np.ndarray


@dataclass(frozen=True)
class Appearance:
    """What one class looks like in one scene."""

    colours: Array  # [2, 3] RGB in [0, 1]: where the texture is 0 and where it is 1
    texture_frequency: float  # periods per object radius
    texture_turn: float  # radians
    turn: float  # radians, common to all objects of the class in the scene
    squeeze: float  # width over height


@dataclass(frozen=True)
class _Light:
    """One scene's light."""

    colour: Array  # [3] factor per channel
    gamma: float
    slope: Array  # [2] change of brightness across the scene, along x and y


@dataclass(frozen=True)
class PlacedObject:
    class_index: int
    outline: Outline
    texture: Texture
    appearance: Appearance
    centre: tuple[float, float]  # pixels, x and y
    radius: float  # pixels
    extra_turn: float  # radians, this object's own


def draw_appearance(class_index: int, gap: float, rng: np.random.Generator) -> Appearance:
    """The look of a class in one scene: canonical at gap 0, nearly free at gap 1."""
    canonical_hue = (class_index * 0.61803398875) % 1.0
    hue = (canonical_hue + gap * rng.uniform(-0.5, 0.5)) % 1.0
    other_hue = (hue + 0.35 + gap * rng.uniform(-0.3, 0.3)) % 1.0
    saturation = 0.75 - gap * rng.uniform(0.0, 0.5)
    bright, dark = 0.95 - gap * rng.uniform(0.0, 0.3), 0.38 + gap * rng.uniform(-0.25, 0.15)
    colours = np.array(
        [colorsys.hsv_to_rgb(hue, saturation, bright), colorsys.hsv_to_rgb(other_hue, saturation, dark)],
        dtype=np.float32,
    )
    if rng.uniform() < 0.5 * gap:
        colours = colours[::-1]
    return Appearance(
        colours=colours,
        texture_frequency=float(2.2 * 2.0 ** (gap * rng.uniform(-0.7, 0.7))),
        texture_turn=float(gap * rng.uniform(-np.pi, np.pi)),
        turn=float(gap * rng.uniform(-np.pi, np.pi)),
        squeeze=float(1.0 - 0.4 * gap * rng.uniform()),
    )


def draw_light(gap: float, rng: np.random.Generator) -> _Light:
    """The light of one scene: white and even at gap 0."""
    gain = 1.0 + gap * rng.uniform(-0.5, 0.3)
    return _Light(
        colour=(gain * (1.0 + gap * rng.uniform(-0.3, 0.3, 3))).astype(np.float32),
        gamma=float(np.exp(gap * rng.uniform(-0.4, 0.4))),
        slope=(gap * rng.uniform(-0.4, 0.4, 2)).astype(np.float32),
    )


def _smooth_noise(size: int, cells: int, channels: int, rng: np.random.Generator) -> Array:
    """Bilinear interpolation of a coarse random grid, [size, size, channels] in [-1, 1]."""
    grid = rng.uniform(-1.0, 1.0, (cells + 1, cells + 1, channels)).astype(np.float32)
    position = np.linspace(0, cells, size, endpoint=False, dtype=np.float32)
    low = position.astype(np.int64)
    share = (position - low)[:, None, None]
    rows = grid[low] * (1 - share) + grid[low + 1] * share  # [size, cells + 1, channels]
    rows = rows.transpose(1, 0, 2)
    return (rows[low] * (1 - share) + rows[low + 1] * share).transpose(1, 0, 2)


def draw_background(size: int, rng: np.random.Generator) -> Array:
    """A muted, cluttered background, float32 [size, size, 3] in [0, 1]: noise at three scales and strokes."""
    hue, value = rng.uniform(), rng.uniform(0.35, 0.75)
    base = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.05, 0.35), value), dtype=np.float32)
    image = base + 0.16 * _smooth_noise(size, 3, 3, rng) + 0.10 * _smooth_noise(size, 9, 1, rng)
    image += 0.05 * _smooth_noise(size, size // 3, 1, rng)
    axis = np.arange(size, dtype=np.float32)
    for _ in range(int(rng.integers(3, 7))):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(0.1, 0.9) * size
        along = axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle)
        across = np.abs(along - offset * (abs(np.cos(angle)) + abs(np.sin(angle))))
        stroke = np.clip(rng.uniform(0.8, 4.0) + 0.5 - across, 0.0, 1.0)[..., None]
        image += stroke * rng.uniform(-0.2, 0.2, 3).astype(np.float32)
    return np.clip(image, 0.0, 1.0)


class _Window(NamedTuple):
    """The part of a scene that an object can reach, and where its pixels lie in the object."""

    rows: slice
    columns: slice
    dx: Array  # offset from the centre in radii, [1, w]
    dy: Array  # [h, 1]
    x: Array  # the same turned and squeezed, in the object's own coordinates, [h, w]
    y: Array
    inside: Array  # how far inside the outline, in pixels, [h, w]


def _window(item: PlacedObject, size: int) -> _Window:
    reach = item.radius * 1.02 + 4
    left, right = max(0, int(item.centre[0] - reach)), min(size, int(item.centre[0] + reach) + 1)
    top, bottom = max(0, int(item.centre[1] - reach)), min(size, int(item.centre[1] + reach) + 1)
    turn = item.appearance.turn + item.extra_turn
    dx = (np.arange(left, right, dtype=np.float32) - item.centre[0])[None, :] / item.radius
    dy = (np.arange(top, bottom, dtype=np.float32) - item.centre[1])[:, None] / item.radius
    cosine, sine = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, y = (cosine * dx + sine * dy) / np.float32(item.appearance.squeeze), cosine * dy - sine * dx
    inside = item.outline(x, y) * np.float32(item.radius)
    return _Window(slice(top, bottom), slice(left, right), dx, dy, x, y, inside)


def _cover(inside: Array) -> Array:
    """How much of each pixel an object covers, in [0, 1]; from more than one half on, the pixel is the object's."""
    return np.clip(inside + 0.5, 0.0, 1.0)


def object_mask(item: PlacedObject, size: int) -> NDArray[np.bool_]:
    """Where an object would be seen if it were alone, bool [size, size]."""
    window = _window(item, size)
    mask = np.zeros((size, size), dtype=bool)
    mask[window.rows, window.columns] = _cover(window.inside) > 0.5
    return mask


def _paint_object(image: Array, labels: Array, item: PlacedObject) -> None:
    """Draw one object into `image` [S, S, 3] and `labels` [S, S], in place, with shading, edge and shadow."""
    rows, columns, dx, dy, x, y, inside = _window(item, labels.shape[0])
    look, cover = item.appearance, _cover(inside)
    cosine, sine = np.float32(np.cos(look.texture_turn)), np.float32(np.sin(look.texture_turn))
    frequency = np.float32(look.texture_frequency)
    mix = item.texture(frequency * (cosine * x + sine * y), frequency * (cosine * y - sine * x))[..., None]
    paint = look.colours[0] * (1 - mix) + look.colours[1] * mix
    shade = (1.0 - 0.16 * (dx + dy)) * (0.55 + 0.45 * np.clip(inside / 1.8, 0.0, 1.0))
    window = image[rows, columns]
    shadow = np.zeros_like(cover)
    shadow[2:, 2:] = np.clip((inside[:-2, :-2] + 2.0) / 4.0, 0.0, 1.0)
    window *= 1.0 - 0.4 * shadow[..., None]
    window += cover[..., None] * (np.clip(paint * shade[..., None], 0.0, 1.0) - window)
    labels[rows, columns][cover > 0.5] = item.class_index + 1


def paint_scene(
    background: Array, objects: Sequence[PlacedObject], light: _Light, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draw `objects` in order onto `background`, then light and a little sensor noise.

    Returns the image, uint8 [S, S, 3], and the labels, uint8 [S, S].
    """
    image, size = background.copy(), background.shape[0]
    labels = np.zeros((size, size), dtype=np.uint8)
    for item in objects:
        _paint_object(image, labels, item)
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    level = 1.0 + light.slope[0] * axis[None, :] + light.slope[1] * axis[:, None]
    image = np.clip(image * level[..., None] * light.colour, 0.0, 1.0) ** np.float32(light.gamma)
    image += rng.normal(0.0, 0.015, image.shape).astype(np.float32)
    return (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8), labels
