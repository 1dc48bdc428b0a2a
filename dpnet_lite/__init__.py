"""DPNet Lite: few-shot semantic segmentation with a support prototype and a query pseudo-prototype."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# What most people need. It is imported at its first use, since PyTorch takes seconds.
_HOMES = {
    "DPNet": "model.dpnet",
    "FeatureBank": "features",
    "ModelConfig": "config",
    "Predictor": "predictor",
    "Trainer": "training",
    "TrainingConfig": "config",
    "compute_features": "experiments.kept_features",
    "load_trained": "checkpoints",
    "score_episodes": "scoring",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
