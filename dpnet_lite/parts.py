"""How the episodes of a training step are divided among processes, and each share into parts.

The list of a run is cut into steps of `batch_size` episodes. Every process takes an equal, consecutive share of each
step, in `accumulate` parts, so that no episode is left out or taken twice, and a step is the same for any division.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dpnet_lite.config import TrainingConfig
from dpnet_lite.episodes import Episode


class Part(NamedTuple):
    """Consecutive episodes of one step."""

    step: int
    episodes: tuple[Episode, ...]
    first: int  # place of the first episode in the step, from 0
    n_step: int  # episodes of the whole step, over all processes


class StepParts(Sequence[Part]):
    """The parts of one process, from a first step up to a last one, which is not included.

    Raises:
        ValueError: the processes times the parts do not divide `batch_size`.
    """

    def __init__(
        self, episodes: Sequence[Episode], config: TrainingConfig, steps: range, *, rank: int = 0, n_processes: int = 1
    ) -> None:
        check_division(config, n_processes)
        self.steps, self.rank = steps, rank
        # As arrays: a million small objects would be copied to every worker that decodes images.
        support = [episode.support for episode in episodes]
        self.class_index = np.array([episode.class_index for episode in episodes], dtype=np.int32)
        self.query = np.array([episode.query for episode in episodes], dtype=np.int32)
        self.support = np.array(support, dtype=np.int32).reshape(len(support), -1)  # [n_episodes, K]
        self.n_step, self.n_parts = config.batch_size, config.accumulate
        self.size = config.batch_size // (n_processes * config.accumulate)

    def __len__(self) -> int:
        return len(self.steps) * self.n_parts

    def __getitem__(self, index: int) -> Part:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(f"part {index} is not in 0 to {len(self) - 1}")
        step = self.steps[index // self.n_parts]
        first = (self.rank * self.n_parts + index % self.n_parts) * self.size
        start = step * self.n_step + first
        return Part(step, tuple(self._episode(i) for i in range(start, start + self.size)), first, self.n_step)

    def _episode(self, place: int) -> Episode:
        support = tuple(int(image) for image in self.support[place])
        return Episode(int(self.class_index[place]), int(self.query[place]), support)


def check_division(config: TrainingConfig, n_processes: int) -> None:
    """ValueError where a step cannot be divided evenly."""
    if config.batch_size % (n_processes * config.accumulate):
        raise ValueError(
            f"batch_size is {config.batch_size}, but {n_processes} processes take it in {config.accumulate} parts "
            f"each; give a multiple of {n_processes * config.accumulate}"
        )


def mirrored_views(part: Part, config: TrainingConfig) -> list[list[int]]:
    """Which images of a part are mirrored (1): for every episode its query, then its support."""
    rng = np.random.default_rng((config.seed, part.step, 0))
    views = rng.integers(2, size=(part.n_step, 1 + config.n_shot))  # drawn for the whole step, whoever takes what of it
    chosen: list[list[int]] = views[part.first : part.first + len(part.episodes)].tolist()
    return chosen
