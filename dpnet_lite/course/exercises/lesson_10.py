"""Checks of notebook 10: masks for a training folder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dpnet_lite.course.exercises import ask, require, right


def _require_mask(given: object, shape: tuple[int, ...]) -> np.ndarray:
    require(isinstance(given, np.ndarray), f"return a NumPy array, not a {type(given).__name__}")
    assert isinstance(given, np.ndarray)
    require(given.shape == shape, f"the shape is {list(given.shape)}; it should be {list(shape)}")
    require(given.dtype == np.uint8, f"the array is {given.dtype}; a mask file needs uint8")
    return given


def check_class_mask(function: Callable[[np.ndarray, int], np.ndarray]) -> str:
    """10.3: function(drawn uint8 [H, W], number) -> uint8 [H, W] with 0 and the number."""
    for number in (1, 7):
        drawn = np.array([[0, 255, 255], [0, 0, 255], [1, 128, 0]], dtype=np.uint8)
        given = _require_mask(ask(function, drawn, number), drawn.shape)
        require(not (given == 255).any(), "255 is still there; it would be ignored in training")
        missed = given[drawn > 0] != number
        require(
            not missed.any(), f"{int(missed.sum())} pixels above 0 do not have the value {number}; 1 and 128 count too"
        )
        require(bool((given[drawn == 0] == 0).all()), "the background must stay 0")
    return right("10.3", "every pixel above 0 has the class's number")


def check_merged(function: Callable[[list[np.ndarray]], np.ndarray]) -> str:
    """10.4: function(list of bool [H, W]) -> uint8 [H, W]: k for mask k alone, 255 for an overlap, 0 for none."""
    generator = np.random.default_rng(0)
    for n_masks in (1, 2, 4):
        masks = [generator.random((6, 8)) < 0.4 for _ in range(n_masks)]
        given = _require_mask(ask(function, masks), (6, 8))
        for row, column in np.ndindex(6, 8):
            inside = [k for k, mask in enumerate(masks, start=1) if mask[row, column]]
            wanted = 255 if len(inside) > 1 else (inside or [0])[0]
            place = f"with {n_masks} mask{'s'[: n_masks - 1]}, the pixel in row {row}, column {column}"
            if len(inside) > 1:
                require(given[row, column] != sum(inside), f"{place} lies in masks {inside}: set 255, add no numbers")
                require(
                    given[row, column] != max(inside), f"{place} lies in masks {inside}: set 255, the last must not win"
                )
            require(
                given[row, column] == wanted,
                f"{place} lies in masks {inside} and should be {wanted}, not {given[row, column]}",
            )
    return right("10.4", "single masks keep their number and overlaps are ignored")
