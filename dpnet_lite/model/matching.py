"""Matching support and query pixels both ways, in blocks: the ground that cycle comparison stands on.

The similarity S = cos(F_s, F_q), [B, N_s, N_q], is never held whole: only its row and column maxima are needed, so it
is computed in blocks (5 shots at 60 x 60 would be 18,000 x 3,600 numbers). Cosines are float32. Those less than 5e-7
apart count as equal, for equal pixels may get ones that differ in the last place; the lowest index then wins. So the
indices are those of float64 wherever the best is more than 1e-5 ahead of the second; on a GPU, unless somebody lets
PyTorch use TF32 for matrix products, which it does not by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

_TIE = 5e-7  # eight units of float32's last place just below 1
_STRIP = 64  # columns that are first looked at through their maximum alone: PyTorch finds that faster than its place
_BLOCK_NUMBERS = {"cpu": 2_000_000}  # numbers of S held at once: few enough for the processor's cache
_DEVICE_BLOCK_NUMBERS = 2**26  # elsewhere: enough to fill the device


class CycleMatches(NamedTuple):
    """Row and column maxima of S. Index ties go to the lowest index. What was not asked for is 0."""

    forward_match: Tensor  # int64 [B, N_s], i(j): the nearest query pixel of each support pixel
    backward_match: Tensor  # int64 [B, N_q], r(i): the nearest support pixel of each query pixel


@torch.no_grad()
def cycle_matches(support: Tensor, query: Tensor, support_mask: Tensor, *, everywhere: bool = True) -> CycleMatches:
    """Match support and query pixels both ways.

    Args:
        support: float [B, N_s, C], pixel features of length 1 or 0.
        query: float [B, N_q, C], likewise.
        support_mask: bool [B, N_s], True inside the mask.
        everywhere: match every pixel. If not, only what a cycle from the mask asks for: its pixels forward, and those
            that they reach backward. Elsewhere than on a CPU every pixel is matched, for shapes
            that depend on the data make a device wait; so it is where the network is compiled.
    """
    support, query = support.float(), query.float()
    if everywhere or support.device.type != "cpu" or torch.compiler.is_compiling():
        return CycleMatches(nearest(support, query), nearest(query, support))
    forward = torch.zeros(support.shape[:2], dtype=torch.int64)
    backward = torch.zeros(query.shape[:2], dtype=torch.int64)
    for row, mask in enumerate(support_mask):
        asked = mask.nonzero()[:, 0]
        forward[row, asked] = nearest(support[row : row + 1, asked], query[row : row + 1])[0]
        reached = forward[row, asked].unique()
        backward[row, reached] = nearest(query[row : row + 1, reached], support[row : row + 1])[0]
    return CycleMatches(forward, backward)


def nearest(rows: Tensor, columns: Tensor) -> Tensor:
    """Index of the column with the best cosine for each row: [B, n, C] and [B, m, C] -> int64 [B, n]."""
    found = []
    width = min(_STRIP, columns.shape[1])
    strip = torch.arange(width, device=rows.device)
    for cosines in _blocks(rows, columns):  # [B, n of the block, m]
        best = functional.max_pool1d(cosines, width, ceil_mode=True)  # of each strip of columns
        bar = best.amax(dim=2, keepdim=True) - _TIE
        places = width * _first(best >= bar) + strip  # the first strip that reaches the bar, [B, n, width]
        places = places.clamp(max=cosines.shape[2] - 1)
        found.append(places.gather(2, _first(cosines.gather(2, places) >= bar))[..., 0])
    return torch.cat(found, dim=1) if found else rows.new_zeros((len(rows), 0), dtype=torch.int64)


def _first(flags: Tensor) -> Tensor:
    """Place of the first True in each row, bool [B, n, m] -> int64 [B, n, 1]."""
    return flags.byte().argmax(dim=2, keepdim=True)


def best_cosine(rows: Tensor, columns: Tensor, column_masks: Tensor) -> Tensor:
    """The best cosine of each row with a column in each mask, float32 [B, k, n], or -1 where a mask is empty.

    Args:
        rows: float [B, n, C], of length 1 or 0.
        columns: float [B, m, C], likewise.
        column_masks: bool [B, k, m].
    """
    outside = (~column_masks).unbind(dim=1)  # k of [B, m]
    blocks = _blocks(rows, columns)  # each [B, n of the block, m]
    best = [torch.stack([block.masked_fill(mask[:, None], -1).amax(dim=2) for mask in outside], 1) for block in blocks]
    return torch.cat(best, dim=2)


def _blocks(rows: Tensor, columns: Tensor) -> Iterator[Tensor]:
    """The cosines in blocks of rows, [B, rows of the block, m], float32 also under autocast."""
    device = rows.device.type
    held = _BLOCK_NUMBERS.get(device, _DEVICE_BLOCK_NUMBERS)
    with torch.autocast(device, enabled=False):
        n_rows = max(1, held // max(1, len(columns) * columns.shape[1]))
        for part in rows.float().split(n_rows, dim=1) if rows.shape[1] else ():
            yield _product(part, columns.float())


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """rows columns^T, [B, n, C] and [B, m, C] -> [B, n, m]."""
    if rows.device.type != "cpu":
        return rows @ columns.transpose(1, 2)  # [B, m, C] -> [B, C, m]
    # As a 1x1 convolution of a picture one pixel wide: oneDNN runs those twice as fast as MKL matrix products on AMD.
    pictures = rows[:, :, None].permute(0, 3, 1, 2)  # [B, n, C] -> [B, C, n, 1]
    pairs = zip(pictures.split(1), columns[..., None, None], strict=True)  # [1, C, n, 1] and [m, C, 1, 1]
    each = [functional.conv2d(picture, weights) for picture, weights in pairs]
    return (each[0] if len(each) == 1 else torch.cat(each))[..., 0].transpose(1, 2)  # [B, m, n, 1] -> [B, n, m]


def directions(features: Tensor) -> Tensor:
    """A row of length 1 (or 0) per pixel: [B, C, h, w] -> float32 [B, h * w, C]."""
    return functional.normalize(features.flatten(2).transpose(1, 2).float(), dim=2)
