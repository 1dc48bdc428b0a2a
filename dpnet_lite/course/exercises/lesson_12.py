"""Checks of notebook 12: what is hidden in a scene, and what each stratum adds to a difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dpnet_lite.course.analysis.scenes import hidden_share
from dpnet_lite.course.exercises import ask, compare, compare_cases, require, require_number, right

_Masks = NDArray[np.bool_]
_Floats = NDArray[np.float64]


def check_hidden_share(function: Callable[[_Masks, _Masks], float]) -> str:
    """12.2: function(masks bool [n, H, W] in the order of painting, own bool [n]) -> hidden share of the own ones."""
    generator = np.random.default_rng(0)
    given, wanted, mistakes = [], [], []
    for _ in range(40):
        n = int(generator.integers(2, 7))
        masks = generator.random((n, 6, 8)) < 0.5
        own = generator.random(n) < 0.5
        own[generator.integers(n)] = True
        given.append(require_number(ask(function, masks, own), "my_hidden_share"))
        wanted.append(hidden_share(masks, own))
        mistakes.append(_wrong_shares(masks, own))

    def otherwise(case: int) -> str:
        return f"case {case}: the share should be {wanted[case]:.3f}, yours is {given[case]:.3f}"

    compare_cases(given, wanted, mistakes, otherwise, atol=1e-8, rtol=1e-5)
    return right("12.2", "the hidden shares of 40 random scenes agree with the package")


def _wrong_shares(masks: _Masks, own: _Masks) -> dict[str, float]:
    """Typical wrong answers by what to say to each."""
    union = (masks & own[:, None, None]).any(axis=0)
    others = (masks & ~own[:, None, None]).any(axis=0)
    shown = 1 - hidden_share(masks, own)
    total = float((masks & own[:, None, None]).sum())
    return {
        "that is the share that is seen; the hidden one is the rest": shown,
        "an object that was painted earlier lies behind and hides nothing": float((union & others).sum() / union.sum()),
        "the order is turned round: a later object hides an earlier one": hidden_share(masks[::-1], own[::-1]),
        "an own object before another own one hides nothing; count a pixel that two of them share once": (
            1 - shown * float(union.sum()) / total
        ),
    }


def check_contributions(function: Callable[[_Floats, NDArray[np.int64], int], _Floats]) -> str:
    """12.3: function(differences [N], numbers int [N], n_strata) -> what each stratum adds to the mean, [n_strata]."""
    generator = np.random.default_rng(1)
    for case in range(20):
        n_strata, n = int(generator.integers(2, 6)), int(generator.integers(8, 30))
        differences, numbers = generator.normal(0.1, 0.3, n), generator.integers(n_strata, size=n)
        answer = ask(function, differences, numbers, n_strata)
        require(answer is not None, "my_contributions returns nothing; end it with a return")
        given = np.asarray(answer, dtype=float)
        require(given.shape == (n_strata,), f"the shape is {list(given.shape)}; it should be {[n_strata]}")
        require(not np.isnan(given).any(), "there is a NaN: a stratum without episodes adds 0")
        sums = np.array([differences[numbers == own].sum() for own in range(n_strata)])
        sizes = np.array([int((numbers == own).sum()) for own in range(n_strata)])
        wanted = sums / n
        mistakes = {
            "these are the means of the strata: a stratum adds its mean times its share of all episodes": (
                sums / np.maximum(sizes, 1)
            ),
            "these are sums: divide by the number of all episodes": sums,
            "you divide by the number of strata; divide by that of episodes": sums / n_strata,
        }
        otherwise = f"case {case}: the contributions should be {wanted.round(3)}, yours are {given.round(3)}"
        compare(given, wanted, mistakes, otherwise, atol=1e-8, rtol=1e-5)
    return right("12.3", "the contributions of 20 random tables add up to the mean of all")
