"""Checks of notebook 02: the support prototype and the comparison with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.course.exercises import ask, close, compare, require, require_tensor, right
from dpnet_lite.model.prototypes import foreground_score, masked_average, support_prototypes


def check_masked_average(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """2.1: function(features [C, h, w], mask [h, w] in [0, 1]) -> prototype [C], sum(mask * features) / sum(mask)."""
    generator = torch.Generator().manual_seed(0)
    for soft, share in ((False, 1.0), (True, 1.0), (True, 0.02)):
        features = torch.randn(5, 4, 6, generator=generator)
        mask = torch.rand(4, 6, generator=generator)
        mask = share * (mask * (mask > 0.3) if soft else (mask > 0.6).float())
        given = require_tensor(ask(function, features, mask), (5,), "my_masked_average")
        total = (features * mask).sum(dim=(1, 2))
        shares = "the mask holds shares: let a cell that is half foreground count half"
        small = "an object smaller than one cell must count, too: divide by the sum of its shares, not by 1"
        sums = "that is the sum over the mask; divide it by the sum of the mask"
        mistakes = {
            "that is the mean over all cells; use the mask": features.mean(dim=(1, 2)),
            "divide by the sum of the mask, not by the number of cells": total / mask.numel(),
            "divide by the sum of the shares, not by the number of cells the mask touches": total / (mask > 0).sum(),
            (sums if share == 1 else small): total if share == 1 else total / mask.sum().clamp_min(1),
        }
        for bound in (0.5, 0):
            require(not soft or not close(given, masked_average(features, (mask > bound).float())), shares)
        otherwise = "the numbers differ; compare with sum(mask * features) / sum(mask), channel by channel"
        compare(given, masked_average(features, mask), mistakes, otherwise)
    empty = require_tensor(ask(function, features, torch.zeros(4, 6)), (5,), "my_masked_average")
    require(close(empty, torch.zeros(5)), "an empty mask must give zeros, not NaN: add a tiny number to the divisor")
    return right("2.1", "it agrees with dpnet_lite.model.prototypes.masked_average")


def check_two_prototypes(function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """2.3: function(query [C, h, w], foreground [C], background [C]) -> mask [h, w] of the nearer one."""
    generator = torch.Generator().manual_seed(1)
    query, support = (torch.randn(6, 8, 8, generator=generator) + 0.3 for _ in range(2))
    query = query * torch.linspace(0.2, 5, 64).view(8, 8)  # vectors of very different length
    mask = torch.zeros(8, 8)
    mask[2:5, 1:6] = 1
    foreground, background = 4 * masked_average(support, mask), masked_average(support, 1 - mask)
    given = require_tensor(ask(function, query, foreground, background), (8, 8), "my_nearest_prototype")
    pair = support_prototypes(support[None, None], mask[None, None], 1 - mask[None, None])
    wanted = foreground_score(query[None], pair)[0] > 0
    require(given.dtype == torch.bool, f"my_nearest_prototype returns {given.dtype}; return True and False")
    pair = torch.stack([foreground, background])[:, :, None, None]  # [2, C, 1, 1]
    units, apart, products = functional.normalize(pair, dim=1), (query - pair).norm(dim=1), (query * pair).sum(dim=1)
    likeness, by_row = ((functional.normalize(query, dim=d) * units).sum(dim=1) for d in (0, 1))  # [2, h, w]
    mistakes = {
        "foreground and background are exchanged": ~wanted,
        "these are plain products; divide by the lengths of both vectors": products[0] > products[1],
        "that is the smaller distance; lengths shall not count": apart[0] < apart[1],
        "normalise over the channels, dim=0": by_row[0] > by_row[1],
        "compare with the background, not with a fixed number": likeness[0] >= likeness[0].where(given, 2.0).min(),
    }
    compare(given, wanted, mistakes, f"{int((given != wanted).sum())} of 64 cells differ from the larger cosine")
    return right("2.3", "every cell goes to the prototype with the larger cosine")
