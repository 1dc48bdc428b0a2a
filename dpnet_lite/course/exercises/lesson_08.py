"""Checks of notebook 08: where the weight lies, and how well a sign tells clean selections from others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dpnet_lite.course.analysis.selections import weight_places
from dpnet_lite.course.exercises import ask, compare, require_number, require_tensor, right
from dpnet_lite.experiments.intervals import weighted_auc


def check_weight_places(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """8.1: function(weights [h, w], cover [n, h, w]) -> share of the weight in each place, [n]."""
    generator = torch.Generator().manual_seed(0)
    for n, height, width in ((2, 3, 5), (5, 4, 4), (3, 6, 2)):
        cover = torch.rand(n, height, width, generator=generator).softmax(dim=0)
        weights = 7 * torch.rand(height, width, generator=generator) ** 3
        given = require_tensor(ask(function, weights, cover), (n,), "my_weight_places")
        wanted, on_place = weight_places(weights, cover), (weights * cover).sum(dim=(1, 2))
        by_largest = torch.stack([(weights * (cover.argmax(dim=0) == k)).sum() for k in range(n)]) / weights.sum()
        mistakes = {
            "these are the areas: the weights must count": cover.mean(dim=(1, 2)),
            "divide by the sum of the weights": on_place,
            "divide by the sum of the weights, not by h w": (weights * cover).mean(dim=(1, 2)),
            "divide by the sum of the weights, not by the area of each place": on_place / cover.sum(dim=(1, 2)),
            "a cell that shows two places gives to both: do not take the largest alone": by_largest,
        }
        compare(given, wanted, mistakes, f"the shares should be {_rounded(wanted)}, yours are {_rounded(given)}")
    return right("8.1", "the shares of 3 random cases agree with the package")


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 3) for value in values]


def check_auc(function: Callable[[np.ndarray, np.ndarray], float]) -> str:
    """8.4: function(sign [N], clean bool [N]) -> share of pairs in which the clean one is higher, ties half."""
    generator = np.random.default_rng(0)
    for case in range(6):
        sign = generator.integers(0, 5 if case % 2 else 1000, 20).astype(float)
        clean = generator.random(20) < 0.7
        given = require_number(ask(function, sign, clean), "my_auc")
        wanted = float(weighted_auc(sign, clean, np.ones(20)))
        difference = sign[clean][:, None] - sign[~clean][None, :]  # [clean ones, others]
        mistakes = {
            "a tie counts half, not nothing": (difference > 0).mean(),
            "a tie counts half, not whole": (difference >= 0).mean(),
            "the two groups are exchanged: count the pairs in which the clean one is higher": 1 - wanted,
            "this is a difference of means: compare pairs": sign[clean].mean() - sign[~clean].mean(),
            "compare one clean with one that is not: pairs of two clean ones do not count": (
                (sign[clean][:, None] > sign[None, :]).mean()
            ),
        }
        otherwise = f"case {case}: the share should be {wanted:.3f}, yours is {given:.3f}"
        compare(given, wanted, mistakes, otherwise, atol=1e-6, rtol=0)
    return right("8.4", "the shares of 6 random cases agree with the package")
