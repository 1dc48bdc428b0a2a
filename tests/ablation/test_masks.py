"""Errors in support masks, against SciPy's morphology and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from dpnet_lite.ablation.masks import edit_masks


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    generator = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(generator.normal(size=(5, 40, 40)), (0, 4, 4)) > 0.02
    return torch.from_numpy(blobs.astype(np.int64))


@pytest.mark.parametrize("pixels", [1, 3])
def test_erosion_and_dilation_are_those_of_scipy(labels, pixels):
    square = np.ones((2 * pixels + 1,) * 2)
    for edit, slow in (("dilated", ndimage.binary_dilation), ("eroded", ndimage.binary_erosion)):
        border = {} if edit == "dilated" else {"border_value": 1}  # the image's edge does not eat into the object
        expected = np.stack([slow(mask, square, **border) for mask in labels.numpy()])
        assert expected.any(axis=(1, 2)).all() and (expected != labels.numpy()).any(axis=(1, 2)).all()
        np.testing.assert_array_equal(edit_masks(labels, edit, pixels).numpy(), expected)


def test_a_shift_moves_right_and_down_and_loses_what_leaves():
    mask = torch.zeros(1, 6, 6, dtype=torch.int64)
    mask[0, 1, 2] = mask[0, 5, 0] = 1
    moved = edit_masks(mask, "shifted", 2)
    assert moved.nonzero().tolist() == [[0, 3, 4]]


def test_ignored_pixels_stay_ignored_and_no_mask_vanishes():
    mask = torch.zeros(1, 9, 9, dtype=torch.int64)
    mask[0, 4, 4] = 1
    assert (edit_masks(mask, "eroded", 1) == mask).all()  # nothing would be left
    mask[0, 3, 4] = 255
    grown = edit_masks(mask, "dilated", 1)
    assert grown[0, 3, 4] == 255 and (grown == 1).sum() == 8
    corner = torch.zeros(1, 4, 4, dtype=torch.int64)
    corner[0, 3, 3] = 1
    assert (edit_masks(corner, "shifted", 2) == corner).all()


def test_as_drawn_changes_nothing(labels):
    assert edit_masks(labels, "as drawn", 0) is labels
