"""Prototype interaction module (PIM): P and P_q reinforce each other and the query feature.

Stated by the paper: the correlation of P and P_q is used to reinforce three things, P, P_q and the query feature.
No formula is public; the ones here are our choice:

    A    = P P_q^T / sqrt(C)                     [B, C, C]
    P+   = P   + g1 softmax_row(A)   P_q
    P_q+ = P_q + g2 softmax_row(A^T) P            g1, g2 learned, 0 at the start
    gate = sigmoid(MLP[P+; P_q+; P+ * P_q+])      [B, C]
    u    = 2 gate
    P'   = u P+,  P_q' = u P_q+,  F_q' = u F_q

That is "joint": one weight a channel for all three, which so stay comparable. "correlation", an earlier form, has
P' = P+, P_q' = P_q+, F_q' = F_q + gate * F_q.

Alternatives, ours as well: the gate alone ("gate"), cross-attention between a few part prototypes ("parts"), nothing
("off"), and "agreement", which takes the diagonal of A: a channel counts more where P and P_q agree in it.

    z    = diag(A), less its mean over the channels, over its standard deviation
    u    = 1 + tanh(s z)                          [B, C], s learned, 0 at the start
    P'   = u (P + g1 P_q),  P_q' = u (P_q + g2 P),  F_q' = u F_q
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class Interaction(NamedTuple):
    """What the interaction gives and how it came about."""

    prototype: Tensor  # P', [B, C]
    pseudo_prototype: Tensor  # P_q', [B, C]
    query: Tensor  # F_q', [B, C, h, w]
    correlation: Tensor | None  # A, [B, C, C], or [B, n_parts, n_parts] ("parts")
    gate: Tensor | None  # [B, C] in (0, 1)
    weights: Tensor | None = None  # u, [B, C] in (0, 2), of both prototypes and the query alike ("joint", "agreement")


def correlation_matrix(prototype: Tensor, pseudo_prototype: Tensor) -> Tensor:
    """A = P P_q^T / sqrt(C): two [B, C] -> [B, C, C]."""
    return prototype[:, :, None] * pseudo_prototype[:, None, :] / prototype.shape[1] ** 0.5


def agreement(prototype: Tensor, pseudo_prototype: Tensor) -> Tensor:
    """z: how far P and P_q [B, C] agree in each channel, [B, C] with mean 0 and variance 1 over the channels."""
    product = functional.normalize(prototype, dim=1) * functional.normalize(pseudo_prototype, dim=1)
    return (product - product.mean(dim=1, keepdim=True)) / (product.std(dim=1, keepdim=True) + 1e-6)


def part_prototypes(features: Tensor, weights: Tensor, n_parts: int, *, n_rounds: int = 5) -> Tensor:
    """Split weighted pixels into parts by soft spherical k-means: [B, C, h, w], [B, h, w] -> [B, n_parts, C].

    The first part starts at the weighted mean, each further one at the weighted pixel least like all before it.
    """
    pixels = features.flatten(2).transpose(1, 2)  # [B, C, h, w] -> [B, N, C]
    share = weights.flatten(1)  # [B, h, w] -> [B, N]
    directions = functional.normalize(pixels, dim=2)
    centres = (share[..., None] * pixels).sum(dim=1, keepdim=True)  # [B, 1, C]
    for _ in range(n_parts - 1):
        likeness = (directions @ functional.normalize(centres, dim=2).transpose(1, 2)).amax(dim=2)  # [B, N]
        farthest = likeness.masked_fill(share < share.amax(dim=1, keepdim=True) * 0.5, 2.0).argmin(dim=1)
        new = pixels.gather(1, farthest[:, None, None].expand(-1, 1, pixels.shape[2]))  # [B, 1, C]
        centres = torch.cat([centres, new], dim=1)
    for _ in range(n_rounds):
        cosine = directions @ functional.normalize(centres, dim=2).transpose(1, 2)  # [B, N, n_parts]
        member = (cosine / 0.1).softmax(dim=2) * share[..., None]
        centres = member.transpose(1, 2) @ pixels / (member.sum(dim=1)[..., None] + 1e-6)  # [B, n_parts, C]
    return centres


class PrototypeInteraction(nn.Module):
    """PIM in one of its modes: "joint", "correlation", "agreement", "gate", "parts" or "off"."""

    def __init__(self, channels: int, *, mode: str, n_parts: int = 4) -> None:
        super().__init__()
        self.mode, self.n_parts = mode, n_parts
        if mode == "agreement":
            self.strength = nn.Parameter(torch.zeros(()))  # s
        if mode in ("correlation", "joint", "agreement", "parts"):
            self.g1 = nn.Parameter(torch.zeros(()))
            self.g2 = nn.Parameter(torch.zeros(()))
        if mode not in ("agreement", "off"):
            self.gate = nn.Sequential(
                nn.Linear(3 * channels, channels), nn.ReLU(), nn.Linear(channels, channels), nn.Sigmoid()
            )

    def forward(
        self,
        prototype: Tensor,
        pseudo_prototype: Tensor,
        query: Tensor,
        *,
        support_parts: Tensor | None = None,
        query_parts: Tensor | None = None,
    ) -> Interaction:
        """Reinforce P [B, C], P_q [B, C] and F_q [B, C, h, w]; "parts" also takes two [B, n_parts, C]."""
        correlation = None
        if self.mode == "off":
            return Interaction(prototype, pseudo_prototype, query, None, None)
        if self.mode == "agreement":
            return self._by_agreement(prototype, pseudo_prototype, query)
        if self.mode in ("correlation", "joint"):
            prototype, pseudo_prototype, correlation = self._by_correlation(prototype, pseudo_prototype)
        elif self.mode == "parts":
            assert support_parts is not None and query_parts is not None
            scale = support_parts.shape[2] ** 0.5
            correlation = support_parts @ query_parts.transpose(1, 2) / scale  # [B, n_parts, n_parts]
            prototype = prototype + self.g1 * (correlation.softmax(dim=2) @ query_parts).mean(dim=1)
            from_support = (correlation.transpose(1, 2).softmax(dim=2) @ support_parts).mean(dim=1)  # [B, C]
            pseudo_prototype = pseudo_prototype + self.g2 * from_support
        gate = self.gate(torch.cat([prototype, pseudo_prototype, prototype * pseudo_prototype], dim=1))  # [B, C]
        if self.mode == "joint":
            weights = 2 * gate  # about 1 at the start
            first, second = weights * prototype, weights * pseudo_prototype
            return Interaction(first, second, weights[..., None, None] * query, correlation, gate, weights)
        return Interaction(prototype, pseudo_prototype, query + gate[..., None, None] * query, correlation, gate)

    def _by_correlation(self, prototype: Tensor, pseudo_prototype: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """P', P_q' and A."""
        correlation = correlation_matrix(prototype, pseudo_prototype)
        from_query = (correlation.softmax(dim=2) @ pseudo_prototype[:, :, None])[:, :, 0]  # [B, C]
        from_support = (correlation.transpose(1, 2).softmax(dim=2) @ prototype[:, :, None])[:, :, 0]  # [B, C]
        return prototype + self.g1 * from_query, pseudo_prototype + self.g2 * from_support, correlation

    def _by_agreement(self, prototype: Tensor, pseudo_prototype: Tensor, query: Tensor) -> Interaction:
        weights = 1 + torch.tanh(self.strength * agreement(prototype, pseudo_prototype))  # [B, C]
        first = weights * (prototype + self.g1 * pseudo_prototype)
        second = weights * (pseudo_prototype + self.g2 * prototype)
        correlation = correlation_matrix(prototype, pseudo_prototype)
        return Interaction(first, second, weights[..., None, None] * query, correlation, None, weights)
