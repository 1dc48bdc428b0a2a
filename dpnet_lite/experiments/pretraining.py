"""Pretraining of the tiny backbone on the auxiliary toy classes: dense classification, our stand-in for ImageNet.

None of the auxiliary outlines and textures occurs in the 80 few-shot classes, so no novel class can leak into the
backbone through it. Reproduced by `dpnet-lite pretrain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.backbones.tiny_resnet import TinyResNet
from dpnet_lite.checkpoints import save_checkpoint, versions
from dpnet_lite.config import Precision, Settings, setting
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.datasets.transforms import normalise
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.features import Progress

HELD_OUT_SCENES = 400


@dataclass(frozen=True)
class PretrainingConfig(Settings):
    """How the tiny backbone is made."""

    n_scenes: int = setting(10_000, low=1, high=10_000_000)
    steps: int = setting(3_000, low=1, high=10_000_000)
    batch_size: int = setting(32, low=1, high=10_000_000)
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    gap: float = 0.5
    seed: int = setting(0, low=0, high=2**63 - 1)
    precision: Precision = "bf16-mixed"  # twice as fast on CPUs with AVX512-BF16


def _scenes(world: ToyWorld) -> tuple[Tensor, Tensor]:
    samples = [world[i] for i in range(len(world))]
    return torch.stack([s.image for s in samples]), torch.stack([s.labels for s in samples])


def _at_feature_size(labels: Tensor) -> Tensor:
    """uint8 [B, S, S] -> int64 [B, S/4, S/4], the label in the middle of each cell."""
    return labels[:, 2::4, 2::4].long()


def pretrain(
    path: Path, config: PretrainingConfig, *, device: str = "cpu", progress: Progress = iter
) -> dict[str, Any]:
    """Train a TinyResNet on auxiliary scenes, write it to `path` (safetensors and sidecar), return the metadata.

    The metadata hold the config, the versions and `score`: mean IoU over the 80 auxiliary classes, in [0, 1], on
    scenes of another seed.
    """
    fabric = make_fabric(device, config.precision)
    world = ToyWorld(config.n_scenes, seed=1_000 + config.seed, gap=config.gap, catalogue="auxiliary")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = TinyResNet(n_classes=len(world.class_names) + 1)
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    network, optimiser = fabric.setup(network, optimiser)
    images, labels = _scenes(world)
    rng = np.random.default_rng(config.seed)
    for _ in progress(range(config.steps)):
        rows = torch.from_numpy(rng.integers(len(images), size=config.batch_size))
        batch, target = images[rows], labels[rows]
        if rng.uniform() < 0.5:
            batch, target = batch.flip(-1), target.flip(-1)
        batch = normalise(fabric.to_device(batch)).contiguous(memory_format=torch.channels_last)
        loss = functional.cross_entropy(network(batch), fabric.to_device(_at_feature_size(target)))
        optimiser.zero_grad()
        fabric.backward(loss)
        optimiser.step()
        schedule.step()
    plain = network.module.cpu().eval()
    held_out = ToyWorld(HELD_OUT_SCENES, seed=2_000 + config.seed, gap=config.gap, catalogue="auxiliary")
    metadata = {
        "what": "tiny backbone",
        "pretraining": config.to_dict(),
        "score": _mean_iou(plain, held_out),
        "versions": versions(),
    }
    save_checkpoint(path, {key: value.contiguous() for key, value in plain.state_dict().items()}, metadata)
    return metadata


@torch.no_grad()
def _mean_iou(network: TinyResNet, world: ToyWorld) -> float:
    """Mean IoU over the auxiliary classes at feature size."""
    images, labels = _scenes(world)
    n = len(world.class_names) + 1
    confusion = np.zeros((n, n), dtype=np.int64)
    for start in range(0, len(images), 50):
        predicted = network(normalise(images[start : start + 50])).argmax(dim=1)
        truth = _at_feature_size(labels[start : start + 50])
        confusion += np.bincount((truth * n + predicted).numpy().ravel(), minlength=n * n).reshape(n, n)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    return float((np.diag(confusion)[1:] / np.maximum(union[1:], 1)).mean())
