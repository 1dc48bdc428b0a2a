"""Checks of notebook 04: the interaction of the prototypes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpnet_lite.course.exercises import ask, compare, require_pair, require_tensor, right
from dpnet_lite.model.prototype_interaction import PrototypeInteraction


@torch.no_grad()
def reinforced(P: Tensor, P_q: Tensor, g1: float, g2: float) -> tuple[Tensor, Tensor]:
    """What the package makes of both prototypes [C] before they are weighed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = PrototypeInteraction(len(P), mode="joint")
    module.g1.fill_(g1)  # at their start these would do nothing
    module.g2.fill_(g2)
    found = module(P[None], P_q[None], torch.zeros(1, len(P), 1, 1))
    return found.prototype[0] / found.weights[0], found.pseudo_prototype[0] / found.weights[0]


def check_reinforced(function: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]) -> str:
    """4.2: function(P [C], P_q [C], g1, g2) -> (P+ [C], P_q+ [C])."""
    generator = torch.Generator().manual_seed(0)
    for channels in (5, 16):
        P, P_q = 2 * torch.rand(channels, generator=generator), 2 * torch.rand(channels, generator=generator)
        pair = require_pair(ask(function, P, P_q, 0.7, -0.4), "(P+, P_q+)")
        first, second = (require_tensor(part, (channels,), "my_reinforced") for part in pair)
        wanted = reinforced(P, P_q, 0.7, -0.4)
        product = torch.outer(P, P_q)
        A = product / channels**0.5
        mistakes = {
            "divide the correlation by the square root of C": P + 0.7 * product.softmax(dim=1) @ P_q,
            "the softmax of P+ runs along a row, over P_q's channels": P + 0.7 * A.softmax(dim=0) @ P_q,
        } | _wrong(P, P_q, A, 0.7, -0.4)
        compare(first, wanted[0], mistakes, "P+ differs from P + g1 softmax_row(A) P_q")
        mistakes = {
            "each row of the table for P_q+ must add up to 1: transpose, then softmax with dim=1": P_q
            - 0.4 * A.softmax(dim=1).T @ P,
            "for P_q+ the rows belong to the channels of P_q: transpose A": P_q - 0.4 * A.softmax(dim=1) @ P,
            "P_q+ takes from P as it was before, not from P+": P_q - 0.4 * A.T.softmax(dim=1) @ first,
        } | _wrong(P_q, P, A.T, -0.4, 0.7)
        compare(second, wanted[1], mistakes, "P_q+ differs from P_q + g2 softmax_row(A^T) P")
    return right("4.2", "both prototypes agree with the package")


def _wrong(own: Tensor, other: Tensor, A: Tensor, g: float, wrong_g: float) -> dict[str, Tensor]:
    """Typical wrong answers of either direction, by what to say to each."""
    taken = A.softmax(dim=1) @ other
    return {
        "the softmax is missing: the weights of a row must add up to 1": own + g * A @ other,
        "yours are exchanged: g1 belongs to P+ and g2 to P_q+": own + wrong_g * taken,
        "the prototype is missing: add what it takes to it": g * taken,
        "a prototype takes from the other one, not from itself": own + g * A.softmax(dim=1) @ own,
        "a prototype takes from the other one, and with the softmax of A": own + g * A @ own,
        "a row belongs to a channel of the prototype that takes: transpose A": own + g * A.T.softmax(dim=1) @ other,
        "divide the correlation by the root of C, not by C": own + g * (A / len(own) ** 0.5).softmax(dim=1) @ other,
        "the softmax runs along a row, not over the table": own + g * A.flatten().softmax(0).view_as(A) @ other,
    }
