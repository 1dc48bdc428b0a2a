"""What a training run starts from: network, optimiser, episodes and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor, nn

from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.episodes import DEFAULT_MIN_AREA, EpisodeList, draw_episodes
from dpnet_lite.model.backbone import Backbone
from dpnet_lite.model.base import EpisodeNetwork
from dpnet_lite.model.networks import build_network


class AreaRule(TypedDict):
    """Arguments of `draw_episodes` and `class_pools`."""

    min_area: float
    min_pixels: int


def initial_network(
    config: ModelConfig, seed: int, backbone: Backbone, given: Mapping[str, Tensor] | None = None
) -> EpisodeNetwork:
    """A new network from a seed, with those weights of `given` that have its names and shapes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(config, backbone.out_channels, backbone.deep_channels)
    own, given = network.state_dict(), given or {}
    network.load_state_dict({n: given[n] if n in given and given[n].shape == w.shape else w for n, w in own.items()})
    return network


def build_optimiser(network: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum [precedent: PFENet and its relatives]; the rate is set at every step."""
    if config.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)


def training_episodes(
    dataset: SegmentationDataset, classes: Sequence[int], config: TrainingConfig, *, fold: int
) -> EpisodeList:
    """The frozen list of a run: `steps` times `batch_size` episodes of the base classes."""
    return draw_episodes(
        dataset,
        classes,
        fold=fold,
        n_shot=config.n_shot,
        count=config.steps * config.batch_size,
        seed=config.seed,
        **area_rule(config),
    )


def area_rule(config: TrainingConfig) -> AreaRule:
    """Which images may serve a class in this training: by pixels where `min_pixels` is set, else by share."""
    return {"min_area": 0.0 if config.min_pixels else DEFAULT_MIN_AREA, "min_pixels": config.min_pixels}


def hash_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, the same in every process."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
