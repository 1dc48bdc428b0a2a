"""Trained heads on disk: weights and everything needed to rebuild and to trust them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpnet_lite.checkpoints import load_checkpoint, save_checkpoint, versions
from dpnet_lite.config import ModelConfig
from dpnet_lite.model.backbone import ARCHITECTURES, Backbone
from dpnet_lite.model.base import EpisodeNetwork
from dpnet_lite.model.networks import build_network

SHIPPED = Path(__file__).parent / "weights"


def shipped_head(fold: int) -> Path:
    """Path of the head trained on toy fold 0 to 3 that comes with the package."""
    return SHIPPED / f"toy_fold{fold}.safetensors"


def save_head(
    path: str | Path, head: EpisodeNetwork, backbone: Backbone, *, size: int, half: bool = False, **facts: Any
) -> Path:
    """Write a head with its config, its backbone's name and fingerprint, the image size, versions and `facts`.

    `facts` is what else a reader needs: step, data set, fold, hash of the episodes, training config, scores.
    With `half` the weights are rounded to float16, which halves the file; `load_head` gives float32 again.
    """
    metadata = {
        "what": "DPNet head",
        "model": head.config.to_dict(),
        "backbone": backbone.name,
        "backbone_fingerprint": backbone.fingerprint,
        "precision": backbone.precision,
        "size": size,
        "versions": versions(),
        **facts,
    }
    tensors = {name: tensor.half() if half else tensor for name, tensor in head.state_dict().items()}
    return save_checkpoint(path, tensors, metadata)


def load_head(path: str | Path, *, device: str = "cpu") -> tuple[EpisodeNetwork, dict[str, Any]]:
    """Rebuild a head, in eval mode, from its checkpoint alone.

    Raises:
        FileNotFoundError, ValueError: missing or damaged file, or a checkpoint of something else.
    """
    tensors, metadata = load_checkpoint(path, device)
    if metadata.get("what") != "DPNet head":
        raise ValueError(f"{path} holds {metadata.get('what', 'something')!r}, not a DPNet head; give a head's file")
    architecture = ARCHITECTURES[metadata["backbone"]]
    config = ModelConfig.from_dict(metadata["model"])
    head = build_network(config, architecture.out_channels, architecture.deep_channels)
    head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return head.to(device).eval(), metadata
