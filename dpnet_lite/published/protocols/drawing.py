"""The ways of drawing episodes of published code: the same random numbers in the same order.

Each way re-enacts the loop of one repository on the counts of a data set; no image is read. What the result depends on
besides its arguments: the order of the data set's images, which stands for the order of the repository's list file.
Code that draws in worker processes (PFENet, BAM, SSP) is followed there too: PyTorch's loader seeds the random numbers
of worker w with its base seed + w and hands image i to worker i mod n. That holds for the PyTorch that the tests run
with; whether it held for the one that a paper used is not known. HSNet draws in one process, with NumPy's numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from dpnet_lite.datasets.base import CountedDataset
from dpnet_lite.episodes import Episode, EpisodeList, draw_episodes
from dpnet_lite.published.protocols.specs import Protocol

_Pair = tuple[int, int]  # of an image and a class
_Pools = dict[int, list[int]]  # images to draw from, by class


def draw_for(
    protocol: Protocol,
    dataset: CountedDataset,
    classes: Sequence[int],
    *,
    fold: int,
    n_shot: int,
    seed: int | None = None,
    count: int | None = None,
    benchmark: str = "pascal5i",
    pairs: Sequence[tuple[int, int]] | None = None,
) -> EpisodeList:
    """Draw the episodes of a protocol.

    Args:
        protocol: one of `PROTOCOLS`.
        dataset: the images that are tested, with counts.
        classes: novel class indices from 0, in ascending order.
        fold: recorded.
        n_shot: support images, at least 1.
        seed: one of the protocol's; the first of them if not given.
        count: episodes; the protocol's number if not given.
        benchmark: whose figures hold.
        pairs: HSNet's own list for PASCAL-5i, as (image index, class index). How its lists were made is not found in
            the code; without them all images with any pixel of the class take part, which is more than they hold.

    Raises ValueError: the protocol has no such benchmark, or too few images show a class.
    """
    count = protocol.episodes.of(benchmark) if count is None else count
    workers = protocol.workers.of(benchmark)
    if count is None or workers is None:
        raise ValueError(f"protocol {protocol.name} has no {benchmark}; choose another protocol or benchmark")
    seed = protocol.seeds[0] if seed is None else seed
    least = protocol.min_pixels.of(benchmark) or 0
    if protocol.drawing == "turns":
        rule: dict[str, Any] = {"min_area": 0.0, "min_pixels": least, "repeats": True}
        return draw_episodes(dataset, classes, fold=fold, n_shot=n_shot, count=count, seed=seed, **rule)
    classes = [int(index) for index in classes]
    if protocol.drawing == "listed":
        draws = _hsnet(dataset, classes, n_shot, seed, benchmark, pairs)
    else:
        draw = _pfenet if protocol.drawing == "images" else _ssp
        draws = draw(dataset, classes, n_shot, _LoaderNumbers(seed, workers), least)
    return EpisodeList(dataset.fingerprint, fold, n_shot, seed, tuple(islice(draws, count)))


def _pfenet(
    dataset: CountedDataset, classes: Sequence[int], n_shot: int, numbers: _LoaderNumbers, least: int
) -> Iterator[Episode]:
    """PFENet (util/dataset.py 147-199, test.py 174-186) and BAM, whose loop is the same (its util/dataset.py 209-266).

    "Large" is at least `least` pixels of a class. Queries are the images with a large novel class, in order, again and
    again. The class is drawn from all novel classes that the query shows, however small; the support from the images
    where it is large, each once. One number is drawn and thrown away before each shot, as there.
    """
    pixels = dataset.class_pixels
    pools = {index: np.flatnonzero(pixels[:, index] >= least).tolist() for index in classes}
    queries = np.flatnonzero((pixels[:, classes] >= least).any(axis=1)).tolist()
    shown = {query: [index for index in sorted(classes) if pixels[query, index]] for query in queries}
    _need_images(dataset, {index: pools[index] for query in queries for index in shown[query]}, n_shot + 1)
    while True:
        numbers.start_pass()
        for item, query in enumerate(queries):
            generator = numbers.of(item)
            class_index = shown[query][generator.randint(1, len(shown[query])) - 1]
            pool, support = pools[class_index], list[int]()
            for _ in range(n_shot):
                generator.randint(1, len(pool))  # drawn there too, and not used
                image = query
                while image == query or image in support:
                    image = pool[generator.randint(1, len(pool)) - 1]
                support.append(image)
            yield Episode(class_index, query, tuple(support))


def _ssp(
    dataset: CountedDataset, classes: Sequence[int], n_shot: int, numbers: _LoaderNumbers, least: int
) -> Iterator[Episode]:
    """SSP (dataset/fewshot.py 48-73 and 93-123).

    "Large" is at least `least` pixels of a class. The query is drawn from the images with any large novel class, the
    class from all novel ones that it shows, however small; the support from the images of that list with the class,
    each once, sorted by their names (`ids`), and drawn again where the class is not large.
    """
    pixels = dataset.class_pixels
    images = np.flatnonzero((pixels[:, classes] >= least).any(axis=1)).tolist()
    by_name = sorted(images, key=lambda image: dataset.ids[image])
    pools = {index: [image for image in by_name if pixels[image, index]] for index in classes}
    shown = {image: [index for index in sorted(classes) if pixels[image, index]] for image in images}
    large = {index: [image for image in pool if pixels[image, index] >= least] for index, pool in pools.items()}
    _need_images(dataset, {index: large[index] for image in images for index in shown[image]}, n_shot + 1)
    numbers.start_pass()
    item = 0
    while True:
        generator = numbers.of(item)
        query = generator.choice(images)
        class_index = generator.choice(shown[query])
        support: list[int] = []
        while len(support) < n_shot:
            image = generator.choice([other for other in pools[class_index] if other != query and other not in support])
            if pixels[image, class_index] >= least:
                support.append(image)
        yield Episode(class_index, query, tuple(support))
        item += 1


def _hsnet(
    dataset: CountedDataset,
    classes: Sequence[int],
    n_shot: int,
    seed: int,
    benchmark: str,
    pairs: Sequence[_Pair] | None,
) -> Iterator[Episode]:
    """HSNet: the support is drawn from a pool of the class until it is not the query; one image can be support twice.

    - PASCAL-5i (data/pascal.py 33, 96-105): the queries are the list's (image, class) pairs in order, again and again,
      the pools the list's images of the class.
    - FSS-1000 (data/fss.py 81-96, 107-114): the pairs are all images of the classes in the data set's order, which is
      1, 10, 2, 3 ... within a class as there; the support is drawn from the numbers 1 to 10, ascending. The number is
      the last part of an id, as in "abacus/10". No mask is read.
    - COCO-20i (data/coco.py 84-99): class, query and support are drawn, in this order. The repository reads its images
      of a class from a file; here they are all images with any pixel of it, in the data set's order.
    """
    generator = np.random.RandomState(seed)
    is_drawn = benchmark == "coco20i"
    if pairs is None or benchmark != "pascal5i":
        counted = dataset.class_areas if benchmark == "fss1000" else dataset.class_pixels
        pairs = [(int(image), classes[column]) for image, column in np.argwhere(counted[:, classes] > 0)]
    if other := {index for _, index in pairs} - set(classes):
        raise ValueError(f"pairs hold {dataset.class_names[min(other)]}, no class of the fold; give those of the fold")
    pools = {index: [image for image, own in pairs if own == index] for index in classes}
    if benchmark == "fss1000":
        number_of = {image: _number(dataset.ids[image]) for image, _ in pairs}
        pools = {index: sorted(pool, key=number_of.__getitem__) for index, pool in pools.items()}
    _need_images(dataset, pools if is_drawn else {own: pools[own] for _, own in pairs}, 2)

    def choose(images: Sequence[int]) -> int:
        return int(generator.choice(images, 1, replace=False)[0])

    def drawn_pairs() -> Iterator[_Pair]:
        while True:
            class_index = choose(classes)
            yield choose(pools[class_index]), class_index

    for query, class_index in drawn_pairs() if is_drawn else cycle(pairs):
        support: list[int] = []
        while len(support) < n_shot:
            image = choose(pools[class_index])
            support += [] if image == query else [image]
        yield Episode(class_index, query, tuple(support))


def _number(image: str) -> int:
    last = image.rsplit("/", 1)[-1]
    if not last.isdecimal():
        raise ValueError(f"image {image!r} has no number to draw by; name the images CLASS/NUMBER as FSS-1000 does")
    return int(last)


class _LoaderNumbers:
    """Python's random numbers as a PyTorch loader's workers have them, or those of one process (workers = 0)."""

    def __init__(self, seed: int, workers: int) -> None:
        self.workers, self.main = workers, torch.Generator().manual_seed(seed)
        self.generators = [random.Random(seed)]

    def start_pass(self) -> None:
        """Every pass over the loader starts new workers, with a base seed from PyTorch's own random numbers."""
        base_seed = int(torch.empty((), dtype=torch.int64).random_(generator=self.main).item())
        if self.workers:
            self.generators = [random.Random(base_seed + worker) for worker in range(self.workers)]

    def of(self, number: int) -> random.Random:
        """The numbers for item `number` of the pass."""
        return self.generators[number % len(self.generators)]


def _need_images(dataset: CountedDataset, pools: _Pools, least: int) -> None:
    """Raise ValueError where a class has too few images to end the loop that draws its support."""
    if not pools:
        raise ValueError(f"no image of {dataset.name} shows a class of the fold; choose another fold or data set")
    for class_index, pool in pools.items():
        if len(pool) < least:
            raise ValueError(
                f"class {dataset.class_names[class_index]} has {len(pool)} images to draw from and needs {least}; "
                "choose fewer shots or a larger data set"
            )
