"""Outlines of the toy world: a function per shape, from object coordinates to "how far inside".

Every function takes `x`, `y` (float arrays of one shape, y pointing down, the object fits the unit disc) and
returns a float array: positive inside, negative outside, about the distance to the edge in object units.
The eight `CLASS_OUTLINES` make the few-shot classes; the eight `AUXILIARY_OUTLINES` are used only to pretrain
the tiny backbone, so that no outline of a few-shot class is ever seen there. All of this is our choice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Outline = Callable[[Array, Array], Array]


def _polygon(x: Array, y: Array, corners: list[tuple[float, float]]) -> Array:
    """Inside distance of a convex polygon whose corners run clockwise on the screen."""
    inside = np.full(x.shape, np.inf, dtype=x.dtype)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = float(np.hypot(x1 - x0, y1 - y0))
        inside = np.minimum(inside, ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) / length)
    return inside


def _box(x: Array, y: Array, half_width: float, half_height: float) -> Array:
    return np.minimum(half_width - np.abs(x), half_height - np.abs(y))


def _star(x: Array, y: Array) -> Array:
    sector = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    tip, notch = np.array([1.0, 0.0]), 0.45 * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    edge = (notch - tip) / np.linalg.norm(notch - tip)
    return (tip[0] - u) * edge[1] + v * edge[0]


def _kite(x: Array, y: Array) -> Array:
    return _polygon(x, y, [(0.0, -1.0), (0.62, -0.25), (0.0, 1.0), (-0.62, -0.25)])


def _ring(x: Array, y: Array) -> Array:
    return 0.27 - np.abs(np.hypot(x, y) - 0.68)


def _cross(x: Array, y: Array) -> Array:
    return np.maximum(_box(x, y, 0.92, 0.3), _box(x, y, 0.3, 0.92))


def _heart(x: Array, y: Array) -> Array:
    side = np.abs(x)
    lobe = 0.5 - np.hypot(side - 0.43, y + 0.33)
    body = np.minimum(0.653 - (side + y + 0.19) * 0.7071, y + 0.36)
    return np.maximum(lobe, np.minimum(body, 0.93 - side))


def _moon(x: Array, y: Array) -> Array:
    return np.minimum(0.95 - np.hypot(x, y), np.hypot(x - 0.48, y + 0.1) - 0.68)


def _arrow(x: Array, y: Array) -> Array:
    head = _polygon(x, y, [(0.0, -1.0), (0.8, -0.05), (-0.8, -0.05)])
    return np.maximum(head, _box(x, y - 0.42, 0.3, 0.5))


def _flower(x: Array, y: Array) -> Array:
    return 0.68 + 0.27 * np.cos(6 * np.arctan2(y, x)) - np.hypot(x, y)


def _disc(x: Array, y: Array) -> Array:
    return 0.85 - np.hypot(x, y)


def _square(x: Array, y: Array) -> Array:
    return _box(x, y, 0.75, 0.75)


def _triangle(x: Array, y: Array) -> Array:
    return _polygon(x, y, [(0.0, -0.95), (0.9, 0.7), (-0.9, 0.7)])


def _hexagon(x: Array, y: Array) -> Array:
    return np.minimum(0.8 - np.abs(y), 0.8 - (0.866 * np.abs(x) + 0.5 * np.abs(y)))


def _pill(x: Array, y: Array) -> Array:
    return 0.4 - np.hypot(x, np.maximum(np.abs(y) - 0.55, 0.0))


def _wedge(x: Array, y: Array) -> Array:
    return np.minimum(0.9 - np.hypot(x, y), np.abs(y) * 0.8 - x * 0.6)


def _corner(x: Array, y: Array) -> Array:
    return np.minimum(_box(x, y, 0.8, 0.8), np.maximum(-x - 0.15, y - 0.15))


def _trapezoid(x: Array, y: Array) -> Array:
    return _polygon(x, y, [(-0.4, -0.6), (0.4, -0.6), (0.95, 0.6), (-0.95, 0.6)])


CLASS_OUTLINES: dict[str, Outline] = {
    "star": _star,
    "kite": _kite,
    "ring": _ring,
    "cross": _cross,
    "heart": _heart,
    "moon": _moon,
    "arrow": _arrow,
    "flower": _flower,
}
AUXILIARY_OUTLINES: dict[str, Outline] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "hexagon": _hexagon,
    "pill": _pill,
    "wedge": _wedge,
    "corner": _corner,
    "trapezoid": _trapezoid,
}
