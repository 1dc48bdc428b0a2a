"""ResNets with a deep stem: the backbone of PFENet, BAM and their relatives (`resnet50_v2.pth`, `resnet101_v2.pth`).

Read in dvlab-research/PFENet (commit a505675) and chunbolang/BAM (c0f935c), which agree, and against torchvision:

- Stem: three 3x3 convolutions of 64, 64 and 128 channels, the first with stride 2, each with BatchNorm and ReLU,
  then the usual 3x3 maximum (model/resnet.py, lines 110-118). The first block of layer1 so takes 128 channels, not 64.
  All other shapes and the stride, which lies in each block's 3x3 convolution, are torchvision's.
- Dilation: layer3 keeps stride 8, and *every* 3x3 convolution in it has dilation 2, the first block's too
  (model/PFENet.py, lines 84-88). Torchvision's `replace_stride_with_dilation`, and so our resnet50, gives the first
  block dilation 1, which keeps the values of the undilated network. Here the repositories are followed, so that a head
  sees the features that theirs saw. They also dilate layer4, by 4; it is not kept here.
- Input: RGB with ImageNet's mean and deviation (util/dataset.py, line 151; train.py, lines 159-162, in units of
  0..255), so the same numbers as from `datasets.transforms.normalise`.
- They join layer3 before layer2 (model/PFENet.py, line 194), we layer2 before layer3, as in our other backbones.

Their VGG (`vgg16_bn.pth`, torchvision's keys of vgg16_bn) has BatchNorm and ends at conv4_3 at stride 16 (a 30 x 30
grid for 473 px): a different network from our vgg16. Its files are recognised and refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

DEEP_STEM_NAMES = ("resnet50_v2", "resnet101_v2")
_LAYER3_BLOCKS = {6: "50", 23: "101", 36: "152"}  # blocks of layer3 -> depth of the ResNet
# Where nn.Sequential(conv1, bn1, relu1, conv2, bn2, relu2, conv3, bn3, relu3, maxpool) holds the stem's weights.
_STEM_PLACES = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}


class DeepStemResNet(nn.Module):
    """Deep-stem ResNet up to layer3, of depth "resnet50" or "resnet101": layer2 and layer3 side by side at stride 8."""

    def __init__(self, name: str) -> None:
        from torchvision.models import get_model

        super().__init__()
        self.conv1, self.bn1 = conv(3, 64, kernel=3, stride=2), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = conv(64, 64, kernel=3), nn.BatchNorm2d(64)
        self.conv3, self.bn3 = conv(64, 128, kernel=3), nn.BatchNorm2d(128)
        self.relu = nn.ReLU(inplace=True)
        network = get_model(name, weights=None, replace_stride_with_dilation=[False, True, True])
        self.maxpool = network.maxpool
        self.layer1, self.layer2, self.layer3 = network.layer1, network.layer2, network.layer3
        self.layer1[0].conv1 = conv(128, 64, kernel=1)
        self.layer1[0].downsample[0] = conv(128, 256, kernel=1)
        self.layer3[0].conv2.dilation = self.layer3[0].conv2.padding = (2, 2)  # as the repositories, see above

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 1536, ceil(H/8), ceil(W/8)]."""
        x = self.relu(self.bn1(self.conv1(images)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.maxpool(self.relu(self.bn3(self.conv3(x))))
        middle = self.layer2(self.layer1(x))
        return torch.cat([middle, self.layer3(middle)], dim=1)


def conv(channels: int, out_channels: int, *, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that pads to ceil(size / stride), initialised as torchvision's ResNets are."""
    layer = nn.Conv2d(channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def backbone_keys(found: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The deep-stem backbone in a checkpoint of a whole network, under the keys of `resnet50_v2.pth`.

    PFENet's and BAM's checkpoints (BAM's base learners, initmodel/PSPNet/.../best.pth) name the stem "layer0.N" and
    hold heads besides. Such a backbone may have been trained on the base classes of *one* fold: use it for that fold
    alone. Any other state dict is given back as it is.
    """
    if "layer0.6.weight" not in found:  # the third convolution; VGG's layer0 has no weight there
        return found
    kept: dict[str, Tensor] = {}
    for key, tensor in found.items():
        match = re.fullmatch(r"layer(\d)\.(\d+)\.(.+)", key)
        if match is None:  # a head, or "encoder.", which repeats the layers
            continue
        layer, place, rest = match.groups()
        if layer == "0" and place in _STEM_PLACES:
            kept[f"{_STEM_PLACES[place]}.{rest}"] = tensor
        else:
            kept[f"layer{layer}.{place}.{rest}"] = tensor
    return kept


def recognise(found: Mapping[str, Tensor]) -> tuple[str, str] | None:
    """Which ResNet, or VGG with BatchNorm, a state dict holds: its name and a description; None if it holds neither."""
    keys = {key.removeprefix("module.") for key in found}
    if {"features.0.weight", "features.1.running_mean"} <= keys or {"layer0.0.weight", "layer1.0.weight"} <= keys:
        return "vgg16_bn", "a VGG with BatchNorm (as PFENet's vgg16_bn.pth)"
    blocks = {match[1] for key in keys if (match := re.match(r"layer3\.(\d+)\.conv3\.weight", key))}
    depth, stem = _LAYER3_BLOCKS.get(len(blocks)), found.get("conv1.weight")
    if depth is None or stem is None:
        return None
    if "conv3.weight" in found and stem.shape[2:] == (3, 3):
        return f"resnet{depth}_v2", f"a ResNet-{depth} with a deep stem of three 3x3 convolutions (as PFENet's)"
    if "conv3.weight" not in found and stem.shape[2:] == (7, 7):
        return f"resnet{depth}", f"a ResNet-{depth} with torchvision's stem, one 7x7 convolution"
    return None
