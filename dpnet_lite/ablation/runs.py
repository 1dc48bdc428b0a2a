"""One run of a study: a variant on one fold with one seed, and the conditions it is scored under.

A run is plain data and travels to any process or machine. Its rows are named by a key over everything that they
depend on, not by the study, so that two studies share what they have in common. Features are shared as well: computed
once per data set and backbone, then read from disk by everyone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from dpnet_lite.ablation.rivals import check_network
from dpnet_lite.ablation.studies import Condition, Study, Variant
from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folder import open_folder
from dpnet_lite.datasets.toy import ToyWorld
from dpnet_lite.experiments.experiment import (
    TOY_TEST_SCENES,
    TOY_TRAINING_SCENES,
    Experiment,
    FoldData,
    toy_test_world,
    toy_training_world,
)
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.features import FeatureBank
from dpnet_lite.storage.caches import usable_cache
from dpnet_lite.storage.files import sha256

# Raised by hand when the same settings give other numbers: older rows and weights then count no more.
RESULTS_VERSION = 1
TOY_SCENES = (TOY_TRAINING_SCENES, TOY_TEST_SCENES)
_WORLD_SEED = 0  # all training seeds of a fold share its scenes, as they would share the images of a real data set


@dataclass(frozen=True)
class Run:
    """A variant on a fold with a seed, and the conditions it is scored under."""

    experiment: Experiment  # data, backbone, place of the caches; its model and training are what variants change
    variant: Variant
    conditions: tuple[Condition, ...]
    fold: int
    seed: int
    n_episodes: int
    scenes: tuple[int, int] = TOY_SCENES  # of the toy world, for training and test
    threads: int = 1  # of PyTorch: with another number sums may differ in their last digits, and so may weights

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads is {self.threads}; give at least 1")
        check_network(self.model, where=f"variant {self.variant.name!r}")

    @property
    def model(self) -> ModelConfig:
        return self.experiment.model.changed(self.variant.model)

    @property
    def training(self) -> TrainingConfig:
        return self.experiment.training.changed({**self.variant.training, "seed": self.seed})

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone, one a process."""
        own = self.experiment
        return _shared_backbone(own.backbone, own.backbone_weights, own.device, own.precision)

    def data(self, condition: Condition | None = None) -> FoldData:
        """Features of the fold, with the test scenes of `condition`; the process keeps them for its next run."""
        return _shared_fold(self.experiment, self.fingerprint, self.fold, self._gap(condition), self.scenes)

    @cached_property
    def fingerprint(self) -> str:
        """What tells the content of photographs apart from any other's; "" for the toy world. No picture is read."""
        own = self.experiment
        return (
            "" if own.is_toy else " ".join(open_folder(root).fingerprint for root in (Path(own.data), *own.extra_base))
        )

    def _gap(self, condition: Condition | None) -> float:
        return self.experiment.gap if condition is None or condition.gap is None else condition.gap

    def _worlds(self, condition: Condition | None = None) -> tuple[ToyWorld, ToyWorld]:
        return _toy_worlds(self.experiment, self.fold, self._gap(condition), self.scenes)

    def training_identity(self) -> dict[str, Any]:
        """What the trained weights depend on, as plain JSON."""
        own = self.experiment
        facts: dict[str, Any] = {
            "results_version": RESULTS_VERSION,
            "backbone": self.backbone.cache_key,
            "fold": self.fold,
            "device": own.device.partition(":")[0],
            "threads": self.threads,
            "method": self.variant.method,
        }
        if own.is_toy:
            facts["data"] = self._worlds()[0].fingerprint
        else:
            facts["data"] = self.fingerprint
            facts |= {"size": own.size, "n_folds": own.n_folds, "layout": own.layout, "policy": own.policy}
        if self.variant.method == "trained":
            trained = {"model": self.model, "training": self.training, "start": own.model}
            facts |= {name: settings.to_dict() for name, settings in trained.items()}
        return facts

    def identity(self, condition: Condition) -> dict[str, Any]:
        """What a row depends on, as plain JSON."""
        facts = self.training_identity()
        if self.experiment.is_toy:
            facts["test"] = self._worlds(condition)[1].fingerprint
        tested = {"n_shot": condition.n_shot, "mask": condition.mask, "pixels": condition.pixels}
        return facts | tested | {"n_episodes": self.n_episodes, "original_size": self.experiment.original_size}

    @property
    def row_keys(self) -> list[str]:
        """The key of each condition's row."""
        return [digest(self.identity(condition)) for condition in self.conditions]


def digest(facts: Any) -> str:
    """24 hex digits of plain JSON."""
    return sha256(json.dumps(facts, sort_keys=True).encode())[:24]


def study_runs(
    study: Study, experiment: Experiment, scenes: tuple[int, int] = TOY_SCENES, threads: int = 1
) -> list[Run]:
    """All runs of a study on the data of `experiment`, without retired variants.

    Those of the first seed come first, so that a study that is stopped has whole pairs.

    Raises:
        ValueError: settings do not fit, the data has not these folds, or a condition sets the gap of the toy world, but
            the data is another.
    """
    for condition in study.conditions:
        if not experiment.is_toy and condition.gap is not None:
            raise ValueError(
                f"condition {condition.name!r} of study {study.name!r} sets the gap, a dial of the toy "
                "world; run this study with --data toy"
            )
    folds = study.folds or tuple(range(experiment.n_folds))
    if max(folds) >= experiment.n_folds:
        raise ValueError(
            f"study {study.name!r} has fold {max(folds)}, but there are {experiment.n_folds} folds; give 0 to "
            f"{experiment.n_folds - 1}"
        )
    changes = {**(study.toy_training if experiment.is_toy else {}), **study.training}
    training = experiment.training.changed(changes)
    base = replace(experiment, model=experiment.model.changed(study.model), training=training)
    return [
        Run(base, variant, study.conditions, fold, seed, study.n_episodes, scenes, threads)
        for seed in study.seeds
        for fold in folds
        for variant in study.without_retired().variants
    ]


@lru_cache(maxsize=4)
def _shared_backbone(name: str, weights: Path | None, device: str, precision: str) -> Backbone:
    return build_backbone(name, weights, device=device, precision=precision)


@lru_cache(maxsize=8)
def _shared_fold(experiment: Experiment, fingerprint: str, fold: int, gap: float, scenes: tuple[int, int]) -> FoldData:
    """Features of a fold; `gap` is that of the toy world's test scenes."""
    own = experiment
    backbone = _shared_backbone(own.backbone, own.backbone_weights, own.device, own.precision)
    if not own.is_toy:
        return own.fold_data(backbone, _folder_bank(own, fingerprint), fold, 0)
    worlds, cache = _toy_worlds(own, fold, gap, scenes), usable_cache(own.cache_folder)
    train, test = (compute_features(w, backbone, size=w.size, cache_folder=cache, device=own.device) for w in worlds)
    return FoldData(fold, train, worlds[0].targets, test, worlds[1].targets)


@lru_cache(maxsize=1)
def _folder_bank(experiment: Experiment, fingerprint: str) -> FeatureBank:
    """Features of the photographs of this fingerprint; all folds share them."""
    own = experiment
    return own.folder_bank(_shared_backbone(own.backbone, own.backbone_weights, own.device, own.precision))


def _toy_worlds(experiment: Experiment, fold: int, gap: float, scenes: tuple[int, int]) -> tuple[ToyWorld, ToyWorld]:
    """Training and test scenes of a fold, not drawn yet."""
    train = toy_training_world(fold, seed=_WORLD_SEED, gap=experiment.gap, n_scenes=scenes[0])
    return train, toy_test_world(fold, gap=gap, n_scenes=scenes[1])
