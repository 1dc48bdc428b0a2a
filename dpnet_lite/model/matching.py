"""Matching support and query pixels both ways, in blocks: the ground that cycle comparison stands on.

The similarity S = cos(F_s, F_q), [B, N_s, N_q], is never held whole: only its row and column maxima are
needed, so it is computed in blocks of support pixels (5 shots at 60 x 60 would be 18,000 x 3,600 numbers).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

_BLOCK_NUMBERS = 2_000_000  # numbers of S held at once
_GRID = 2.0**24  # cosines are rounded to multiples of 1 / _GRID, which float32 holds exactly


class CycleMatches(NamedTuple):
    """Row and column maxima of S. Index ties go to the lowest index."""

    forward_match: Tensor  # int64 [B, N_s], i(j): the nearest query pixel of each support pixel
    backward_match: Tensor  # int64 [B, N_q], r(i): the nearest support pixel of each query pixel
    foreground_similarity: Tensor | None  # float32 [B, N_q], best cosine with a support pixel in the mask, or -1
    background_similarity: Tensor | None  # float32 [B, N_q], best cosine with a support pixel not in it, or -1


@torch.no_grad()
def cycle_matches(
    support: Tensor,
    query: Tensor,
    support_mask: Tensor,
    *,
    similarities: bool = True,
    block_numbers: int = _BLOCK_NUMBERS,
) -> CycleMatches:
    """Match support and query pixels both ways, block by block.

    Args:
        support: float [B, N_s, C] pixel features (all shots in one row for K > 1).
        query: float [B, N_q, C].
        support_mask: bool [B, N_s], True inside the mask.
        similarities: also give the two best cosines, which take a third of the time; without, they are None.
        block_numbers: how many numbers of S may be held at once.

    Cosines are computed in float64 (where the device has it) and rounded to multiples of 2^-24. A pair's value
    then does not depend on the block it falls in, also near 0: the indices equal those of the plain version.
    """
    precise = torch.float32 if support.device.type == "mps" else torch.float64
    support = functional.normalize(support.to(precise), dim=-1)
    query = _GRID * functional.normalize(query.to(precise), dim=-1).transpose(1, 2)  # [B, N_q, C] -> [B, C, N_q]
    n_batch, n_support, n_query = support.shape[0], support.shape[1], query.shape[2]
    rows = min(n_support, max(1, block_numbers // max(1, n_batch * n_query)))
    forward = torch.empty((n_batch, n_support), dtype=torch.int64, device=support.device)
    best = torch.full((n_batch, n_query), -2 * _GRID, device=support.device)  # like all cosines here, times _GRID
    backward = torch.zeros((n_batch, n_query), dtype=torch.int64, device=support.device)
    inside, outside = torch.full_like(best, -_GRID), torch.full_like(best, -_GRID)
    # Two buffers for all blocks: allocating anew, small results come to lie between large blocks and the freed
    # ones cannot be used again (measured: up to 240 MB more in one run of six).
    products = torch.empty((n_batch, rows, n_query), dtype=precise, device=support.device)
    cosines = torch.empty_like(products, dtype=torch.float32)
    for start in range(0, n_support, rows):
        mask = support_mask[:, start : start + rows, None]  # [B, rows, 1]
        product, cosine = products[:, : mask.shape[1]], cosines[:, : mask.shape[1]]  # [B, rows, N_q]
        torch.bmm(support[:, start : start + rows], query, out=product)
        cosine.copy_(product.round_())
        forward[:, start : start + rows] = cosine.argmax(dim=2)
        value, row = cosine.max(dim=1)
        better = value > best  # strictly: on a tie the earlier, lower index stays
        best, backward = torch.where(better, value, best), torch.where(better, row + start, backward)
        if similarities:  # the buffers hold the same numbers: each loses one side of the mask
            outside = torch.maximum(outside, product.masked_fill_(mask, -_GRID).amax(dim=1).float())
            inside = torch.maximum(inside, cosine.masked_fill_(~mask, -_GRID).amax(dim=1))
    if not similarities:
        return CycleMatches(forward, backward, None, None)
    return CycleMatches(forward, backward, inside / _GRID, outside / _GRID)
