"""The checks of the lessons' exercises, a file a lesson, and what they share: a verdict that says why.

A check calls the learner's function on cases that it makes itself and compares with an answer of its own. It returns
the verdict where everything holds. It prints nothing where something is wrong: it raises `Wrong`, whose text says what
to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

_TO_WRITE = "your lines go here"  # what an unwritten exercise raises, see tools/build_notebooks.py


class Wrong(Exception):
    """A learner's answer is not right yet; the text says why."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this: the learner needs the reason, not the inside of the check.
        return [f"Not yet: {self}"]


def ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the learner's function on copies; what it raises becomes a `Wrong`, an IndexError with a hint."""
    try:
        return function(*map(_copy, arguments))
    except Exception as error:  # a learner's code can raise anything
        if isinstance(error, NotImplementedError) and error.args in ((), (_TO_WRITE,)):  # torch raises it, too
            raise Wrong(f"{function.__name__} is not written yet; put your lines in place of the raise") from None
        hint = "; which axis is which? The exercise names them in order" if isinstance(error, IndexError) else ""
        raise Wrong(f"{function.__name__} raised {type(error).__name__}: {error}{hint}") from None


def _copy(argument: Any) -> Any:
    if isinstance(argument, list):
        return [_copy(part) for part in argument]
    if isinstance(argument, Tensor):
        return argument.clone()
    return argument.copy() if isinstance(argument, np.ndarray) else argument


def require(condition: bool, reason: str) -> None:
    """Raise `Wrong` with the reason unless the condition holds."""
    if not condition:
        raise Wrong(reason)


def close(given: Any, wanted: Any, *, atol: float = 1e-4, rtol: float = 1e-3) -> bool:
    """Whether an answer equals the wanted numbers up to rounding; False for another shape."""
    given, wanted = (np.asarray(x.detach() if isinstance(x, Tensor) else x, dtype=float) for x in (given, wanted))
    return given.shape == wanted.shape and np.allclose(given, wanted, rtol=rtol, atol=atol)


def compare(given: Any, wanted: Any, mistakes: Mapping[str, Any], otherwise: str, **bounds: float) -> None:
    """Raise `Wrong` unless the answer is the wanted one.

    Args:
        mistakes: typical wrong answers by what to say to each; the first that the answer equals is told.
        otherwise: what to say where it equals none.
        bounds: of the rounding, see `close`.
    """
    if close(given, wanted, **bounds):
        return
    for reason, answer in mistakes.items():
        require(not close(given, answer, **bounds), reason)
    raise Wrong(otherwise)


def compare_cases(
    given: Sequence[Any],
    wanted: Sequence[Any],
    mistakes: Sequence[Mapping[str, Any]],
    otherwise: Callable[[int], str],
    **bounds: float,
) -> None:
    """As `compare`, for several cases at once: in a single one two mistakes may give the same number.

    `otherwise` says what is wrong with the case of that number.
    """
    by_reason = {reason: [of_case[reason] for of_case in mistakes] for reason in mistakes[0]}
    wrong = [case for case, pair in enumerate(zip(given, wanted, strict=True)) if not close(*pair, **bounds)]
    if wrong:
        compare(given, wanted, by_reason, otherwise(wrong[0]), **bounds)


def require_tensor(given: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """The answer as a tensor of the wanted shape; `Wrong` where it is something else."""
    require(given is not None, f"{name} returns nothing; end it with a return")
    require(isinstance(given, Tensor), f"{name} returns a {type(given).__name__}; return a tensor")
    require(tuple(given.shape) == shape, f"{name} returns the shape {list(given.shape)}; it should be {list(shape)}")
    return given


def require_number(given: Any, name: str) -> float:
    """The answer as a float, from any kind of single number; `Wrong` for anything else, NaN too."""
    require(given is not None, f"{name} returns nothing; end it with a return")
    kind = f"{name} returns a {type(given).__name__}; return one number"
    require(not isinstance(given, str), kind)
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise Wrong(kind) from None
    require(number == number, f"{name} returns NaN; look for a division of 0 by 0")
    return number


def require_pair(given: Any, what: str) -> tuple[Any, Any]:
    """The two parts of an answer: a tuple, list, array or tensor of two; `what` names them, as "(low, high)"."""
    several = isinstance(given, tuple | list) or (isinstance(given, np.ndarray | Tensor) and given.ndim == 1)
    pair = several and len(given) == 2
    require(pair, f"return a pair: {what}")
    return given[0], given[1]


class _Verdict(str):
    __repr__ = str.__str__  # a notebook shows it without quotes


def right(number: str, what: str) -> str:
    """The verdict that a notebook shows where everything holds."""
    return _Verdict(f"Exercise {number} is right: {what}.")
