"""What the tests of the core share: a small toy fold, batches of random episodes, sums over pixels done slowly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpnet_lite.backbones.backbone import ARCHITECTURES, build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.features import EpisodeSource, FeatureBank
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.training import Trainer, initial_network

FOLD, SIDE, CELLS = 2, 48, 12  # of the toy scenes in pixels, and of their features


@dataclass(frozen=True)
class ToyFold:
    """Scenes of the base classes to train on, and scenes around the novel ones."""

    train: FeatureBank
    test: FeatureBank
    base: tuple[int, ...]
    novel: tuple[int, ...]


def plain_weights(name: str, seed: int = 0) -> dict[str, Tensor]:
    """The weights of `build_backbone(name, "random", seed=seed)` as its file would hold them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name].build().state_dict()


@cache
def toy_fold() -> ToyFold:
    """A fold of small scenes on a random backbone; made once a process, so nobody may change it."""
    base, novel = base_classes(80, FOLD), novel_classes(80, FOLD)
    backbone = build_backbone("tiny", "random", seed=1)
    worlds = ToyWorld(130, seed=100, targets=base, size=SIDE), ToyWorld(30, seed=7, targets=novel, size=SIDE)
    return ToyFold(*(compute_features(world, backbone, size=SIDE) for world in worlds), base, novel)


def trainer(
    model: ModelConfig,
    config: TrainingConfig,
    source: EpisodeSource | None = None,
    classes: tuple[int, ...] | None = None,
    **settings: Any,
) -> Trainer:
    """A trainer of a new DPNet, by default on the toy fold."""
    source, classes = source or toy_fold().train, classes or toy_fold().base
    network = initial_network(model, source.backbone, config.seed)
    return Trainer(network, config, source, classes, fold=FOLD, **settings)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same(left: Mapping[str, Tensor], right: Mapping[str, Tensor], *, atol: float | None = None) -> None:
    """Tensors of the same names, dtypes and values: bit for bit, or up to `atol`."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype, name
        if atol is None:
            assert torch.equal(tensor, right[name]), name
        else:
            torch.testing.assert_close(tensor, right[name], rtol=0, atol=atol, msg=name)


def random_batch(
    n_shot: int = 1, n_batch: int = 2, *, channels: int, cells: tuple[int, int], seed: int = 0
) -> EpisodeBatch:
    """Random features and hard masks of cells; query labels four times as large."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    masks = (random(n_batch, n_shot, *cells) > 0.3).float()
    support, query = random(n_batch, n_shot, channels, *cells), random(n_batch, channels, *cells)
    labels = (random(n_batch, 4 * cells[0], 4 * cells[1]) > 0.5).long()
    return EpisodeBatch(support, masks, 1 - masks, query, labels)


def block_means(values: np.ndarray, cells: tuple[int, int]) -> np.ndarray:
    """Shares of true pixels in equal blocks, [..., H, W] -> [..., h, w]."""
    height, width = values.shape[-2:]
    blocks = values.reshape(*values.shape[:-2], cells[0], height // cells[0], cells[1], width // cells[1])
    return blocks.mean(axis=(-3, -1))


def slow_softmax(logits: np.ndarray) -> np.ndarray:
    """Over the first axis, one pixel at a time."""
    result = np.empty(logits.shape)
    for place in np.ndindex(logits.shape[1:]):
        powers = np.exp(logits[(slice(None), *place)].astype(np.float64))
        result[(slice(None), *place)] = powers / powers.sum()
    return result


def numpy64(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


class Malicious:
    """Unpickled in full, this makes a folder."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)
