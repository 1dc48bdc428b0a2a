"""Checks of notebook 03: the cycle and the pseudo-prototype."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpnet_lite.course.exercises import (
    ask,
    close,
    compare,
    compare_cases,
    require,
    require_number,
    require_pair,
    require_tensor,
    right,
)
from dpnet_lite.course.opened_episode import selection_quality
from dpnet_lite.model.cycle_comparison import support_first
from dpnet_lite.model.matching import CycleMatches


def check_cycle(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """3.1: function(S [N_s, N_q], mask bool [N_s]) -> reliable set, bool [N_q], of cycles that start and end inside."""
    generator = torch.Generator().manual_seed(0)
    cases = []  # what is given, what is wanted, and typical mistakes
    for number in range(50):
        n_support, n_query = int(torch.randint(2, 12, (), generator=generator)), 7
        similarity = torch.rand(n_support, n_query, generator=generator)
        mask = torch.rand(n_support, generator=generator) < (0.0 if number == 0 else 0.5)
        given = require_tensor(ask(function, similarity, mask), (n_query,), "my_reliable_set")
        require(given.dtype == torch.bool, f"my_reliable_set returns {given.dtype}; return True and False")
        forward, backward = similarity.argmax(dim=1), similarity.argmax(dim=0)
        wanted = support_first(CycleMatches(forward[None], backward[None]), mask[None])[0]
        own_start, one_way, any_start = torch.zeros(3, n_query, dtype=torch.bool)
        one_way[forward[mask]] = True
        any_start[forward[mask[backward[forward]]]] = True
        own_start[[int(forward[j]) for j in mask.nonzero().flatten() if backward[forward[j]] == j]] = True
        mistakes = {
            "you keep every match of the mask: check the way back, to all support cells, also those outside": one_way,
            "you ask that the cycle ends where it began: anywhere in the mask will do": own_start,
            "you start at every support cell: start at those inside the mask only": any_start,
            "you start at the query; a cell counts only if a support cell of the mask points to it": mask[backward],
        }
        cases.append((given, wanted, mistakes, f"{wanted.int().tolist()}, yours is {given.int().tolist()}"))
    answers, wanted_sets, typical, sets = zip(*cases, strict=True)
    compare_cases(answers, wanted_sets, typical, lambda number: f"case {number}: the set should be {sets[number]}")
    return right("3.1", "the reliable sets of 50 random cases agree with the package")


def check_quality(function: Callable[[Tensor, Tensor], tuple[float, float]]) -> str:
    """3.3: function(selected bool [N], truth bool [N]) -> (precision, recall)."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        selected, truth = torch.rand(30, generator=generator) < 0.3, torch.rand(30, generator=generator) < 0.6
        pair = require_pair(ask(function, selected, truth), "(precision, recall)")
        given = [require_number(part, "my_quality") for part in pair]
        wanted = selection_quality(selected.float(), truth.float())
        swapped = "the two are exchanged: precision asks about the selected cells"
        require(close(*wanted, atol=1e-6, rtol=0) or not close(given, wanted[::-1], atol=1e-6, rtol=0), swapped)
        hits, of_all = float((selected & truth).sum()), float((selected == truth).float().mean())
        for name, own, other in zip(("precision", "recall"), given, wanted, strict=True):
            mistakes = {
                f"{name}: that is a number of cells; divide the hits by how many there could be": hits,
                f"{name}: you divide by all cells; cells that are neither selected nor true do not count": hits / 30,
                f"{name}: that is the share of cells that are right, background and all; count hits alone": of_all,
                f"{name}: that is the IoU; divide by one of the two sets, not by their union": (
                    hits / float((selected | truth).sum())
                ),
            }
            compare(own, other, mistakes, f"{name} should be {other:.3f}, yours is {own:.3f}", atol=1e-6, rtol=0)
    return right("3.3", "precision and recall agree with the package in 20 random cases")
