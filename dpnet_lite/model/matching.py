"""Matching support and query pixels both ways, in blocks: the ground that cycle comparison stands on.

The similarity S = cos(F_s, F_q), [B, N_s, N_q], is never held whole: only its row and column maxima are
needed, so it is computed in blocks of support pixels (5 shots at 60 x 60 would be 18,000 x 3,600 numbers).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor

BLOCK_NUMBERS = 2_000_000  # numbers of S held at once
GRID = 2.0**24  # cosines are rounded to multiples of 1 / GRID, which float32 holds exactly


class CycleMatches(NamedTuple):
    """Row and column maxima of S. Index ties go to the lowest index."""

    forward_match: Tensor  # int64 [B, N_s], i(j): the nearest query pixel of each support pixel
    backward_match: Tensor  # int64 [B, N_q], r(i): the nearest support pixel of each query pixel
    foreground_similarity: Tensor  # float32 [B, N_q], best cosine with a support pixel in the mask, or -1
    background_similarity: Tensor  # float32 [B, N_q], best cosine with a support pixel not in it, or -1


def _maximum(values: Tensor, rows: Tensor) -> Tensor:
    """Column maxima of `values` [B, n, N_q] over the rows where `rows` [B, n] holds; -1 if there are none."""
    return values.masked_fill(~rows[..., None], -1.0).amax(dim=1)


@torch.no_grad()
def cycle_matches(
    support: Tensor, query: Tensor, support_mask: Tensor, *, block_numbers: int = BLOCK_NUMBERS
) -> CycleMatches:
    """Match support and query pixels both ways, block by block.

    Args:
        support: float [B, N_s, C] pixel features (all shots in one row for K > 1).
        query: float [B, N_q, C].
        support_mask: bool [B, N_s], True inside the mask.
        block_numbers: how many numbers of S may be held at once.

    Cosines are computed in float64 (where the device has it) and rounded to multiples of 2^-24. A pair's value
    then does not depend on the block it falls in, also near 0: the indices equal those of the plain version.
    """
    precise = torch.float32 if support.device.type == "mps" else torch.float64
    support = functional.normalize(support.to(precise), dim=-1)
    query = functional.normalize(query.to(precise), dim=-1).transpose(1, 2)  # [B, N_q, C] -> [B, C, N_q]
    n_batch, n_support, n_query = support.shape[0], support.shape[1], query.shape[2]
    rows = max(1, block_numbers // max(1, n_batch * n_query))
    forward, best = [], torch.full((n_batch, n_query), -2.0, device=support.device)
    backward = torch.zeros((n_batch, n_query), dtype=torch.int64, device=support.device)
    inside, outside = torch.full_like(best, -1.0), torch.full_like(best, -1.0)
    for start in range(0, n_support, rows):
        block = torch.bmm(support[:, start : start + rows], query)  # [B, rows, N_q]
        block = block.mul_(GRID).round_().float().div_(GRID)
        forward.append(block.argmax(dim=2))
        value, row = block.max(dim=1)
        better = value > best  # strictly: on a tie the earlier, lower index stays
        best, backward = torch.where(better, value, best), torch.where(better, row + start, backward)
        mask = support_mask[:, start : start + rows]
        inside = torch.maximum(inside, _maximum(block, mask))
        outside = torch.maximum(outside, _maximum(block, ~mask))
    return CycleMatches(torch.cat(forward, dim=1), backward, inside, outside)
