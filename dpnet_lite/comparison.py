"""The main job on one fold: train on base classes, score on novel ones, beside two rivals.

The rivals are the training-free prototype baseline and the same network with the support prototype only: as many
parameters, the same initial weights, the same episodes, the same budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from .config import ModelConfig, TrainingConfig
from .datasets.folder import FolderDataset
from .datasets.folds import FoldLayout, base_classes, novel_classes
from .datasets.novel import NovelPolicy, TrainingView
from .datasets.toy import DEFAULT_GAP, DEFAULT_SIZE, ToyWorld, catalogue_names
from .datasets.union import UnionDataset
from .devices import make_fabric
from .episodes import EpisodeList, draw_episodes
from .evaluation import EpisodeScores
from .features import FeatureBank
from .model.backbone import Backbone
from .model.head import Head
from .scoring import head_segmenter, score_episodes, training_free_segmenter
from .training import Trainer, TrainingResult

TRAINING_FREE, SUPPORT_ONLY, FULL = "training-free", "support only", "DPNet"
METHODS = (TRAINING_FREE, SUPPORT_ONLY, FULL)
N_FOLDS = 4
TOY_TRAINING_SCENES, TOY_TEST_SCENES = 2_400, 600
TEST_SEED = 7_919  # of the toy world's test scenes and of all scored episodes: far from any training seed
Stage = Callable[[str], Callable[[Iterable[int]], Iterable[int]]]


def silent(name: str) -> Callable[[Iterable[int]], Iterable[int]]:
    """A stage without a progress bar."""
    return iter


@dataclass(frozen=True)
class FoldData:
    """One fold, ready to train and score: features, classes."""

    fold: int
    train: FeatureBank
    test: FeatureBank
    base: tuple[int, ...]
    novel: tuple[int, ...]


@dataclass(frozen=True)
class FoldResult:
    """Scores by (method, n_shot) and what was trained on the way."""

    fold: int
    seed: int
    scores: dict[tuple[str, int], EpisodeScores]
    episodes: dict[int, EpisodeList]
    trained: dict[str, TrainingResult] = field(default_factory=dict)


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
    """Toy-20^i: scenes of the 60 base classes to train on, scenes around the 20 novel ones (and any other) to score.

    Training scenes hold base classes only (policy "drop"). Test scenes do not depend on `seed`.
    """
    n_classes = len(catalogue_names())
    base, novel = base_classes(n_classes, fold, N_FOLDS), novel_classes(n_classes, fold, N_FOLDS)
    train = ToyWorld(n_train, seed=100 + seed, targets=base, gap=gap)
    bank = FeatureBank(train, backbone, size=DEFAULT_SIZE, progress=stage("drawing training scenes"), device=device)
    return FoldData(
        fold, bank, toy_test_bank(backbone, fold, gap=gap, n_test=n_test, device=device, stage=stage), base, novel
    )


def toy_test_bank(
    backbone: Backbone,
    fold: int,
    *,
    gap: float = DEFAULT_GAP,
    n_test: int = TOY_TEST_SCENES,
    device: str | torch.device = "cpu",
    stage: Stage = silent,
) -> FeatureBank:
    """Features of the scenes that a fold of Toy-20^i is scored on."""
    n_classes = len(catalogue_names())
    test = ToyWorld(
        n_test, seed=TEST_SEED, targets=novel_classes(n_classes, fold, N_FOLDS), others=range(n_classes), gap=gap
    )
    return FeatureBank(test, backbone, size=DEFAULT_SIZE, progress=stage("drawing test scenes"), device=device)


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
        dataset, backbone, size=size, flip=True, cache_folder=cache_folder,
        progress=stage("computing features"), device=device,
    )  # fmt: skip


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
    return FoldData(fold, train, bank, base, novel)


def support_only(config: ModelConfig) -> ModelConfig:
    """The rival: P stands in for P_q everywhere. It has exactly as many parameters."""
    return replace(config, pseudo_prototype=False)


def train_head(
    data: FoldData,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    folder: Path | None = None,
    resume: bool = False,
    stage: Stage = silent,
    name: str = FULL,
    fabric: Fabric | None = None,
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
        episodes = draw_episodes(data.train.dataset, held_out, fold=data.fold, n_shot=1, count=200, seed=training.seed)

        def validate(head: Head) -> float:
            return score_episodes(head_segmenter(head), data.train, episodes).miou

    trainer = Trainer(
        model, training, data.train, classes, fold=data.fold, folder=folder, validate=validate, fabric=fabric
    )
    return trainer.run(resume=resume, progress=stage(f"training {name}"))


def training_facts(data: FoldData, training: TrainingConfig, result: TrainingResult) -> dict[str, Any]:
    """What a saved head says of how it was trained."""
    dataset = data.train.dataset
    return {
        "step": result.step, "data": dataset.name, "dataset": dataset.fingerprint, "fold": data.fold,
        "base_classes": [dataset.class_names[index] for index in data.base], "seed": training.seed,
        "training": training.to_dict(), "training_episodes": result.episodes_sha256,
    }  # fmt: skip


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
            segmenters[name], data.test, episodes[n_shot], original_size=original_size,
            progress=stage(f"scoring {name}, {n_shot}-shot"),
        )
        for n_shot in shots
        for name in METHODS
        if name in methods
    }  # fmt: skip
    return FoldResult(data.fold, training.seed, scores, episodes, trained)
