"""Frozen feature extractors: a tiny ResNet for the built-in world, networks of torchvision and PFENet at stride 8.

All of them give a grid of ceil(H / stride) x ceil(W / stride), 60 x 60 for 473 px at stride 8, and join a
middle and a deep stage of the same size. The deep stage keeps its resolution because its stride becomes a
dilation: at every second row and column (MobileNetV2: every fourth) it still equals the undilated network's output, for
sides divisible by 16 (or 32) and where no layer takes means over the whole grid, as squeeze-and-excitation does.
PFENet's networks dilate one convolution more (see `deep_stem`).
"""

from __future__ import annotations

import gc
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from dpnet_lite.backbones.deep_stem import DEEP_STEM_NAMES, DeepStemResNet, backbone_keys, recognise
from dpnet_lite.backbones.devices import check_device
from dpnet_lite.backbones.fusing import fused
from dpnet_lite.backbones.replay import Replay
from dpnet_lite.backbones.tiny_resnet import TinyResNet
from dpnet_lite.config import BACKBONE_PRECISIONS, BACKBONES
from dpnet_lite.storage.files import digest_tensors, load_tensors

_FEW = 2  # images whose work is recorded on a GPU: more of them keep it busy anyway, and take much memory
# Pixels whose images are computed at once. On a CPU: little more memory than one large image needs, which is handed
# around without asking the system for it. On a GPU: with 32 images of 473 px cuDNN takes a slow float32 convolution for
# VGG-16; 18 are fast (docs/performance.md).
_AT_ONCE = {"cpu": 300_000}
_AT_ONCE_ELSEWHERE = 16 * 512**2
_SHIPPED = Path(__file__).parent.parent / "weights"
TINY_WEIGHTS, MOBILENET_WEIGHTS = _SHIPPED / "tiny_backbone.safetensors", _SHIPPED / "mobilenet_v2.safetensors"

# torchvision.models takes as long to import as PyTorch itself, and the built-in world does without: it is imported
# where a network of its is built.


def _resnet_layers(name: str) -> nn.Module:
    """ResNet up to layer3: layer2, and layer3 at stride 8; layer4 and fc are not kept."""
    from torchvision.models import get_model
    from torchvision.models.feature_extraction import create_feature_extractor

    network = get_model(name, weights=None, replace_stride_with_dilation=[False, True, True])
    return create_feature_extractor(network, {"layer2": "middle", "layer3": "deep"})


def _two_stages(features: nn.Sequential, middle: int) -> nn.Module:
    """A chain of layers that gives the output of layer `middle` and that of the last one."""
    from torchvision.models.feature_extraction import create_feature_extractor

    stages = create_feature_extractor(features, {str(middle): "middle", str(len(features) - 1): "deep"})
    return nn.Sequential(OrderedDict(features=stages))  # torchvision's name, so its keys fit


def dilate(layers: nn.Module, rate: int = 1) -> None:
    """Turn every stride 2 inside `layers` into twice the dilation of the 3x3 convolutions after it, in place.

    rate: how much finer than they were made for their input is already.
    """
    for module in layers.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.dilation, module.padding = (rate, rate), (rate, rate)
            if module.stride == (2, 2):  # its own input still has the old spacing
                module.stride, rate = (1, 1), 2 * rate
        elif isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            raise ValueError(f"a convolution of {module.kernel_size} has stride {module.stride}; only 3x3 are dilated")


def _vgg16_layers() -> nn.Module:
    """VGG-16: conv4_3 and conv5_3 after their ReLU.

    pool4 becomes a 2x2 maximum with stride 1 (zero-padded below and at the right: after a ReLU that never
    wins) and conv5_x is dilated by 2. The other pools round up: 473 px gives 60 and no border row is lost.
    """
    from torchvision.models.vgg import cfgs, make_layers

    features = make_layers(cfgs["D"], batch_norm=False)[:30]  # without pool5
    for module in features:
        if isinstance(module, nn.MaxPool2d):
            module.ceil_mode = True
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, module.bias))
    features[23] = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, stride=1))
    dilate(features[24:], rate=2)
    return _two_stages(features, middle=22)


def _mobilenet_v2_layers() -> nn.Module:
    """MobileNetV2: the 32-channel stage at stride 8, and the first block with 160 channels, dilated to stride 8."""
    from torchvision.models import mobilenet_v2

    features = mobilenet_v2(weights=None).features[:15]
    dilate(features[7:])
    return _two_stages(features, middle=6)


class Architecture(NamedTuple):
    """How to build a network, the size of what it gives, the keys of a weight file that it does not need."""

    build: Callable[[], nn.Module]
    out_channels: int  # middle and deep stage together
    deep_channels: int  # the deep stage, which comes last
    stride: int
    unused_keys: tuple[str, ...]


_RESNET = (1536, 1024, 8, ("layer4.", "fc."))
_MOBILENET_UNUSED = ("classifier.", *(f"features.{index}." for index in range(15, 19)))
ARCHITECTURES = {
    "tiny": Architecture(TinyResNet, 144, 96, 4, ("classifier.",)),
    "resnet50": Architecture(lambda: _resnet_layers("resnet50"), *_RESNET),
    "resnet101": Architecture(lambda: _resnet_layers("resnet101"), *_RESNET),
    "resnet50_v2": Architecture(lambda: DeepStemResNet("resnet50"), *_RESNET),
    "resnet101_v2": Architecture(lambda: DeepStemResNet("resnet101"), *_RESNET),
    "vgg16": Architecture(_vgg16_layers, 1024, 512, 8, ("classifier.",)),
    "mobilenet_v2": Architecture(_mobilenet_v2_layers, 192, 160, 8, _MOBILENET_UNUSED),
}
assert tuple(ARCHITECTURES) == BACKBONES


class Backbone(nn.Module):
    """A frozen feature extractor: always in eval mode, never with a gradient, channels_last.

    name, out_channels, deep_channels, stride: as in ARCHITECTURES. precision: "fp32", or "bf16" to run the
    convolutions in bfloat16 (2 to 3 times as fast on CPUs with AVX512-BF16; features off by about 1 %,
    MobileNetV2's by 4 %).
    fingerprint: SHA-256 (hex) of name and weights, taken when built. cache_key: fingerprint and precision,
    what a cache of features must be filed under.
    """

    def __init__(self, name: str, body: nn.Module, *, precision: str = "fp32") -> None:
        super().__init__()
        if precision not in BACKBONE_PRECISIONS:
            raise ValueError(f"unknown precision {precision!r}: choose one of {', '.join(BACKBONE_PRECISIONS)}")
        self.name, self.precision = name, precision
        self.out_channels, self.stride = ARCHITECTURES[name].out_channels, ARCHITECTURES[name].stride
        self.deep_channels = ARCHITECTURES[name].deep_channels
        self.fingerprint = digest_tensors({f"{name}.{key}": value for key, value in body.state_dict().items()})
        self.cache_key = f"{self.fingerprint}-{precision}{'' if precision == 'fp32' else '-folded'}"
        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        self.body = fused(body).to(self.dtype).to(memory_format=torch.channels_last).requires_grad_(False)
        self._replayed = Replay(self._features, self.body)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode whatever is asked: BatchNorm statistics must not move while a head trains."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Features of images.

        images: float32 [B, 3, H, W], RGB, normalised as the weights expect (ImageNet mean and deviation for
        torchvision's and PFENet's). Returns float32 [B, out_channels, ceil(H / stride), ceil(W / stride)],
        channels_last.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.float32:
            raise ValueError(f"images are {images.dtype} {list(images.shape)}: give normalised float32 [B, 3, H, W]")
        images = images.to(self.dtype, memory_format=torch.channels_last)
        return self._replayed(images) if len(images) <= _FEW else self._features(images)

    def _features(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        shape = (count, self.out_channels, -(-height // self.stride), -(-width // self.stride))
        features = torch.empty(shape, dtype=torch.float32, device=images.device, memory_format=torch.channels_last)
        n_images = max(1, _AT_ONCE.get(images.device.type, _AT_ONCE_ELSEWHERE) // (height * width))
        with torch.autocast(images.device.type, enabled=False):  # the caller's mixed precision must not matter
            for part, rows in zip(images.split(n_images), features.split(n_images), strict=True):
                found = self.body(part)
                stages = [found] if isinstance(found, Tensor) else [found["middle"], found["deep"]]
                for stage, place in zip(stages, rows.split([stage.shape[1] for stage in stages], dim=1), strict=True):
                    place.copy_(stage)
        return features


def build_backbone(
    name: str,
    weights: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    precision: str = "fp32",
    seed: int = 0,
) -> Backbone:
    """Build a frozen backbone.

    name: one of ARCHITECTURES. weights: None for torchvision's ImageNet weights (IMAGENET1K_V1, those of the few-shot
    literature; those of mobilenet_v2 come with the package as float16, others are downloaded by torchvision) or, for
    tiny, those of this project, which come with it too; "random" for a random
    initialisation from `seed`; or a .safetensors, .pth or .pt file with torchvision's keys in any float type, for
    resnet50_v2 and resnet101_v2 with PFENet's (these two have no default weights). The global random state is
    left as it was. Raises ValueError for an unknown name or weights that do not fit, FileNotFoundError for
    weights that are not there.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"unknown backbone {name!r}: choose one of {', '.join(ARCHITECTURES)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = ARCHITECTURES[name].build()
    if weights is None:
        load_weights(name, body, _default_weights(name), source="the default weights")
    elif str(weights) != "random":
        load_weights(name, body, load_tensors(weights), source=str(weights))
    backbone = Backbone(name, body, precision=precision)
    if name != "tiny":
        del body
        gc.collect()  # traced networks lie in circles: those of a ResNet-50 would keep 80 MB for a while
    return backbone.to(check_device(device))


def _default_weights(name: str) -> Mapping[str, Tensor]:
    """The shipped weights of a small backbone, or torchvision's ImageNet weights (downloaded once)."""
    if name == "mobilenet_v2":
        return load_tensors(MOBILENET_WEIGHTS)
    if name == "tiny":
        if not TINY_WEIGHTS.is_file():
            raise FileNotFoundError(f"no tiny backbone at {TINY_WEIGHTS}: make it with `dpnet-lite pretrain`")
        return load_tensors(TINY_WEIGHTS)
    if name in DEEP_STEM_NAMES:
        raise FileNotFoundError(
            f"{name} has no default weights: give --backbone-weights FILE, the {name}.pth that PFENet's README links to"
        )
    from torchvision.models import get_model_weights

    entry = get_model_weights(name)["IMAGENET1K_V1"]
    kept = Path(torch.hub.get_dir(), "checkpoints", entry.url.rpartition("/")[2])
    if kept.is_file():
        return _published(kept)
    try:
        tensors: Mapping[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
        return tensors
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileNotFoundError(
            f"no ImageNet weights for {name}, the download failed ({reason}): give --backbone-weights FILE"
        ) from error


def _published(file: Path) -> Mapping[str, Tensor]:
    """What PyTorch has downloaded before: its hash is looked at again, for who knows what lies there by now."""
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(file.stem.rpartition("-")[2]):
        raise ValueError(f"{file} is not what was published (its SHA-256 is {found[:8]}...): delete it to get it again")
    return load_tensors(file)


def load_weights(name: str, body: nn.Module, found: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `found` into `body`, in place; ValueError naming its architecture, or the first key, that does not fit."""
    found, wanted = backbone_keys(found), body.state_dict()
    kind = recognise(found)
    if kind is not None and kind[0] != name:
        known = kind[0] in ARCHITECTURES
        advice = f"choose --backbone {kind[0]}" if known else f"there is no such backbone here, give {name}'s weights"
        raise ValueError(f"{source} does not fit {name}: it holds {kind[1]}; {advice}")
    remedy = f"give weights with torchvision's keys for {name}, or choose another backbone"
    for key, tensor in wanted.items():
        if key not in found:
            if key.endswith("num_batches_tracked"):  # absent from old files, and of no use in eval mode
                continue
            raise ValueError(f"{source} does not fit {name}: {key} {list(tensor.shape)} is missing; {remedy}")
        if found[key].shape != tensor.shape:
            raise ValueError(
                f"{source} does not fit {name}: {key} is {list(found[key].shape)}, expected "
                f"{list(tensor.shape)}; {remedy}"
            )
    unused = ARCHITECTURES[name].unused_keys
    for key, tensor in found.items():
        if key not in wanted and not key.startswith(unused):
            raise ValueError(f"{source} does not fit {name}: {key} {list(tensor.shape)} is not expected; {remedy}")
    body.load_state_dict({key: found.get(key, tensor) for key, tensor in wanted.items()})
