"""HSNet's ways of drawing episodes, one for each benchmark, with NumPy's random numbers in one process as there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count as count_up

import numpy as np

from dpnet_lite.datasets.base import CountedDataset
from dpnet_lite.episodes import Episode, EpisodeList
from dpnet_lite.published.protocols.random_numbers import need_images


def draw_hsnet(
    dataset: CountedDataset,
    classes: Sequence[int],
    *,
    fold: int,
    n_shot: int,
    count: int = 1000,
    seed: int = 0,
    pairs: Sequence[tuple[int, int]] | None = None,
) -> EpisodeList:
    """HSNet on PASCAL-5i (data/pascal.py 33, 96-105).

    The queries are the list's (image, class) pairs in order, again and again. Support images are drawn from the
    list's images of the class with NumPy until one is not the query; one image can be support twice.

    `pairs` are HSNet's own, as (image index, class index). How its lists were made is not found in the code; without
    them all images with any pixel of the class take part, image by image, which is more than HSNet's lists hold.
    """
    if pairs is None:
        shown = dataset.class_pixels[:, list(classes)] > 0  # [n_images, n_classes of the fold]
        pairs = [(int(image), int(classes[column])) for image, column in np.argwhere(shown)]
    pairs = [(image, index) for image, index in pairs if index in set(classes)]
    pools = {index: [image for image, own in pairs if own == index] for index in classes}
    return _draw_listed(dataset, pairs, pools, fold=fold, n_shot=n_shot, count=count, seed=seed)


def draw_hsnet_numbers(
    dataset: CountedDataset, classes: Sequence[int], *, fold: int, n_shot: int, count: int = 2400, seed: int = 0
) -> EpisodeList:
    """HSNet on FSS-1000 (data/fss.py 81-96, 107-114).

    The queries are all images of the classes in the data set's order, which is 1, 10, 2, 3 ... within a class as
    there, again and again. The support is drawn from the numbers 1 to 10, ascending, until it is not the query; one
    image can be support twice. The number is the last part of an id, as in "abacus/10". No mask is read.

    Raises:
        ValueError: an id without a number, or a class with fewer than two images.
    """
    shown = dataset.class_areas[:, list(classes)] > 0  # [n_images, n_classes of the fold]
    pairs = [(int(image), int(classes[column])) for image, column in np.argwhere(shown)]
    numbers = {image: _number(dataset.ids[image]) for image, _ in pairs}
    pools = {index: [image for image, own in pairs if own == index] for index in classes}
    for pool in pools.values():
        pool.sort(key=numbers.__getitem__)
    return _draw_listed(dataset, pairs, pools, fold=fold, n_shot=n_shot, count=count, seed=seed)


def draw_hsnet_classes(
    dataset: CountedDataset, classes: Sequence[int], *, fold: int, n_shot: int, count: int = 1000, seed: int = 0
) -> EpisodeList:
    """HSNet on COCO-20i (data/coco.py 84-99): class, query and support are drawn with NumPy, in this order.

    The repository reads its images of a class from a file; here they are all images with any pixel of it, in the data
    set's order.
    """
    pools = {int(index): np.flatnonzero(dataset.class_pixels[:, index]).tolist() for index in classes}
    need_images(dataset, pools, 2)
    generator, episodes = np.random.RandomState(seed), []
    for _ in range(count):
        class_index = int(generator.choice(list(classes), 1, replace=False)[0])
        query = int(generator.choice(pools[class_index], 1, replace=False)[0])
        support = _until_not_query(generator, pools[class_index], query, n_shot)
        episodes.append(Episode(class_index, query, support))
    return EpisodeList(dataset.fingerprint, fold, n_shot, seed, tuple(episodes))


def _draw_listed(
    dataset: CountedDataset,
    pairs: Sequence[tuple[int, int]],
    pools: dict[int, list[int]],
    *,
    fold: int,
    n_shot: int,
    count: int,
    seed: int,
) -> EpisodeList:
    """Queries from (image, class) pairs in order, the support from the pool of the class."""
    need_images(dataset, {own: pools[own] for _, own in pairs}, 2)
    generator, episodes = np.random.RandomState(seed), []
    for number in range(count):
        query, class_index = pairs[number % len(pairs)]
        support = _until_not_query(generator, pools[class_index], query, n_shot)
        episodes.append(Episode(class_index, query, support))
    return EpisodeList(dataset.fingerprint, fold, n_shot, seed, tuple(episodes))


def _number(image: str) -> int:
    last = image.rsplit("/", 1)[-1]
    if not last.isdecimal():
        raise ValueError(f"image {image!r} has no number to draw by; name the images CLASS/NUMBER as FSS-1000 does")
    return int(last)


def _until_not_query(generator: np.random.RandomState, pool: list[int], query: int, n_shot: int) -> tuple[int, ...]:
    """Draw until there are `n_shot` that are not the query."""
    drawn = (int(generator.choice(pool, 1, replace=False)[0]) for _ in count_up())
    support = (image for image in drawn if image != query)
    return tuple(next(support) for _ in range(n_shot))
