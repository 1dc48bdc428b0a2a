"""Checks of notebook 05b: how K shots combine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpnet_lite.course.exercises import ask, compare, require_pair, require_tensor, right
from dpnet_lite.model.prototypes import masked_average


def check_shots(function: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]) -> str:
    """5b.2: function(F_s [K, C, h, w], masks [K, h, w], F_q [C, h, w], weights [K, h, w]) -> (P [C], P_q [C])."""
    generator = torch.Generator().manual_seed(0)
    F_s, F_q = torch.rand(3, 5, 4, 4, generator=generator), torch.rand(5, 4, 4, generator=generator)
    masks, weights = torch.rand(2, 3, 4, 4, generator=generator) ** torch.tensor([1, 4, 9])[:, None, None]
    pair = require_pair(ask(function, F_s, masks, F_q, weights), "(P, P_q)")
    P, P_q = (require_tensor(part, (5,), "my_shots") for part in pair)
    means = masked_average(F_s, masks)  # [K, C]
    together = (F_s * masks[:, None]).sum(dim=(0, 2, 3)) / masks.sum()
    mistakes = {
        "take the mean of each shot first, then that of the shots: yours counts large objects more": together,
        "P is the mean over the shots, not their sum": means.sum(dim=0),
        "divide by the sum of a mask, not by the number of cells": (F_s * masks[:, None]).mean(dim=(0, 2, 3)),
    }
    compare(P, means.mean(dim=0), mistakes, "P differs from the mean of the shots' prototypes")
    wanted = torch.stack([masked_average(F_q, shot) for shot in weights]).mean(dim=0)
    mistakes = {
        "divide each shot's weights by their sum: one outvotes the others": masked_average(F_q, weights.sum(dim=0)),
        "a product keeps only what all shots select; take a mean": masked_average(F_q, weights.prod(dim=0)),
        "your shares add up to K: take their mean over the shots, not their sum": len(weights) * wanted,
        "your weights do not add up to 1: divide each shot's by their sum": (F_q * weights.mean(dim=0)).sum(dim=(1, 2)),
    }
    compare(P_q, wanted, mistakes, "P_q differs from the mean under the mean share")
    return right("5b.2", "every shot has the same say in P and in P_q")
