"""Features that many runs share: computed once per data set, backbone and fold, then read from disk by everyone."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.caches import default_cache
from dpnet_lite.datasets.base import Sample
from dpnet_lite.datasets.folder import FolderDataset
from dpnet_lite.datasets.folds import base_classes, novel_classes
from dpnet_lite.datasets.toy import ToyWorld, catalogue_names
from dpnet_lite.experiments.experiment import (
    Experiment,
    FoldData,
    toy_test_world,
    toy_training_world,
)
from dpnet_lite.experiments.presets import N_FOLDS
from dpnet_lite.features import FeatureBank

WORLD_SEED = 0  # all training seeds of a fold share its scenes, as they would share the images of a real data set


class StoredWorld:
    """A toy world whose class areas are known, so that episodes can be drawn without drawing a scene."""

    def __init__(self, world: ToyWorld, class_areas: np.ndarray) -> None:
        self.world, self.class_areas = world, class_areas
        self.name, self.class_names, self.fingerprint = world.name, world.class_names, world.fingerprint

    def __len__(self) -> int:
        return len(self.world)

    def __getitem__(self, index: int) -> Sample:
        return self.world[index]


def config_backbone(config: Experiment) -> Backbone:
    """The frozen backbone of a configuration, one a process."""
    return _shared_backbone(config.backbone, config.backbone_weights, config.device, config.precision)


@lru_cache(maxsize=4)
def _shared_backbone(name: str, weights: Path | None, device: str, precision: str) -> Backbone:
    return build_backbone(name, weights, device=device, precision=precision)


@lru_cache(maxsize=8)
def shared_fold(config: Experiment, fold: int, gap: float, scenes: tuple[int, int]) -> FoldData:
    """Features of a fold, of the toy world's or of folder data; the process keeps them for its next run.

    Args:
        config: the data, the backbone, and where features are kept.
        gap: of the toy world's test scenes; config.gap is that of its training scenes.
        scenes: training and test scenes of the toy world.
    """
    backbone = config_backbone(config)
    if config.data != "toy":
        return config.fold_data(backbone, _folder_bank(config), fold, 0)
    folder, n_classes = config.cache_folder or default_cache(), len(catalogue_names())
    base, novel = (split(n_classes, fold, N_FOLDS) for split in (base_classes, novel_classes))
    worlds = toy_worlds(config, fold, gap, scenes)
    train, test = (stored_bank(world, backbone, folder, config.device) for world in worlds)
    return FoldData(fold, train, base, test, novel)


def toy_worlds(config: Experiment, fold: int, gap: float, scenes: tuple[int, int]) -> tuple[ToyWorld, ToyWorld]:
    """Training and test scenes of a fold, not drawn yet."""
    train = toy_training_world(fold, seed=WORLD_SEED, gap=config.gap, n_scenes=scenes[0])
    return train, toy_test_world(fold, gap=gap, n_scenes=scenes[1])


@lru_cache(maxsize=1)
def _folder_bank(config: Experiment) -> FeatureBank:
    folder = config.cache_folder or default_cache()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "folders.lock"):
        return config.folder_bank(config_backbone(config))


@lru_cache(maxsize=4)
def folder_fingerprint(config: Experiment) -> str:
    """What tells the content of a configuration's folders apart from any other's; no picture is read."""
    return " ".join(FolderDataset(root).fingerprint for root in (Path(config.data), *config.extra_base))


def stored_bank(world: ToyWorld, backbone: Backbone, folder: Path, device: str) -> FeatureBank:
    """The features of a toy world from `folder`; the first process that asks computes them, others wait."""
    key = hashlib.sha256(f"{world.fingerprint} {backbone.cache_key}".encode()).hexdigest()[:24]
    features, labels, areas = (folder / f"{key}.{part}.npy" for part in ("features", "labels", "areas"))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):  # a killed process lets the next in
        if not areas.exists():  # written last: where it lies, the others are whole
            bank = FeatureBank(world, backbone, size=world.size, device=device)
            for path, array in ((features, bank.features), (labels, bank.labels.numpy()), (areas, world.class_areas)):
                _save(path, array)
    dataset = StoredWorld(world, np.load(areas))
    # Copy on write: torch wants arrays that it could write to.
    shared = np.load(features, mmap_mode="c")
    return FeatureBank.from_arrays(
        dataset, backbone, size=world.size, features=shared, labels=torch.from_numpy(np.load(labels))
    )


def _save(path: Path, array: np.ndarray) -> None:
    temporary = path.with_suffix(".tmp.npy")  # under the lock, so nobody else writes it
    np.save(temporary, array)
    temporary.replace(path)
