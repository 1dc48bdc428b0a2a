"""Checks of notebook 04: the interaction of the prototypes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpnet_lite.course.exercises import ask, close, require, require_pair, require_tensor, right
from dpnet_lite.model.prototype_interaction import PrototypeInteraction


def _module(channels: int) -> PrototypeInteraction:
    """An interaction whose learned numbers are not at their start, where they would do nothing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = PrototypeInteraction(channels, mode="joint")
    with torch.no_grad():
        module.g1.fill_(0.7)
        module.g2.fill_(-0.4)
    return module


def check_reinforced(function: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]) -> str:
    """4.1: function(P [C], P_q [C], g1, g2) -> (P+ [C], P_q+ [C]).

    Raises:
        Wrong: one of the two is not that of the formulas.
    """
    generator = torch.Generator().manual_seed(0)
    for channels in (5, 16):
        P, P_q = 2 * torch.rand(channels, generator=generator), 2 * torch.rand(channels, generator=generator)
        answer = ask(function, P.clone(), P_q.clone(), 0.7, -0.4)
        pair = require_pair(answer, "(P+, P_q+)")
        first, second = (require_tensor(part, (channels,), "reinforced") for part in pair)
        with torch.no_grad():
            found = _module(channels)(P[None], P_q[None], torch.zeros(1, channels, 1, 1))
            first_wanted, second_wanted = (x[0] / found.weights[0] for x in (found.prototype, found.pseudo_prototype))
        unscaled = P + 0.7 * torch.outer(P, P_q).softmax(dim=1) @ P_q
        columns = P + 0.7 * (torch.outer(P, P_q) / channels**0.5).softmax(dim=0) @ P_q
        require(not close(first, unscaled), "divide the correlation by the square root of C")
        require(
            not close(first, columns), "the softmax of P+ runs along a row: its weights add up to 1 over P_q's channels"
        )
        require(close(first, first_wanted), "P+ differs from P + g1 softmax_row(A) P_q")
        transposed = P_q - 0.4 * (torch.outer(P, P_q) / channels**0.5).softmax(dim=1).T @ P
        require(not close(second, transposed), "transpose A before the softmax, not after it")
        untransposed = P_q - 0.4 * (torch.outer(P, P_q) / channels**0.5).softmax(dim=1) @ P
        from_new = P_q - 0.4 * (torch.outer(P, P_q) / channels**0.5).T.softmax(dim=1) @ first
        require(not close(second, untransposed), "for P_q+ the rows belong to the channels of P_q: transpose A")
        require(not close(second, from_new), "P_q+ takes from P as it was before, not from P+")
        require(close(second, second_wanted), "P_q+ differs from P_q + g2 softmax_row(A^T) P")
    return right("4.1", "both prototypes agree with the package")


def check_weighted(function: Callable[[Tensor, Tensor], Tensor]) -> str:
    """4.2: function(F_q [C, h, w], gate [C]) -> F_q' [C, h, w].

    Raises:
        Wrong: the answer is not 2 gate * F_q, channel by channel.
    """
    generator = torch.Generator().manual_seed(1)
    F_q, gate = torch.randn(5, 4, 5, generator=generator), torch.rand(5, generator=generator)
    given = require_tensor(ask(function, F_q.clone(), gate.clone()), (5, 4, 5), "weighted")
    require(not close(given, gate[:, None, None] * F_q), "u is twice the gate")
    require(not close(given, 2 * gate * F_q), "the gate has one number per channel: give it the shape [C, 1, 1]")
    require(not close(given, F_q + gate[:, None, None] * F_q), "u takes the place of 1: do not add F_q once more")
    require(close(given, 2 * gate[:, None, None] * F_q), "the numbers differ from u * F_q with u = 2 gate")
    return right("4.2", "every channel is weighed by its own number")
