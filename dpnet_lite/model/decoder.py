"""Convolution blocks shared by fusion and decoder, the decoder, and the auxiliary branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpnet_lite.model.prototypes import cosine_map


class ResidualConvolutions(nn.Module):
    """x + Conv3x3(ReLU(Conv3x3(ReLU(x)))), [B, C, h, w] -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(torch.relu(x))))


class Decoder(nn.Module):
    """F_q^final to logits: residual 2 x Conv3x3, Conv3x3, Conv1x1. [B, C, h, w] -> [B, 2, h, w].

    Stated: F_q^final goes to a separate decoder. Its layers are our choice, close to PFENet's [precedent].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = ResidualConvolutions(channels)
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1)
        self.classifier = nn.Conv2d(channels, 2, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(torch.relu(self.convolution(torch.relu(self.residual(features)))))


class AuxiliaryBranch(nn.Module):
    """A light segmenter of features [B, C, h, w] by a prototype [B, C], used in training only.

    Stated: an auxiliary branch helps in training and is removed in evaluation. That P_q segments the *support*
    has precedents (CyCTR, QPENet); the layers are our choice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.threshold = nn.Parameter(torch.tensor(0.5))

    def forward(self, features: Tensor, prototype: Tensor) -> Tensor:
        score = self.scale * (cosine_map(features, prototype) - self.threshold)  # [B, h, w]
        return torch.stack([-score, score], dim=1)
