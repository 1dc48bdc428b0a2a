"""Checks of notebook 13: the images of a fold, the rate of a step, and a process's part of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpnet_lite.config import TrainingConfig
from dpnet_lite.course.exercises import Wrong, ask, compare, compare_cases, require, require_number, require_pair, right
from dpnet_lite.losses import learning_rate
from dpnet_lite.published.registry import MIN_PIXELS

_Counts = NDArray[np.int64]


def check_fold_images(function: Callable[[_Counts, list[int]], tuple[int, int]]) -> str:
    """13.1: function(pixels int [n, n_classes], novel) -> (training images, those of them that show a novel class)."""
    generator = np.random.default_rng(0)
    given, wanted, mistakes = [], [], []
    for _ in range(30):
        pixels, novel = _table(generator)
        pair = require_pair(ask(function, pixels, novel), "(training images, of these with a novel class)")
        given.append(tuple(_count(part) for part in pair))
        wanted.append(_fold_images(pixels, novel))
        mistakes.append(_wrong_folds(pixels, novel))

    def otherwise(table: int) -> str:
        shown = ", ".join(f"{number:g}" for number in given[table])
        return f"table {table}: the pair should be {wanted[table]}, yours is ({shown})"

    compare_cases(given, wanted, mistakes, otherwise, atol=0, rtol=0)
    return right("13.1", "both numbers agree in 30 random tables")


def _count(given: Any) -> float:
    """One number; a table of true and false is not counted yet."""
    require(
        np.ndim(given) == 0, "count the images: return two numbers, such as the .sum() of an array of true and false"
    )
    return require_number(given, "my_fold_images")


def _table(generator: np.random.Generator) -> tuple[_Counts, list[int]]:
    """_Counts in which every rule matters: nothing, specks, exactly 2,048 pixels, and more."""
    n_images, n_classes = int(generator.integers(30, 60)), int(generator.integers(5, 9))
    chances = [0.6, 0.12, 0.08, 0.1, 0.1]
    pixels = generator.choice([0, 40, 1_500, MIN_PIXELS, 9_000], size=(n_images, n_classes), p=chances)
    novel = sorted(generator.choice(n_classes, 2, replace=False).tolist())
    return pixels.astype(np.int64), novel


def _fold_images(pixels: _Counts, novel: Sequence[int]) -> tuple[int, int]:
    """The wanted pair, image by image."""
    used = overlap = 0
    for row in pixels.tolist():
        serves = any(count >= MIN_PIXELS for index, count in enumerate(row) if index not in novel)
        used += serves
        overlap += serves and any(row[index] > 0 for index in novel)
    return used, overlap


def _wrong_folds(pixels: _Counts, novel: Sequence[int]) -> dict[str, tuple[int, int]]:
    """Typical wrong answers by what to say to each."""
    base = [index for index in range(pixels.shape[1]) if index not in novel]
    used, shows = (pixels[:, base] >= MIN_PIXELS).any(axis=1), (pixels[:, novel] > 0).any(axis=1)
    n_used, n_both = int(used.sum()), int((used & shows).sum())
    above = (pixels[:, base] > MIN_PIXELS).any(axis=1)
    anything = (pixels[:, base] > 0).any(axis=1)
    together = pixels[:, base].sum(axis=1) >= MIN_PIXELS
    of_any = (pixels >= MIN_PIXELS).any(axis=1)
    large = (pixels[:, novel] >= MIN_PIXELS).any(axis=1)
    every = (pixels[:, novel] > 0).all(axis=1)
    base_pairs = int((pixels[:, base] >= MIN_PIXELS).sum())
    novel_pairs = int((pixels[used][:, novel] > 0).sum())
    return {
        "the numbers are exchanged: first all training images, then those with a novel class": (n_both, n_used),
        "2,048 pixels are enough: compare with >=": (int(above.sum()), int((above & shows).sum())),
        "a speck of a base class is not enough: it needs 2,048 pixels": (
            int(anything.sum()),
            int((anything & shows).sum()),
        ),
        "one base class needs 2,048 pixels; do not add up several": (
            int(together.sum()),
            int((together & shows).sum()),
        ),
        "only base classes make a training image": (int(of_any.sum()), int((of_any & shows).sum())),
        "any pixel of a novel class counts as overlap, also fewer than 2,048": (n_used, int((used & large).sum())),
        "one novel class is enough for overlap: any of them, not all": (n_used, int((used & every).sum())),
        "count images, not (image, class) pairs: an image with two base classes is one image": (base_pairs, n_both),
        "count images, not (image, class) pairs: an image with two novel classes is one image": (n_used, novel_pairs),
        "count images, not (image, class) pairs: an image with two classes is one image": (base_pairs, novel_pairs),
        "count the overlap among the training images alone": (n_used, int(shows.sum())),
        "the second number is of the images with a novel class, not of those without": (n_used, n_used - n_both),
    }


def check_poly_rate(function: Callable[[int, int, int, int, float], float]) -> str:
    """13.2: function(step, n_images, epochs, batch_size, peak) -> learning rate of that step."""
    for n_images, epochs, batch_size, peak in ((4_760, 200, 4, 0.025), (103, 7, 8, 0.1), (30, 1, 30, 1.0)):
        steps = epochs * n_images // batch_size
        config = TrainingConfig(steps=steps, learning_rate=peak, schedule="poly", warmup_steps=0)
        for step in sorted({0, steps // 10, steps // 3, steps - 1}):
            given = require_number(ask(function, step, n_images, epochs, batch_size, peak), "my_poly_rate")
            wanted = learning_rate(step, config)
            mistakes = _wrong_rates(step, n_images, epochs, batch_size, peak)
            mistakes["peak is the rate that the head gets; there is no factor of 10 here"] = 10 * wanted
            mistakes["peak is the rate that the head gets; do not divide it by 10"] = wanted / 10
            otherwise = f"step {step} of {steps}: the rate should be {wanted:.9g}, yours is {given:.9g}"
            compare(given, wanted, mistakes, otherwise, rtol=1e-6, atol=1e-9 * peak)  # float32 will do
    return right("13.2", "the rates of three schedules agree with the package")


def _wrong_rates(step: int, n_images: int, epochs: int, batch_size: int, peak: float) -> dict[str, float]:
    """Typical wrong answers by what to say to each."""
    exact = epochs * n_images / batch_size  # steps, not rounded
    steps, rounded_early = int(exact), epochs * (n_images // batch_size)
    share, one_epoch = step / steps, step * epochs / steps
    return {
        "the power is missing: the share that is left is raised to 0.9": peak * (1 - share),
        "the rate falls: take the share that is left, 1 - step / steps": peak * share**0.9,
        "count steps from 0: the first one has the whole rate": peak * (1 - (step + 1) / steps) ** 0.9,
        "an epoch has n_images / batch_size steps, not n_images": peak * (1 - share / batch_size) ** 0.9,
        "the schedule runs over all epochs, not over one": peak * max(0.0, 1 - one_epoch) ** 0.9,
        "the power is 0.9, not 1 / 0.9": peak * (1 - share) ** (1 / 0.9),
        "the number of steps is rounded down: use //": peak * (1 - step / exact) ** 0.9,
        "round down once, after the multiplication by the epochs, and not in each epoch": (
            peak * max(0.0, 1 - step / rounded_early) ** 0.9
        ),
    }


def check_share(function: Callable[[int, int, int, int, int, int], Sequence[int]]) -> str:
    """13.3: function(step, rank, part, batch_size, n_processes, n_parts) -> numbers of its episodes in the list."""
    for division in ((8, 2, 2), (12, 3, 2), (6, 1, 3), (4, 4, 1)):
        batch_size, n_processes, n_parts = division
        for step in (0, 5):
            everything: list[int] = []
            for rank, part in np.ndindex(n_processes, n_parts):
                given = _numbers(ask(function, step, rank, part, *division))
                what = f"step {step}, process {rank} of {n_processes}, part {part} of {n_parts}, batch {batch_size}"
                _judge_share(given, (step, rank, part), division, what)
                everything += given
            require(everything == list(range(step * batch_size, (step + 1) * batch_size)), "episodes are left out")
    return right("13.3", "every episode of 8 steps is taken once, in the package's order")


def _numbers(given: Any) -> list[int]:
    require(given is not None, "my_share returns nothing; end it with a return")
    try:
        return [int(number) for number in given]
    except (TypeError, ValueError):
        raise Wrong("return a list of episode numbers") from None


def _judge_share(given: list[int], place: tuple[int, int, int], division: tuple[int, int, int], what: str) -> None:
    (step, rank, part), (batch_size, n_processes, n_parts) = place, division
    size = batch_size // (n_processes * n_parts)
    require(
        len(given) == size, f"{what}: a part has batch_size / (processes x parts) = {size} episodes, not {len(given)}"
    )
    start, slot, own = step * batch_size, rank * n_parts + part, batch_size // n_processes

    def run(first: int) -> list[int]:
        return list(range(first, first + size))

    wanted = run(start + slot * size)
    mistakes = {
        "each step takes the next batch_size episodes of the list: begin at step x batch_size": run(slot * size),
        "a process takes neighbours: all parts of process 0 come before those of process 1": (
            run(start + (part * n_processes + rank) * size)
        ),
        "the parts of a process are different episodes": run(start + rank * n_parts * size),
        "the processes take different episodes": run(start + part * size),
    }
    spreads = (
        list(range(start + slot, start + batch_size, n_processes * n_parts)),
        list(range(start + rank, start + batch_size, n_processes))[part * size : (part + 1) * size],  # round robin
        list(range(start + rank * own + part, start + (rank + 1) * own, n_parts)),
    )
    otherwise = f"{what}: the episodes should be {wanted}, yours are {given}"
    if given in spreads:
        otherwise = "a part is a run of neighbours, not every second or third episode"
    compare(given, wanted, mistakes, otherwise, atol=0, rtol=0)
