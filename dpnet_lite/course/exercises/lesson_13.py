"""Check of notebook 13: how many episodes an interval needs."""

from __future__ import annotations

import math
from collections.abc import Callable

from dpnet_lite.course.exercises import ask, compare_cases, require, require_number, right

_CASES = ((2.0, 1000, 1.0), (3.0, 500, 0.7), (1.5, 300, 2.0), (0.9, 1000, 0.31))


def check_episodes_needed(function: Callable[[float, int, float], int]) -> str:
    """13.2: function(half_width, n, target) -> the smallest number of episodes with a half width of at most target."""
    given = [require_number(ask(function, *case), "my_episodes_needed") for case in _CASES]
    exact = [n * (half_width / target) ** 2 for half_width, n, target in _CASES]
    mistakes = [
        {
            "half the width needs four times as many episodes, not twice: the width falls with their root": (
                math.ceil(n * half_width / target)
            ),
            "the width falls with the root of the number: square the ratio, then round up": n * half_width / target,
            "the ratio is upside down: a smaller target needs more episodes": math.ceil(n * (target / half_width) ** 2),
            "you round down; then the interval is still a little too wide: round up": math.floor(needed),
            "return a whole number: there is no part of an episode, and rounding to the nearest can be too few": needed,
        }
        for (half_width, n, target), needed in zip(_CASES, exact, strict=True)
    ]
    wanted = [math.ceil(needed) for needed in exact]
    compare_cases(
        given,
        wanted,
        mistakes,
        lambda k: (
            f"from {_CASES[k][0]} points at {_CASES[k][1]} episodes to {_CASES[k][2]}: {wanted[k]}, not {given[k]:g}"
        ),
        rtol=0,
        atol=1e-6,
    )
    require(all(number == int(number) for number in given), "return a whole number")
    return right("13.2", "the numbers of four cases are right")
