"""A ResNet of about 0.4 M parameters for the built-in 96 px world (ours; blocks as in ResNet-18)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut: [B, in, H, W] -> [B, out, H/stride, W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            in_channels, out_channels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, ceil(H/stride), ceil(W/stride)]."""
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class TinyResNet(nn.Module):
    """Small residual network with a dense classifier on top.

    widths: channels of the three stages, two blocks each. The stem and stage 1 work at half the image's
        size, stage 2 at a quarter; stage 3 stays at a quarter and is dilated by 2 instead.
    n_classes: outputs of the 1x1 classifier used in pretraining; None leaves it out.
    out_channels (attribute): widths[1] + widths[2].
    """

    def __init__(self, widths: tuple[int, int, int] = (24, 48, 96), *, n_classes: int | None = None) -> None:
        super().__init__()
        narrow, middle, wide = widths
        self.out_channels = middle + wide
        self.stem = nn.Sequential(
            nn.Conv2d(3, narrow, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(inplace=True),
        )
        self.stage1 = nn.Sequential(_ResidualBlock(narrow, narrow), _ResidualBlock(narrow, narrow))
        self.stage2 = nn.Sequential(_ResidualBlock(narrow, middle, stride=2), _ResidualBlock(middle, middle))
        self.stage3 = nn.Sequential(_ResidualBlock(middle, wide, dilation=2), _ResidualBlock(wide, wide, dilation=2))
        self.classifier = None if n_classes is None else nn.Conv2d(self.out_channels, n_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """Stages 2 and 3 side by side: float [B, 3, H, W] -> [B, out_channels, ceil(H/4), ceil(W/4)]."""
        middle = self.stage2(self.stage1(self.stem(images)))
        return torch.cat([middle, self.stage3(middle)], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits [B, n_classes, ceil(H/4), ceil(W/4)]; without a classifier, the features."""
        features = self.features(images)
        return features if self.classifier is None else self.classifier(features)
