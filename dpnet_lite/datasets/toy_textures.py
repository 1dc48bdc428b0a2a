"""Textures of the toy world: a function per pattern, from texture coordinates to a mix of two colours.

Every function takes `u`, `v` (float arrays of one shape, origin at the object's centre, one period of the
pattern is 1) and returns a float array in [0, 1]: 0 is the first colour of the object, 1 the second.
The ten `CLASS_TEXTURES` make the few-shot classes; the ten `AUXILIARY_TEXTURES` are used only to pretrain the
tiny backbone. All of this is our choice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Texture = Callable[[Array, Array], Array]
_TWO_PI = 2 * np.pi


def _soft(value: Array, sharpness: float = 4.0) -> Array:
    """A step from 0 to 1 at value 0, softened so that small patterns do not flicker."""
    return np.clip(0.5 + sharpness * value, 0.0, 1.0)


def _cell(u: Array) -> Array:
    """Position within the cell of a unit lattice, in [-0.5, 0.5)."""
    return u - np.floor(u) - 0.5


def _cell_noise(u: Array, v: Array, salt: int) -> Array:
    """One fixed pseudo-random number in [0, 1) for each cell of the unit lattice."""
    column, row = np.floor(u).astype(np.int64), np.floor(v).astype(np.int64)
    mixed = (column * 374761393 + row * 668265263 + salt * 974634777) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)) & 0xFFFF).astype(u.dtype) / 65536


def _striped(u: Array, v: Array) -> Array:
    return _soft(np.sin(_TWO_PI * u), 1.5)


def _dotted(u: Array, v: Array) -> Array:
    return _soft(0.3 - np.hypot(_cell(u), _cell(v)))


def _checked(u: Array, v: Array) -> Array:
    return _soft(np.sin(np.pi * u) * np.sin(np.pi * v), 3.0)


def _zigzag(u: Array, v: Array) -> Array:
    return _soft(np.sin(_TWO_PI * (v + 1.2 * np.abs(_cell(u * 0.8)))), 1.5)


def _tartan(u: Array, v: Array) -> Array:
    return 0.5 * (_soft(np.sin(_TWO_PI * u) - 0.2, 2.0) + _soft(np.sin(_TWO_PI * v) - 0.2, 2.0))


def _brick(u: Array, v: Array) -> Array:
    across = _cell(u * 0.6 + 0.5 * (np.floor(v) % 2))
    return _soft(np.minimum((0.5 - np.abs(across)) / 0.6, 0.5 - np.abs(_cell(v))) - 0.12, 5.0)


def _scaly(u: Array, v: Array) -> Array:
    across = _cell(u + 0.5 * (np.floor(v) % 2))
    return _soft(0.12 - np.abs(np.hypot(across, _cell(v) + 0.5) - 0.55), 6.0)


def _ringed(u: Array, v: Array) -> Array:
    return _soft(np.sin(_TWO_PI * np.hypot(u, v)), 1.5)


def _speckled(u: Array, v: Array) -> Array:
    shift_u, shift_v = _cell_noise(u, v, 1) - 0.5, _cell_noise(u, v, 2) - 0.5
    size = 0.08 + 0.3 * _cell_noise(u, v, 3)
    return _soft(size - np.hypot(_cell(u) - 0.4 * shift_u, _cell(v) - 0.4 * shift_v))


def _netted(u: Array, v: Array) -> Array:
    diagonal, antidiagonal = 0.7071 * (u + v), 0.7071 * (u - v)
    return _soft(0.14 - np.minimum(np.abs(_cell(diagonal)), np.abs(_cell(antidiagonal))), 6.0)


def _plain(u: Array, v: Array) -> Array:
    return np.zeros_like(u)


def _split(u: Array, v: Array) -> Array:
    return _soft(u * 0.5)


def _faded(u: Array, v: Array) -> Array:
    return np.clip(0.5 + 0.25 * v, 0.0, 1.0)


def _honeycomb(u: Array, v: Array) -> Array:
    """Walls of the hexagonal lattice: far from both of the two interleaved grids of cell centres."""
    height = float(np.sqrt(3.0))
    first = np.hypot(_cell(u), _cell(v / height) * height)
    second = np.hypot(_cell(u + 0.5), _cell(v / height + 0.5) * height)
    return _soft(np.minimum(first, second) - 0.4, 6.0)


def _triangled(u: Array, v: Array) -> Array:
    return _soft(0.5 * (_cell(v) + 0.5) - np.abs(_cell(u)) - 0.08, 5.0)


def _plussed(u: Array, v: Array) -> Array:
    a, b = np.abs(_cell(u)), np.abs(_cell(v))
    return _soft(np.maximum(np.minimum(0.35 - a, 0.1 - b), np.minimum(0.1 - a, 0.35 - b)), 6.0)


def _marbled(u: Array, v: Array) -> Array:
    warp = 0.5 * np.sin(3.1 * v + 1.3) + 0.35 * np.sin(4.7 * u + 2.0 * v)
    return _soft(np.sin(_TWO_PI * 0.8 * (u + warp)), 0.8)


def _grained(u: Array, v: Array) -> Array:
    return _soft(np.sin(_TWO_PI * (0.25 * u * u + 0.9 * v)), 1.2)


def _dashed(u: Array, v: Array) -> Array:
    angle = np.pi * _cell_noise(u, v, 4)
    along = _cell(u) * np.cos(angle) + _cell(v) * np.sin(angle)
    across = _cell(v) * np.cos(angle) - _cell(u) * np.sin(angle)
    return _soft(np.minimum(0.36 - np.abs(along), 0.12 - np.abs(across)), 6.0)


def _patched(u: Array, v: Array) -> Array:
    return _cell_noise(0.8 * u, 0.8 * v, 5)


CLASS_TEXTURES: dict[str, Texture] = {
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "zigzag": _zigzag,
    "tartan": _tartan,
    "brick": _brick,
    "scaly": _scaly,
    "ringed": _ringed,
    "speckled": _speckled,
    "netted": _netted,
}
AUXILIARY_TEXTURES: dict[str, Texture] = {
    "plain": _plain,
    "split": _split,
    "faded": _faded,
    "honeycomb": _honeycomb,
    "triangled": _triangled,
    "plussed": _plussed,
    "marbled": _marbled,
    "grained": _grained,
    "dashed": _dashed,
    "patched": _patched,
}
