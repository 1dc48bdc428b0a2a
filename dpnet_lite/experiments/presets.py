"""Settings that go together: the toy world's and those for a few hundred photographs. Nothing here loads PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

from dpnet_lite.config import ModelConfig, TrainingConfig

N_FOLDS = 4
MIN_PER_CLASS = 5  # episodes; with fewer, resampling them shows much less than their real spread (our choice)


@dataclass(frozen=True)
class Preset:
    model: ModelConfig
    training: TrainingConfig
    backbone: str
    size: int  # side in pixels of the square that the network sees


TOY = Preset(ModelConfig(), TrainingConfig(flip=False), "tiny", 96)
# Photographs are few: what the head may learn is kept to the comparison itself. With the drawn world's temperatures a
# selection on photographs would be a few cells (both measured: docs/results.md).
PHOTOGRAPHS = Preset(
    ModelConfig(
        dropout=0.5,
        comparison="similarity",
        score_shortcut=True,
        selection_features="backbone",
        selection_temperature=0.1,
        consensus_temperature=0.1,
    ),
    TrainingConfig(steps=100, learning_rate=1e-3, overlap_weight=20.0, foreground_weight=2.0, checkpoint_every=25),
    "mobilenet_v2",  # its weights come with the package; those of vgg16 do not
    320,
)
