"""Checks of notebook 02: the support prototype and the comparison with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpnet_lite.course.exercises import ask, close, require, require_tensor, right
from dpnet_lite.model.prototypes import foreground_score, masked_average


def check_masked_average(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """2.1: function(features [C, h, w], mask [h, w] in [0, 1]) -> prototype [C].

    Raises:
        Wrong: the answer is not sum(mask * features) / sum(mask).
    """
    generator = torch.Generator().manual_seed(0)
    for soft, share in ((False, 1.0), (True, 1.0), (True, 0.02)):
        features = torch.randn(5, 4, 6, generator=generator)
        mask = torch.rand(4, 6, generator=generator)
        mask = share * (mask * (mask > 0.3) if soft else (mask > 0.6).float())
        given = require_tensor(ask(function, features.clone(), mask.clone()), (5,), "masked_average")
        wanted = masked_average(features, mask)
        total = (features * mask).sum(dim=(1, 2))
        require(not close(given, features.mean(dim=(1, 2))), "that is the mean over all cells; use the mask")
        require(not close(given, total / mask.numel()), "divide by the sum of the mask, not by the number of cells")
        require(share < 1 or not close(given, total), "that is the sum over the mask; divide it by the sum of the mask")
        rounded = masked_average(features, (mask > 0.5).float())
        whole = masked_average(features, (mask > 0).float())
        weighed = not soft or not (close(given, rounded) or close(given, whole))
        require(weighed, "the mask holds shares: let a cell that is half foreground count half")
        small = share == 1 or not close(given, total / mask.sum().clamp_min(1))
        require(small, "an object smaller than one cell must count, too: divide by the sum of its shares, not by 1")
        require(
            close(given, wanted),
            "the numbers differ; compare with sum(mask * features) / sum(mask), channel by channel",
        )
    empty = require_tensor(ask(function, features.clone(), torch.zeros(4, 6)), (5,), "masked_average")
    require(close(empty, torch.zeros(5)), "an empty mask must give zeros, not NaN: add a tiny number to the divisor")
    return right("2.1", "it agrees with dpnet_lite.model.prototypes.masked_average")


def check_two_prototypes(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """2.2: function(query [C, h, w], foreground [C], background [C]) -> mask [h, w], True where foreground is nearer.

    Raises:
        Wrong: the answer is not that of the nearest prototype by cosine.
    """
    generator = torch.Generator().manual_seed(1)
    query, support = (torch.randn(6, 8, 8, generator=generator) + 0.3 for _ in range(2))
    query = query * torch.linspace(0.2, 5, 64).view(8, 8)  # vectors of very different length
    mask = torch.zeros(8, 8)
    mask[2:5, 1:6] = 1
    foreground, background = 4 * masked_average(support, mask), masked_average(support, 1 - mask)
    given = require_tensor(ask(function, query.clone(), foreground, background), (8, 8), "nearest_prototype")
    wanted = foreground_score(support[None, None], mask[None, None], query[None])[0] > 0
    require(given.dtype == torch.bool, f"nearest_prototype returns {given.dtype}; return True and False")
    products = torch.einsum("chw,c->hw", query, foreground) > torch.einsum("chw,c->hw", query, background)
    require(not torch.equal(given, ~wanted), "foreground and background are exchanged")
    require(not torch.equal(given, products), "these are plain products; divide by the lengths of both vectors")
    require(torch.equal(given, wanted), f"{int((given != wanted).sum())} of 64 cells differ from the larger cosine")
    return right("2.2", "every cell goes to the prototype with the larger cosine")
