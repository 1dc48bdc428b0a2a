"""One fold of a data set, ready to train and score: features of its images, base and novel classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.datasets.folder import FolderDataset
from dpnet_lite.datasets.folds import FoldLayout, base_classes, novel_classes
from dpnet_lite.datasets.novel import NovelPolicy, TrainingView
from dpnet_lite.datasets.toy import DEFAULT_GAP, DEFAULT_SIZE, ToyWorld, catalogue_names
from dpnet_lite.datasets.union import UnionDataset
from dpnet_lite.features import EpisodeSource, FeatureBank

N_FOLDS = 4
TOY_TRAINING_SCENES, TOY_TEST_SCENES = 2_400, 600
TEST_SEED = 7_919  # of the toy world's test scenes and of all scored episodes: far from any training seed
Stage = Callable[[str], Callable[[Iterable[int]], Iterable[int]]]


def silent(name: str) -> Callable[[Iterable[int]], Iterable[int]]:
    """A stage without a progress bar."""
    return iter


@dataclass(frozen=True)
class TrainingData:
    """What a head of one fold is trained on: features or images, and the classes to draw episodes of."""

    fold: int
    train: EpisodeSource
    base: tuple[int, ...]


@dataclass(frozen=True)
class FoldData(TrainingData):
    """The same with what the fold is scored on."""

    test: FeatureBank
    novel: tuple[int, ...]


def toy_training_world(
    fold: int, *, seed: int, gap: float = DEFAULT_GAP, n_scenes: int = TOY_TRAINING_SCENES
) -> ToyWorld:
    """Scenes of the 60 base classes of a fold of Toy-20^i."""
    return ToyWorld(n_scenes, seed=100 + seed, targets=base_classes(len(catalogue_names()), fold, N_FOLDS), gap=gap)


def toy_test_world(fold: int, *, gap: float = DEFAULT_GAP, n_scenes: int = TOY_TEST_SCENES) -> ToyWorld:
    """Scenes around the 20 novel classes of a fold, among any others; they do not depend on any training seed."""
    n_classes = len(catalogue_names())
    novel = novel_classes(n_classes, fold, N_FOLDS)
    return ToyWorld(n_scenes, seed=TEST_SEED, targets=novel, others=range(n_classes), gap=gap)


def toy_training(
    backbone: Backbone,
    fold: int,
    *,
    seed: int,
    gap: float = DEFAULT_GAP,
    n_train: int = TOY_TRAINING_SCENES,
    device: str | torch.device = "cpu",
    stage: Stage = silent,
) -> TrainingData:
    """Training scenes of Toy-20^i. They hold the fold's 60 base classes only (policy "drop")."""
    train = toy_training_world(fold, seed=seed, gap=gap, n_scenes=n_train)
    bank = FeatureBank(train, backbone, size=DEFAULT_SIZE, progress=stage("drawing training scenes"), device=device)
    return TrainingData(fold, bank, train.targets)


def toy_test_bank(
    backbone: Backbone,
    fold: int,
    *,
    gap: float = DEFAULT_GAP,
    n_test: int = TOY_TEST_SCENES,
    device: str | torch.device = "cpu",
    stage: Stage = silent,
) -> FeatureBank:
    """Features of the scenes that a fold of Toy-20^i is scored on; they do not depend on any training seed."""
    test = toy_test_world(fold, gap=gap, n_scenes=n_test)
    return FeatureBank(test, backbone, size=DEFAULT_SIZE, progress=stage("drawing test scenes"), device=device)


def toy_fold(
    backbone: Backbone,
    fold: int,
    *,
    seed: int,
    gap: float = DEFAULT_GAP,
    n_train: int = TOY_TRAINING_SCENES,
    n_test: int = TOY_TEST_SCENES,
    device: str | torch.device = "cpu",
    stage: Stage = silent,
) -> FoldData:
    """Toy-20^i: scenes of the 60 base classes to train on, scenes around the 20 novel ones (and any other) to score."""
    training = toy_training(backbone, fold, seed=seed, gap=gap, n_train=n_train, device=device, stage=stage)
    test = toy_test_bank(backbone, fold, gap=gap, n_test=n_test, device=device, stage=stage)
    novel = novel_classes(len(catalogue_names()), fold, N_FOLDS)
    return FoldData(fold, training.train, training.base, test, novel)


def folder_bank(
    roots: Sequence[Path],
    backbone: Backbone,
    *,
    size: int,
    cache_folder: Path | None,
    device: str | torch.device = "cpu",
    stage: Stage = silent,
) -> FeatureBank:
    """Features of a folder of photographs and any extra folders behind it, mirrored views included."""
    datasets = [FolderDataset(root) for root in roots]
    dataset = datasets[0] if len(datasets) == 1 else UnionDataset(datasets)
    return FeatureBank(
        dataset,
        backbone,
        size=size,
        flip=True,
        cache_folder=cache_folder,
        progress=stage("computing features"),
        device=device,
    )


def plain_name(name: str) -> str:
    """A class name without the further folder it comes from, in lower case: "folder:B/Cat" is "cat"."""
    return (name.partition("/")[2] if name.startswith("folder:") else name).casefold()


def folder_fold(
    bank: FeatureBank,
    fold: int,
    *,
    n_classes: int,
    n_folds: int = N_FOLDS,
    layout: FoldLayout = "interleaved",
    policy: NovelPolicy = "drop",
) -> FoldData:
    """A fold of folder data. The first `n_classes` classes are split into folds, all further ones are base classes."""
    novel = novel_classes(n_classes, fold, n_folds, layout)
    names = bank.dataset.class_names
    extra = range(n_classes, len(names))
    known = {plain_name(names[index]): names[index] for index in extra}
    for index in novel:
        if plain_name(names[index]) in known:
            raise ValueError(
                f"the extra class {known[plain_name(names[index])]!r} has the name of a novel class of fold {fold}; "
                "leave it out, or rename it if it is another thing"
            )
    base = (*base_classes(n_classes, fold, n_folds, layout), *extra)
    train = bank.seen_by_training(TrainingView(bank.dataset, novel, policy))
    return FoldData(fold, train, base, bank, novel)
