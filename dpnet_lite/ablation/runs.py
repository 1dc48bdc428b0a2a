"""One run of a study: a variant on one fold with one seed, and the conditions it is scored under.

A run is plain data and travels to any process or machine. Its rows are named by a key over everything that they
depend on, not by the study, so that two studies share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from dpnet_lite.ablation.banks import config_backbone, folder_fingerprint, toy_worlds
from dpnet_lite.ablation.studies import Condition, Study, Variant
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.experiments.experiment import TOY_TEST_SCENES, TOY_TRAINING_SCENES, Experiment

TOY_SCENES = (TOY_TRAINING_SCENES, TOY_TEST_SCENES)


@dataclass(frozen=True)
class Run:
    """A variant on a fold with a seed, and the conditions it is scored under."""

    config: Experiment  # data, backbone, place of the caches; its model and training are what variants change
    variant: Variant
    conditions: tuple[Condition, ...]
    fold: int
    seed: int
    n_episodes: int
    scenes: tuple[int, int] = TOY_SCENES
    threads: int = 1  # of PyTorch: with another number sums may differ in their last digits, and so may weights

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; give at least 1")

    @property
    def model(self) -> ModelConfig:
        return ModelConfig.from_dict({**self.config.model.to_dict(), **self.variant.model})

    @property
    def training(self) -> TrainingConfig:
        changed = {**self.config.training.to_dict(), **self.variant.training, "seed": self.seed}
        return TrainingConfig.from_dict(changed)

    def test_gap(self, condition: Condition) -> float:
        return self.config.gap if condition.gap is None else condition.gap

    def training_identity(self) -> dict[str, Any]:
        """What the trained weights depend on, apart from the code, as plain JSON."""
        backbone = config_backbone(self.config)
        kind = self.config.device.partition(":")[0]
        facts: dict[str, Any] = {
            "backbone": backbone.cache_key,
            "fold": self.fold,
            "device": kind,
            "threads": self.threads,
        }
        if self.config.data == "toy":
            facts["data"] = toy_worlds(self.config, self.fold, self.config.gap, self.scenes)[0].fingerprint
        else:
            config = self.config
            facts |= {
                "data": folder_fingerprint(config),
                "size": config.size,
                "n_folds": config.n_folds,
                "layout": config.layout,
                "policy": config.policy,
            }
        if self.variant.method != "trained":
            return facts | {"method": self.variant.method}
        return facts | {
            "method": "trained",
            "model": self.model.to_dict(),
            "training": self.training.to_dict(),
            "start": self.config.model.to_dict(),
        }

    def identity(self, condition: Condition) -> dict[str, Any]:
        """What a row depends on, apart from the code."""
        facts = self.training_identity()
        if self.config.data == "toy":
            facts["test"] = toy_worlds(self.config, self.fold, self.test_gap(condition), self.scenes)[1].fingerprint
        tested = {"n_shot": condition.n_shot, "mask": condition.mask, "pixels": condition.pixels}
        return facts | tested | {"n_episodes": self.n_episodes, "original_size": self.config.original_size}

    def keys(self) -> list[str]:
        """The key of each condition's row."""
        return [digest(self.identity(condition)) for condition in self.conditions]


def digest(facts: Any) -> str:
    """24 hex digits of plain JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def plan(study: Study, config: Experiment, scenes: tuple[int, int] = TOY_SCENES, threads: int = 1) -> list[Run]:
    """All runs of a study, those of the first seed first, so that a study that is stopped has whole pairs.

    Raises:
        ValueError: a condition sets the gap of the toy world, but the data is another.
    """
    for condition in study.conditions:
        if config.data != "toy" and condition.gap is not None:
            raise ValueError(
                f"condition {condition.name!r} of study {study.name!r} sets the gap, a dial of the toy "
                "world; run this study with --data toy"
            )
    return [
        Run(config, variant, study.conditions, fold, seed, study.n_episodes, scenes, threads)
        for seed in study.seeds
        for fold in study.folds
        for variant in study.variants
    ]
