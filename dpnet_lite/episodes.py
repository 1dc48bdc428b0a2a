"""Frozen episode lists: which images are query and support, drawn once and the same for everyone.

One-way episodes as in the literature on PASCAL-5i and COCO-20i. That the classes take turns evenly, so that
none weighs more than another by chance, and that a list is hashed, is our choice.

In training, the list of a run is cut into steps of `batch_size` episodes. Every process takes an equal, consecutive
share of each step, in `accumulate` parts: no episode is left out or taken twice, a step is the same for any division.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.base import SegmentationDataset

DEFAULT_MIN_AREA = 0.02  # share of the image; smaller objects nearly vanish at feature size
_LARGE_POOL = 5_000  # images; above it, shuffling a whole pool for one episode takes too long


@dataclass(frozen=True)
class Episode:
    """One task: segment the class in the query image, given the support images and their masks of it."""

    class_index: int  # from 0, into the data set's class_names
    query: int  # image index
    support: tuple[int, ...]  # image indices, one per shot; never the query

    @property
    def images(self) -> tuple[int, ...]:
        """Indices of its images: the query, then the support."""
        return (self.query, *self.support)


@dataclass(frozen=True)
class EpisodeList:
    """Episodes with what they were drawn from. Two lists are the same exactly if their `sha256` are."""

    dataset: str  # fingerprint of the data set
    fold: int
    n_shot: int
    seed: int
    episodes: tuple[Episode, ...]

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    def __getitem__(self, index: int) -> Episode:
        return self.episodes[index]

    @property
    def images(self) -> np.ndarray:
        """int64 [n, 1 + K]: the query image and the support images of each episode."""
        return np.array([episode.images for episode in self.episodes], np.int64)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of `to_json()` in UTF-8."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: fields as named here, keys sorted, no spaces."""
        values = vars(self) | {"episodes": [vars(episode) for episode in self.episodes]}
        values.pop("sha256", None)  # kept there once it was asked for
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> EpisodeList:
        """Rebuild a list from `to_json()`.

        Raises:
            ValueError: the text is not such a list.
        """
        try:
            fields = json.loads(text)
            episodes = tuple(
                Episode(entry["class_index"], entry["query"], tuple(entry["support"]))
                for entry in fields.pop("episodes")
            )
            result = cls(episodes=episodes, **fields)
            numbers = [n for episode in episodes for n in (episode.class_index, *episode.images)]
            if not isinstance(result.dataset, str) or any(
                type(n) is not int or not 0 <= n < 2**63 for n in (result.fold, result.n_shot, result.seed, *numbers)
            ):
                raise ValueError("a fingerprint that is no text, or a number that is none from 0 up")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"the text is no episode list ({error!r}); write it with to_json()") from None
        for number, episode in enumerate(episodes):
            if len(episode.support) != result.n_shot or episode.query in episode.support:
                raise ValueError(
                    f"episode {number} has query {episode.query} and support {list(episode.support)}; it "
                    f"needs {result.n_shot} support images other than the query: draw the list again"
                )
        return result


def class_pools(
    dataset: SegmentationDataset, classes: Sequence[int], *, min_area: float = DEFAULT_MIN_AREA, min_pixels: int = 0
) -> dict[int, np.ndarray]:
    """Per class, the indices (int64, ascending) of the images that can serve its episodes.

    These are the images of which the class covers at least `min_area`, a share in [0, 1], and not nothing. With
    `min_pixels` it must also have that many pixels at the image's own size; the data set must then have counts.

    Raises:
        TypeError, ValueError: no data set; no class, an unknown one or one twice; bad `min_area` or `min_pixels`.
    """
    if not hasattr(dataset, "class_names"):
        raise TypeError(f"dataset is a {type(dataset).__name__}; give a data set, such as the .dataset of features")
    n_classes, classes = len(dataset.class_names), np.asarray([*classes]).tolist()
    unknown = [index for index in classes if type(index) is not int or not 0 <= index < n_classes]
    if unknown:
        raise ValueError(f"class index {unknown[0]} does not exist; {dataset.name} has 0 to {n_classes - 1}")
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes are {list(classes)}; name at least one, and each once")
    if not 0 <= min_area <= 1:
        raise ValueError(f"min_area is {min_area}; give a share of the image from 0 to 1")
    areas = dataset.class_areas
    large_enough = (areas > 0) & (areas >= np.float32(min_area))  # bool [n_images, n_classes]
    if min_pixels:
        if dataset.class_pixels is None or min_pixels < 0:
            raise ValueError(
                f"min_pixels is {min_pixels}; give 0 or more, and more than 0 only for data sets that count pixels, "
                f"which {dataset.name} {'does not' if dataset.class_pixels is None else 'does'}"
            )
        large_enough &= dataset.class_pixels >= min_pixels
    return {int(index): np.flatnonzero(large_enough[:, index]) for index in classes}


def usable_classes(dataset: SegmentationDataset, classes: Sequence[int], **rule: Any) -> list[int]:
    """Those of `classes` with the two images that an episode needs, by the rule of `class_pools`."""
    return [index for index, pool in class_pools(dataset, classes, **rule).items() if len(pool) >= 2]


def draw_episodes(
    dataset: SegmentationDataset,
    classes: Sequence[int],
    *,
    fold: int,
    n_shot: int,
    count: int,
    seed: int,
    min_area: float = DEFAULT_MIN_AREA,
    min_pixels: int = 0,
    repeats: bool = False,
) -> EpisodeList:
    """Draw `count` episodes over `classes`; the same arguments give the same list in any process.

    Classes take turns in shuffled order, so their counts differ by at most one. The query is uniform over the
    class's pool (see `class_pools`); the support is drawn from the rest of the pool, with `repeats` again and again
    where that is smaller than `n_shot`, as evenly as can be. Classes with fewer than two images are left out. A
    longer list with otherwise the same arguments begins with the shorter one.

    Args:
        dataset: gives areas and fingerprint; no image is read.
        classes: class indices from 0, for example those of `novel_classes`.
        fold: recorded, and part of the random seed.
        n_shot: support images per episode, at least 1.
        count: episodes, at least 1.
        seed: at least 0.
        min_area: smallest share of an image that the class may cover, in [0, 1].
        min_pixels: smallest number of pixels of the class at the image's own size, for data sets with counts.
        repeats: whether a support may hold an image several times, where a class has too few.

    Raises:
        ValueError: an argument is out of range, no class has two images, or one has too few without `repeats`.
    """
    for name, value, lowest in (("fold", fold, 0), ("n_shot", n_shot, 1), ("count", count, 1), ("seed", seed, 0)):
        if not isinstance(value, int | np.integer) or value < lowest:
            raise ValueError(f"{name} is {value!r}; it must be a whole number and at least {lowest}")
    fold, n_shot, count, seed = map(int, (fold, n_shot, count, seed))  # JSON has no numbers of NumPy
    pools = class_pools(dataset, classes, min_area=min_area, min_pixels=min_pixels)
    usable = np.array([index for index, pool in pools.items() if len(pool) >= 2])
    if not len(usable):
        counts = ", ".join(f"{dataset.class_names[index]} {len(pool)}" for index, pool in pools.items())
        enough = f" on {100 * min_area:g} % of their pixels or more" if min_area else ""
        raise ValueError(f"no class has two images that show it{enough} (images: {counts}); add images")
    fewest = min(usable.tolist(), key=lambda index: len(pools[index]))
    if n_shot >= len(pools[fewest]) and not repeats:
        raise ValueError(
            f"{n_shot} shots need {n_shot + 1} images of a class, but {dataset.class_names[fewest]} has "
            f"{len(pools[fewest])} to draw from; give fewer shots, or let support images repeat (--repeat-support)"
        )
    generator = np.random.default_rng([seed, fold, n_shot])
    episodes = tuple(
        _draw_one(int(index), pools[int(index)], n_shot, generator) for index in _take_turns(usable, count, generator)
    )
    return EpisodeList(dataset.fingerprint, fold, n_shot, seed, episodes)


def _draw_one(class_index: int, pool: np.ndarray, n_shot: int, generator: np.random.Generator) -> Episode:
    query = int(generator.choice(pool))
    rest = pool[pool != query]
    if len(rest) > max(_LARGE_POOL, n_shot):
        support: Iterable[np.integer] = generator.choice(rest, n_shot, replace=False)
    else:
        support = _take_turns(rest, n_shot, generator)
    return Episode(class_index, query, tuple(int(image) for image in support))


def _take_turns(items: np.ndarray, count: int, generator: np.random.Generator) -> Iterator[np.integer]:
    """Yield `count` items in shuffled rounds: nothing comes again before everything has come."""
    for start in range(0, count, len(items)):
        yield from generator.permutation(items)[: count - start]


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
