"""DPNet with its default settings in plain PyTorch: lesson 5b builds it piece by piece, lesson 6 trains it.

Only the batch and the pair of outputs are the package's. Shapes: B episodes, K shots, C channels, N = h * w cells.
"""

from typing import Self

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from dpnet_lite.model.episode_batch import EpisodeBatch, Output


def masked_average(features: Tensor, weights: Tensor) -> Tensor:
    """Mean feature under a mask or weights: [..., C, h, w] and [..., h, w] -> [..., C]."""
    total = weights.sum(dim=(-2, -1)).unsqueeze(-1)  # [..., 1]
    return (features * weights.unsqueeze(-3)).sum(dim=(-2, -1)) / (total + 1e-6)


def cosine(features: Tensor, vector: Tensor) -> Tensor:
    """Cosine of every cell with one vector: [B, C, h, w] and [B, C] -> [B, h, w]."""
    lengths = [x.square().sum(dim=1).clamp(min=1e-16).sqrt() for x in (features, vector)]  # [B, h, w] and [B]
    return torch.einsum("bchw,bc->bhw", features, vector) / (lengths[0] * lengths[1][:, None, None])


def closed_cycles(support: Tensor, mask: Tensor, query: Tensor) -> Tensor:
    """Query cells on a cycle that starts and ends in the mask: [B, C, h, w], [B, h, w], [B, C, h, w] -> bool [B, N]."""
    shares = mask.flatten(1)  # [B, N]
    inside = (shares >= shares.amax(dim=1, keepdim=True).clamp(max=0.5)) & (shares > 0)
    s, q = (functional.normalize(x.flatten(2).double(), dim=1) for x in (support, query))  # [B, C, N] each
    S = (2**24 * s.transpose(1, 2) @ q).round()  # [B, N, N], a row per support cell; rounded: equal cells tie
    there, back = S.argmax(dim=2), S.argmax(dim=1)  # i(j) of every support cell j, r(i) of every query cell i
    closed = inside & inside.gather(1, back.gather(1, there))
    return torch.zeros_like(back).scatter_add(1, there, closed.long()) > 0


def pooling_weights(similarity: Tensor, kept: Tensor) -> Tensor:
    """Weigh the kept cells by their similarity to P, the best with 1: [B, N] and bool [B, N] -> [B, N]."""
    among = similarity.masked_fill(~kept, -1)
    weights = kept * ((among - among.amax(dim=1, keepdim=True)) / 0.02).exp()
    nearest = similarity >= similarity.topk(12, dim=1).values[:, -1:]  # where no cycle closes
    return torch.where(kept.any(dim=1, keepdim=True), weights, nearest.float())


def consensus(query: Tensor, weights: Tensor, rounds: int = 2) -> Tensor:
    """Take the mean and weigh all cells anew by their cosine with it: [B, C, h, w] and [B, N] -> [B, N]."""
    for _ in range(rounds):
        match = cosine(query, masked_average(query, weights.unflatten(1, query.shape[2:]))).flatten(1)
        weights = ((match - match.amax(dim=1, keepdim=True)) / 0.04).exp()
    return weights


@torch.no_grad()
def cycle_comparison(support: Tensor, mask: Tensor, query: Tensor, P: Tensor) -> Tensor:
    """CCM of one shot: the share of every query cell in P_q, 1 in all; shapes as above, P [B, C] -> [B, h, w]."""
    kept = closed_cycles(support, mask, query)
    weights = consensus(query, pooling_weights(cosine(query, P).flatten(1), kept))
    return (weights / weights.sum(dim=1, keepdim=True)).unflatten(1, query.shape[2:])


class Interaction(nn.Module):
    """PIM: P and P_q, [B, C] each -> the channels' weights u, P' and P_q', [B, C] each."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.g1, self.g2 = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.gate = nn.Sequential(nn.Linear(3 * C, C), nn.ReLU(), nn.Linear(C, C), nn.Sigmoid())

    def forward(self, P: Tensor, P_q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        A = P[:, :, None] * P_q[:, None, :] / P.shape[1] ** 0.5  # [B, C, C]
        P_plus = P + self.g1 * (A.softmax(dim=2) @ P_q[:, :, None])[:, :, 0]
        P_q_plus = P_q + self.g2 * (A.transpose(1, 2).softmax(dim=2) @ P[:, :, None])[:, :, 0]
        u = 2 * self.gate(torch.cat([P_plus, P_q_plus, P_plus * P_q_plus], dim=1))
        return u, u * P_plus, u * P_q_plus


def comparison_maps(query: Tensor, P: Tensor, P_q: Tensor, background: Tensor) -> Tensor:
    """Four maps of one set of features: [B, C, h, w] and three [B, C] -> [B, 4, h, w]."""
    p, p_q, rest = (10 * cosine(query, vector) for vector in (P, P_q, background))  # [B, h, w] each
    centred = [x - x.mean(dim=(1, 2), keepdim=True) for x in (p, p_q)]
    return torch.stack([*centred, p - rest, p_q - rest], dim=1)


def two_convolutions(C: int) -> nn.Sequential:
    """What is added to features to mix neighbours, [B, C, h, w] -> the same."""
    return nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, padding=1), nn.ReLU(), nn.Conv2d(C, C, 3, padding=1))


class Fusion(nn.Module):
    """MSF: F_q' [B, C, h, w], P' and P_q' [B, C], maps [B, 12, h, w] -> F_q^final [B, C, h, w]."""

    def __init__(self, C: int) -> None:
        super().__init__()
        self.pixel, self.vectors, self.maps = nn.Conv2d(C, C, 1), nn.Linear(2 * C, C), nn.Conv2d(12, C, 1)
        self.mix = two_convolutions(C)
        self.dilated = nn.ModuleList(nn.Conv2d(C, C, 3, padding=d, dilation=d) for d in (1, 3, 6))
        self.globally, self.join, self.merge = nn.Conv2d(C, C, 1), nn.Conv2d(4 * C, C, 1), nn.Conv2d(C, C, 1)

    def forward(self, query: Tensor, P: Tensor, P_q: Tensor, maps: Tensor) -> Tensor:
        U = self.pixel(query) + self.vectors(torch.cat([P, P_q], dim=1))[:, :, None, None] + self.maps(maps)
        X = U + self.mix(U)
        Z = [look(X) for look in self.dilated]
        Z.append(self.globally(X.mean(dim=(2, 3), keepdim=True)).expand_as(X))
        return self.merge(X + self.join(torch.relu(torch.cat(Z, dim=1))))


class Layers(nn.Module):
    """All that learns, on features of D channels, of which the last `deep` are those of the deep stage."""

    def __init__(self, D: int, deep: int, C: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        self.deep, self.dropout = deep, dropout
        self.reduce = nn.Sequential(nn.Conv2d(D, C, 1), nn.ReLU())
        self.interaction, self.fusion, self.mix = Interaction(C), Fusion(C), two_convolutions(C)
        self.decide = nn.Sequential(nn.ReLU(), nn.Conv2d(C, C, 3, padding=1), nn.ReLU(), nn.Conv2d(C, 2, 1))
        self.auxiliary = nn.ParameterList([torch.tensor(10.0), torch.tensor(0.5)])  # steepness, threshold

    def features(self, support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """F_s [B, K, C, h, w] and F_q [B, C, h, w]; training drops the same channels in all images of an episode."""
        both = torch.cat([support, query[:, None]], dim=1)  # [B, K + 1, D, h, w]
        reduced = self.reduce(both.flatten(0, 1)).unflatten(0, both.shape[:2])
        if self.training:
            kept = torch.full((len(both), 1, reduced.shape[2], 1, 1), 1 - self.dropout).bernoulli()
            reduced = reduced * kept / (1 - self.dropout)
        return reduced[:, :-1], reduced[:, -1]

    def load(self, head: nn.Module) -> Self:
        """Take the weights of the package's DPNet: the same in the same order, under other names."""
        self.load_state_dict(dict(zip(self.state_dict(), head.state_dict().values(), strict=True)))
        return self


class PlainDPNet(Layers):
    """What is done with the layers: from a batch of episodes to logits."""

    def forward(self, batch: EpisodeBatch, size: tuple[int, int]) -> Output:
        """Logits [B, 2, *size] and, in training, the auxiliary branch's [B, 2, h, w]."""
        support, masks, rest, query, _ = batch  # [B, K, D, h, w], [B, K, h, w] twice, [B, D, h, w]
        F_s, F_q = self.features(support, query)
        P = masked_average(F_s, masks).mean(dim=1)  # [B, K, C] -> [B, C]
        shots = zip(F_s.unbind(dim=1), masks.unbind(dim=1), strict=True)
        share = torch.stack([cycle_comparison(shot, mask, F_q, P) for shot, mask in shots]).mean(dim=0)  # [B, h, w]
        u, P_new, P_q_new = self.interaction(P, masked_average(F_q, share))
        F_q_new = u[:, :, None, None] * F_q
        maps = [comparison_maps(F_q_new, P_new, P_q_new, u * masked_average(F_s, rest).mean(dim=1))]
        for stage in (slice(None, -self.deep), slice(-self.deep, None)):  # the frozen features: middle, deep
            s, q = support[:, :, stage], query[:, stage]
            p, background = (masked_average(s, part).mean(dim=1) for part in (masks, rest))
            maps.append(comparison_maps(q, p, masked_average(q, share), background))
        fused = self.fusion(F_q_new, P_new, P_q_new, torch.cat(maps, dim=1))
        logits = self.decide(fused + self.mix(fused))  # [B, 2, h, w]
        logits = functional.interpolate(logits, size, mode="bilinear", align_corners=False)
        score = self.auxiliary[0] * (cosine(F_q_new, P_new) - self.auxiliary[1])  # [B, h, w]
        return Output(logits, torch.stack([-score, score], dim=1) if self.training else None)
