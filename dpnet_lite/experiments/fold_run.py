"""The main job on one fold: train on base classes, score on novel ones, beside two rivals.

The rivals are the training-free prototype baseline and the same network with the support prototype only: as many
parameters, the same initial weights, the same episodes, the same budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import Tensor

from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.episodes import EpisodeList, draw_episodes
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.experiments.fold_data import TEST_SEED, FoldData, Stage, TrainingData, silent
from dpnet_lite.model.base import EpisodeNetwork
from dpnet_lite.scoring import head_segmenter, score_episodes, training_free_segmenter
from dpnet_lite.training import Trainer, TrainingResult
from dpnet_lite.training_setup import area_rule

TRAINING_FREE, SUPPORT_ONLY, FULL = "training-free", "support only", "DPNet"
METHODS = (TRAINING_FREE, SUPPORT_ONLY, FULL)


@dataclass(frozen=True)
class FoldResult:
    """Scores by (method, n_shot) and what was trained on the way."""

    fold: int
    seed: int
    scores: dict[tuple[str, int], EpisodeScores]
    episodes: dict[int, EpisodeList]
    trained: dict[str, TrainingResult] = field(default_factory=dict)


def support_only(config: ModelConfig) -> ModelConfig:
    """The rival: P stands in for P_q everywhere. It has exactly as many parameters."""
    return replace(config, pseudo_prototype=False)


def train_head(
    data: TrainingData,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    folder: Path | None = None,
    resume: bool = False,
    stage: Stage = silent,
    name: str = FULL,
    fabric: Fabric | None = None,
    initial_weights: Mapping[str, Tensor] | None = None,
) -> TrainingResult:
    """Train one head; with `training.n_held_out`, choose its checkpoint on that many base classes kept aside."""
    classes, validate = data.base, None
    if training.n_held_out:
        if training.n_held_out >= len(data.base):
            raise ValueError(
                f"n_held_out is {training.n_held_out}, but fold {data.fold} has {len(data.base)} base classes; "
                "hold out fewer"
            )
        classes, held_out = data.base[: -training.n_held_out], data.base[-training.n_held_out :]
        episodes = draw_episodes(
            data.train.dataset,
            held_out,
            fold=data.fold,
            n_shot=1,
            count=200,
            seed=training.seed,
            **area_rule(training),
        )

        def validate(head: EpisodeNetwork) -> float:
            return score_episodes(head_segmenter(head), data.train, episodes).miou

    trainer = Trainer(
        model,
        training,
        data.train,
        classes,
        fold=data.fold,
        folder=folder,
        validate=validate,
        fabric=fabric,
        initial_weights=initial_weights,
    )
    return trainer.run(resume=resume, progress=stage(f"training {name}"))


def training_facts(data: TrainingData, training: TrainingConfig, result: TrainingResult) -> dict[str, Any]:
    """What a saved head says of how it was trained."""
    dataset = data.train.dataset
    return {
        "step": result.step,
        "data": dataset.name,
        "dataset": dataset.fingerprint,
        "fold": data.fold,
        "base_classes": [dataset.class_names[index] for index in data.base],
        "seed": training.seed,
        "training": training.to_dict(),
        "training_episodes": result.episodes_sha256,
    }


def run_fold(
    data: FoldData,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    shots: Sequence[int] = (1, 5),
    n_episodes: int = 500,
    methods: Sequence[str] = METHODS,
    original_size: bool = False,
    device: str = "cpu",
    stage: Stage = silent,
) -> FoldResult:
    """Train what needs training and score all methods on the same frozen episodes of novel classes."""
    segmenters = {TRAINING_FREE: training_free_segmenter(data.test.backbone.deep_channels)}
    trained: dict[str, TrainingResult] = {}
    for name, config in ((SUPPORT_ONLY, support_only(model)), (FULL, model)):
        if name in methods:
            fabric = make_fabric(device, training.precision)
            trained[name] = train_head(data, config, training, stage=stage, name=name, fabric=fabric)
            segmenters[name] = head_segmenter(trained[name].head.to(device))
    episodes = {
        n_shot: draw_episodes(
            data.test.dataset, data.novel, fold=data.fold, n_shot=n_shot, count=n_episodes, seed=TEST_SEED
        )
        for n_shot in shots
    }
    scores = {
        (name, n_shot): score_episodes(
            segmenters[name],
            data.test,
            episodes[n_shot],
            original_size=original_size,
            progress=stage(f"scoring {name}, {n_shot}-shot"),
        )
        for n_shot in shots
        for name in METHODS
        if name in methods
    }
    return FoldResult(data.fold, training.seed, scores, episodes, trained)
