"""Progress bars that name the step of a long job, how far it is and the time left."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

Stage = Callable[[str], Callable[[Iterable[int]], Iterable[int]]]  # a step's name -> what wraps its loop


def silent(name: str) -> Callable[[Iterable[int]], Iterable[int]]:
    """A stage without a progress bar."""
    return iter


def is_first_process() -> bool:
    """Whether this process speaks for its job: all do, but one of several that torchrun started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Stages:
    """Numbered steps of a job: `stages("training")` gives a function that wraps an iterable in a bar.

    Args:
        total: how many steps the whole job has; 0 where that is not known.
        prefix: put before every step's name, such as "fold 0".
    """

    def __init__(self, total: int = 0, prefix: str = "") -> None:
        self.total, self.prefix, self.number = total, prefix, 0

    def __call__(self, name: str) -> Callable[[Iterable[int]], Iterable[int]]:
        self.number += 1
        count = f"{self.number}/{self.total} " if self.total else ""
        label = f"{count}{self.prefix}{name}"

        def wrap(items: Iterable[int]) -> Iterator[int]:
            bar = "{desc:<44} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}, {remaining} left"
            hidden = not is_first_process()
            shown = tqdm(items, desc=label, bar_format=bar, mininterval=0.5, leave=True, disable=hidden)
            shown.ncols = getattr(shown, "ncols", None) or None  # a terminal that says its width is 0 shows a bar, too
            yield from shown

        return wrap
