"""Prototype interaction module (PIM): P and P_q reinforce each other and the query feature.

Stated by the paper: the correlation of P and P_q is used to reinforce three things, P, P_q and the query feature.
No formula is public; the ones here are our choice:

    A    = P P_q^T / sqrt(C)                     [B, C, C]
    P+   = P   + g1 softmax_row(A)   P_q
    P_q+ = P_q + g2 softmax_row(A^T) P            g1, g2 learned, 0 at the start
    gate = sigmoid(MLP[P+; P_q+; P+ * P_q+])      [B, C]
    u    = 2 gate
    P'   = u P+,  P_q' = u P_q+,  F_q' = u F_q

That is "joint": one weight a channel for all three, which so stay comparable. "correlation", the literal reading of the
abstract, has P' = P+, P_q' = P_q+, F_q' = F_q + gate * F_q. "off" leaves all three as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Interaction(NamedTuple):
    """What the interaction gives and how it came about."""

    prototype: Tensor  # P', [B, C]
    pseudo_prototype: Tensor  # P_q', [B, C]
    query: Tensor  # F_q', [B, C, h, w]
    correlation: Tensor | None = None  # A, [B, C, C]; None where PIM is off, as for gate
    gate: Tensor | None = None  # [B, C] in (0, 1)
    weights: Tensor | None = None  # u, [B, C] in (0, 2), of both prototypes and the query alike; "joint" only


def correlation_matrix(prototype: Tensor, pseudo_prototype: Tensor) -> Tensor:
    """A = P P_q^T / sqrt(C): two [B, C] -> [B, C, C]."""
    return prototype[:, :, None] * pseudo_prototype[:, None, :] / prototype.shape[1] ** 0.5


class PrototypeInteraction(nn.Module):
    """PIM in one of its modes: "joint", "correlation" or "off"."""

    def __init__(self, channels: int, *, mode: str) -> None:
        super().__init__()
        self.mode = mode
        if mode != "off":
            self.g1 = nn.Parameter(torch.zeros(()))
            self.g2 = nn.Parameter(torch.zeros(()))
            self.gate = nn.Sequential(
                nn.Linear(3 * channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.Sigmoid()
            )

    def forward(self, prototype: Tensor, pseudo_prototype: Tensor, query: Tensor) -> Interaction:
        """Reinforce P [B, C], P_q [B, C] and F_q [B, C, h, w]."""
        if self.mode == "off":
            return Interaction(prototype, pseudo_prototype, query)
        correlation = correlation_matrix(prototype, pseudo_prototype)
        from_query = (correlation.softmax(dim=2) @ pseudo_prototype[:, :, None])[:, :, 0]  # [B, C]
        from_support = (correlation.transpose(1, 2).softmax(dim=2) @ prototype[:, :, None])[:, :, 0]  # [B, C]
        first, second = prototype + self.g1 * from_query, pseudo_prototype + self.g2 * from_support
        gate = self.gate(torch.cat([first, second, first * second], dim=1))  # [B, 3 C] -> [B, C]
        if self.mode == "correlation":
            return Interaction(first, second, query + gate[..., None, None] * query, correlation, gate)
        weights = 2 * gate  # about 1 at the start
        first, second = weights * first, weights * second
        return Interaction(first, second, weights[..., None, None] * query, correlation, gate, weights)
