"""The ways of drawing episodes of published code: the same random numbers in the same order.

Each function re-enacts the loop of one repository on the counts of a data set; no image is read. What the result
depends on besides its arguments: the order of the data set's images, which stands for the order of the repository's
list file. Code that draws in worker processes (PFENet, BAM, SSP) is followed there too: PyTorch's loader seeds the
random numbers of worker w with its base seed + w and hands image i to worker i mod n. That holds for the PyTorch that
the tests run with; whether it held for the one that a paper used is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dpnet_lite.datasets.base import CountedDataset
from dpnet_lite.episodes import Episode, EpisodeList, draw_episodes
from dpnet_lite.published.protocols.hsnet_drawing import draw_hsnet, draw_hsnet_classes, draw_hsnet_numbers
from dpnet_lite.published.protocols.random_numbers import LoaderNumbers, need_images
from dpnet_lite.published.protocols.specs import Protocol
from dpnet_lite.published.registry import MIN_PIXELS


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
        pairs: HSNet's own list for PASCAL-5i, see `draw_hsnet`.

    Raises:
        ValueError: the protocol has no such benchmark, or too few images show a class.
    """
    count = protocol.episodes.of(benchmark) if count is None else count
    workers = protocol.workers.of(benchmark)
    if count is None or workers is None:
        raise ValueError(f"protocol {protocol.name} has no {benchmark}; choose another protocol or benchmark")
    seed = protocol.seeds[0] if seed is None else seed
    numbers = {"fold": fold, "n_shot": n_shot, "count": count, "seed": seed}
    if protocol.drawing == "listed":
        if benchmark == "pascal5i":
            return draw_hsnet(dataset, classes, **numbers, pairs=pairs)
        return (draw_hsnet_classes if benchmark == "coco20i" else draw_hsnet_numbers)(dataset, classes, **numbers)
    min_pixels = protocol.min_pixels.of(benchmark) or 0
    if protocol.drawing == "turns":
        return draw_episodes(dataset, classes, **numbers, min_area=0.0, min_pixels=min_pixels)
    draw = draw_pfenet if protocol.drawing == "images" else draw_ssp
    return draw(dataset, classes, **numbers, workers=workers, min_pixels=min_pixels)


def draw_pfenet(
    dataset: CountedDataset,
    classes: Sequence[int],
    *,
    fold: int,
    n_shot: int,
    count: int = 5001,
    seed: int = 321,
    workers: int = 8,
    min_pixels: int = MIN_PIXELS,
) -> EpisodeList:
    """PFENet (util/dataset.py 147-199, test.py 174-186) and BAM, whose loop is the same (its util/dataset.py 209-266).

    "Large" is at least `min_pixels` pixels of a class. Queries are the images with a large novel class, in order, again
    and again. The class is drawn from all novel classes that the query shows, however small; the support from the
    images where it is large, each once. One number is drawn and thrown away before each shot, as there. `workers=0`
    draws all in one process, with Python's random numbers after `random.seed(seed)`.
    """
    pixels = dataset.class_pixels
    pools = {int(index): np.flatnonzero(pixels[:, index] >= min_pixels).tolist() for index in classes}
    queries = np.flatnonzero((pixels[:, list(classes)] >= min_pixels).any(axis=1)).tolist()
    shown = {query: [int(index) for index in sorted(classes) if pixels[query, index]] for query in queries}
    need_images(dataset, {index: pools[index] for query in queries for index in shown[query]}, n_shot + 1)
    draws, episodes = LoaderNumbers(seed, workers), []
    for number in range(count):
        if number % len(queries) == 0:
            draws.start_pass()
        query, generator = queries[number % len(queries)], draws.of(number % len(queries))
        class_index = shown[query][generator.randint(1, len(shown[query])) - 1]
        pool, support = pools[class_index], []
        for _ in range(n_shot):
            generator.randint(1, len(pool))  # drawn there too, and not used
            image = query
            while image == query or image in support:
                image = pool[generator.randint(1, len(pool)) - 1]
            support.append(image)
        episodes.append(Episode(class_index, query, tuple(support)))
    return EpisodeList(dataset.fingerprint, fold, n_shot, seed, tuple(episodes))


def draw_ssp(
    dataset: CountedDataset,
    classes: Sequence[int],
    *,
    fold: int,
    n_shot: int,
    count: int = 1000,
    seed: int = 0,
    workers: int = 4,
    min_pixels: int = MIN_PIXELS,
) -> EpisodeList:
    """SSP (dataset/fewshot.py 48-73 and 93-123).

    "Large" is at least `min_pixels` pixels of a class. The query is drawn from the images with any large novel class,
    the class from all novel ones that it shows, however small; the support from the images of that list with the
    class, each once, sorted by their names, and drawn again where the class is not large. Names are the data set's
    `ids`; a data set without them is sorted by index. `workers=0` as for `draw_pfenet`.
    """
    pixels = dataset.class_pixels
    images = np.flatnonzero((pixels[:, list(classes)] >= min_pixels).any(axis=1)).tolist()
    names = getattr(dataset, "ids", range(len(dataset)))
    by_name = sorted(images, key=lambda image: names[image])
    pools = {int(index): [image for image in by_name if pixels[image, index]] for index in classes}
    shown = {image: [int(index) for index in sorted(classes) if pixels[image, index]] for image in images}
    large = {index: [image for image in pool if pixels[image, index] >= min_pixels] for index, pool in pools.items()}
    need_images(dataset, {index: large[index] for image in images for index in shown[image]}, n_shot + 1)
    draws, episodes = LoaderNumbers(seed, workers), []
    draws.start_pass()
    for number in range(count):
        generator = draws.of(number)
        query = generator.choice(images)
        class_index = generator.choice(shown[query])
        support: list[int] = []
        while len(support) < n_shot:
            image = generator.choice([other for other in pools[class_index] if other != query and other not in support])
            if pixels[image, class_index] >= min_pixels:
                support.append(image)
        episodes.append(Episode(class_index, query, tuple(support)))
    return EpisodeList(dataset.fingerprint, fold, n_shot, seed, tuple(episodes))
