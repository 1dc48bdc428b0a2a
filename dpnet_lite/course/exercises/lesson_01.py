"""Checks of notebook 01: folds and episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from dpnet_lite.course.exercises import ask, require, require_number, require_pair, right
from dpnet_lite.datasets.folds import base_classes, novel_classes

# Typical wrong answers for one fold, given (n_classes, fold, n_folds), by what to say to each.
_WRONG_FOLDS: dict[str, Callable[[int, int, int], Iterable[int]]] = {
    "these are the base classes, to train on; return the others": base_classes,
    "these are blocks, as in PASCAL-5i": lambda n, fold, m: novel_classes(n, fold, m, "blocked"),
    "fold 0 begins with class 0: classes count from 0, not from 1": lambda n, fold, m: range(fold + 1, n + 1, m),
    "fold 0 begins with class 0; these begin one later": lambda n, fold, m: range(fold + 1, n, m),
    "the last class is missing: range leaves its end out by itself": lambda n, fold, m: range(fold, n - 1, m),
    "class % n_folds is the fold, not class // n_folds": lambda n, fold, m: range(fold * m, min(fold * m + m, n)),
}


def _name_mistake(answers: Sequence[Sequence[float]], n_classes: int) -> None:
    """Raise `Wrong` with a sentence where the answers for all folds are a typical wrong one."""
    for reason, wrong in _WRONG_FOLDS.items():
        typical = [list(wrong(n_classes, fold, len(answers))) for fold in range(len(answers))]
        require(list(map(sorted, answers)) != typical, f"{reason} ({n_classes} classes in {len(answers)} folds)")


def check_folds(function: Callable[[int, int, int], Sequence[int]]) -> str:
    """1.1: function(n_classes, fold, n_folds) -> the novel classes of an interleaved fold, as in COCO-20i."""
    for n_classes, n_folds in ((80, 4), (8, 4), (10, 3), (7, 2)):
        given = [ask(function, n_classes, fold, n_folds) for fold in range(n_folds)]
        require(all(isinstance(answer, Iterable) for answer in given), "return a list of class numbers")
        answers = [[require_number(index, "my_novel_classes") for index in answer] for answer in given]
        together = sorted(index for answer in answers for index in answer)
        case = f"with {n_classes} classes in {n_folds} folds"
        _name_mistake(answers, n_classes)
        for n, m in ((80, n_folds), (n_classes, 4)):  # written into the function
            fixed = (n, m) != (n_classes, n_folds) and answers == [list(range(fold, n, m)) for fold in range(n_folds)]
            require(not fixed, "use n_classes and n_folds, not 80 and 4")
        require(len(set(together)) == len(together), f"{case}, a class is novel in more than one fold")
        require(together == list(range(n_classes)), f"{case}, the folds together do not hold every class from 0 once")
        for fold, answer in enumerate(answers):
            wanted = list(novel_classes(n_classes, fold, n_folds))
            require(sorted(answer) == wanted, f"{case}, fold {fold} should hold {wanted[:4]} ..., not {answer[:4]}")
    return right("1.1", "every class is novel in exactly one fold")


def check_episode(function: Callable[[np.ndarray, int, np.random.Generator], tuple[int, Sequence[int]]]) -> str:
    """1.2: function(holders, n_shot, generator) -> (query, support) drawn from image numbers, each as likely."""
    generator = np.random.default_rng(0)
    queries: Counter[int] = Counter()
    supports: Counter[int] = Counter()
    expected: Counter[int] = Counter()  # how often each should be in the support, given query and shots
    for trial in range(400):
        holders = (
            np.sort(generator.choice(100, size=6, replace=False)) if trial % 2 else np.array([3, 8, 9, 20, 41, 77])
        )
        n_shot = int(generator.integers(1, 6))
        first, second = require_pair(ask(function, holders, n_shot, generator), "(query, support)")
        in_order = isinstance(second, Iterable) and not isinstance(first, list | tuple)
        require(in_order, "the query comes first, one number; then the support, a list")
        query = int(require_number(first, "the query"))
        support = [int(require_number(image, "the support")) for image in second]
        place = " (a place in it? return the number that stands there)" if {query, *support} & set(range(6)) else ""
        require(query in holders, f"query {query} does not show the class; draw it from holders{place}")
        require(set(support) <= set(holders.tolist()), f"support {support} is not all from holders{place}")
        require(len(support) == n_shot, f"{n_shot}-shot needs {n_shot} support images, there are {len(support)}")
        require(query not in support, f"query {query} is in its own support: the network would be shown the answer")
        require(len(set(support)) == n_shot, f"support {support} repeats an image although there are enough others")
        if trial % 2 == 0:
            queries[query] += 1
            supports.update(support)
            expected.update({image: n_shot / 5 for image in holders.tolist() if image != query})
    first, second = (ask(function, np.arange(90), 5, np.random.default_rng(1)) for _ in range(2))
    require(str(first) == str(second), "draw with the generator you are given, not with one of your own")
    counts = [queries[image] for image in (3, 8, 9, 20, 41, 77)]
    # 200 draws among six: fewer than 12 of one has a chance of less than 1 in 100,000.
    require(
        min(counts) >= 12,
        f"in 200 draws the six images became the query {counts} times; all should be as likely. A query at a fixed "
        "place, or from a generator with a seed of its own, is always the same: draw with the generator you are given",
    )
    # The standard deviation of each is below 7 in 200 draws: 36 too few have a chance of less than 1 in 1,000,000.
    seldom = [image for image in sorted(expected) if supports[image] < expected[image] - 36]
    require(not seldom, f"images {seldom} are hardly ever in the support: draw it, as you draw the query")
    return right("1.2", "the support never holds the query and never repeats an image")
