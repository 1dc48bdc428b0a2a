"""The network that a configuration names."""

from __future__ import annotations

from dpnet_lite.ablation.rivals import PrototypeAlignment, SelfSupport
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.base import EpisodeNetwork
from dpnet_lite.model.head import Head

NETWORKS: dict[str, type[EpisodeNetwork]] = {"dpnet": Head, "panet": PrototypeAlignment, "ssp": SelfSupport}


def build_network(config: ModelConfig, in_channels: int, deep_channels: int) -> EpisodeNetwork:
    """An untrained network of `config.network` on features of `in_channels`, the last `deep_channels` of them deep."""
    return NETWORKS[config.network](config, in_channels, deep_channels)
