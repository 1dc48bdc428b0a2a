"""An experiment: which data, which settings, which folds and seeds; and the data of each fold, ready to use."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import torch

from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.folder import open_folder, read_class_names
from dpnet_lite.datasets.folds import FoldLayout, base_classes, novel_classes
from dpnet_lite.datasets.novel import NovelPolicy, TrainingView
from dpnet_lite.datasets.toy import DEFAULT_GAP, DEFAULT_SIZE, WORLD_VERSION, ToyWorld, catalogue_names
from dpnet_lite.datasets.union import UnionDataset
from dpnet_lite.episodes import EpisodeList, draw_episodes, usable_classes
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.experiments.presets import N_FOLDS
from dpnet_lite.experiments.progress import Stage, Stages, silent
from dpnet_lite.features import EpisodeSource, FeatureBank, Progress
from dpnet_lite.storage.caches import usable_cache

TOY_TRAINING_SCENES, TOY_TEST_SCENES = 2_400, 600
TEST_SEED = 7_919  # of the toy world's test scenes and of all scored episodes: far from any training seed


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


@dataclass(frozen=True)
class EvaluationData:
    """What heads are scored on: images, and frozen episodes of their novel classes."""

    source: EpisodeSource
    novel: tuple[int, ...]  # also classes without an episode
    lists: list[EpisodeList]  # of any seeds and numbers of shots


@dataclass(frozen=True)
class Experiment:
    """What to run. `data` is "toy" or a folder; the other data fields belong to one of the two."""

    data: str
    model: ModelConfig
    training: TrainingConfig
    backbone: str
    size: int
    backbone_weights: Path | None = None
    precision: str = "fp32"
    folds: tuple[int, ...] = (0,)
    seeds: tuple[int, ...] = (0,)
    shots: tuple[int, ...] = (1, 5)
    n_episodes: int = 500
    gap: float = DEFAULT_GAP  # toy only
    n_folds: int = N_FOLDS
    layout: FoldLayout = "interleaved"
    extra_base: tuple[Path, ...] = ()  # folders only, as the next three
    policy: NovelPolicy = "drop"
    original_size: bool = False
    repeat_support: bool = False
    cache_folder: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        # Found before the training, not after it.
        lists = [("shots", n_shot, 1) for n_shot in self.shots] + [("seeds", seed, 0) for seed in self.seeds]
        for name, value, lowest in [("episodes", self.n_episodes, 1), ("size", self.size, 1), *lists]:
            if value < lowest:
                raise ValueError(f"--{name} has {value}; give at least {lowest}")
        for name in ("folds", "seeds", "shots"):
            if len(set(values := getattr(self, name))) < len(values):
                raise ValueError(f"{name} are {values}; give each once")
        if self.is_toy and (self.n_folds, self.layout) != (N_FOLDS, "interleaved"):
            raise ValueError(f"the toy world has {N_FOLDS} interleaved folds, not {self.n_folds} {self.layout} ones")

    @property
    def is_toy(self) -> bool:
        return self.data == "toy"

    @property
    def own_classes(self) -> tuple[str, ...]:
        """The classes that are split into folds: the data set's own, without those of further folders."""
        return catalogue_names() if self.is_toy else read_class_names(Path(self.data) / "classes.txt")

    def novel(self, fold: int) -> tuple[int, ...]:
        """Indices of the novel classes of a fold."""
        return novel_classes(len(self.own_classes), fold, self.n_folds, self.layout)

    def build_backbone(self, device: str | torch.device | None = None) -> Backbone:
        return build_backbone(
            self.backbone, self.backbone_weights, device=device or self.device, precision=self.precision
        )

    def folder_bank(self, backbone: Backbone) -> FeatureBank:
        """Features of the photographs, found in the cache or computed under a bar."""
        roots = [Path(self.data), *self.extra_base]
        cache = usable_cache(self.cache_folder)
        return folder_bank(roots, backbone, size=self.size, cache_folder=cache, device=self.device, stage=Stages())

    def fold_data(
        self, backbone: Backbone, bank: FeatureBank | None, fold: int, seed: int, stage: Stage = silent
    ) -> FoldData:
        """One fold of the toy world (`bank` is None) or of folder data."""
        if bank is None:
            return toy_fold(backbone, fold, seed=seed, gap=self.gap, device=self.device, stage=stage)
        n_classes = len(self.own_classes)
        return folder_fold(
            bank, fold, n_classes=n_classes, n_folds=self.n_folds, layout=self.layout, policy=self.policy
        )

    def training_data(self, backbone: Backbone, fold: int, seed: int, stage: Stage = silent) -> TrainingData:
        """What training alone needs of a fold; no test scene of the toy world is drawn."""
        if self.is_toy:
            world = toy_training_world(fold, seed=seed, gap=self.gap)
            bank = _toy_bank(world, backbone, self.device, stage("drawing training scenes"))
            return TrainingData(fold, bank, world.targets)
        return self.fold_data(backbone, self.folder_bank(backbone), fold, seed)

    def evaluation_data(self, backbone: Backbone, fold: int, seed: int, stage: Stage = silent) -> EvaluationData:
        """What a fold is scored on, a list for each number of shots; no training scene of the toy world is drawn."""
        if self.is_toy:
            world = toy_test_world(fold, gap=self.gap)
            bank = _toy_bank(world, backbone, self.device, stage("drawing test scenes"))
        else:
            bank = self.folder_bank(backbone)
        how: dict[str, Any] = {"shots": self.shots, "n_episodes": self.n_episodes, "repeats": self.repeat_support}
        return novel_episodes(bank, self.novel(fold), fold, seed=seed, **how)

    def identity(self, backbone: Backbone, bank: FeatureBank | None, fold: int, seed: int) -> dict[str, Any]:
        """What a (fold, seed) result depends on, as plain JSON; paths by name only."""
        facts = asdict(replace(self, folds=(fold,), seeds=(seed,), training=replace(self.training, seed=seed)))
        for name in ("cache_folder", "device", "backbone_weights"):
            del facts[name]
        facts["data"] = self.data if self.is_toy else Path(self.data).name
        facts["extra_base"] = [path.name for path in self.extra_base]
        facts["backbone_key"] = backbone.cache_key
        facts["dataset"] = f"toy {WORLD_VERSION}" if bank is None else bank.dataset.fingerprint
        return json.loads(json.dumps(facts))


def novel_episodes(
    bank: FeatureBank,
    novel: tuple[int, ...],
    fold: int,
    *,
    shots: Sequence[int],
    n_episodes: int,
    seed: int = TEST_SEED,
    repeats: bool = False,
) -> EvaluationData:
    """The frozen episodes of a fold's novel classes, a list for each number of shots."""
    how: dict[str, Any] = {"fold": fold, "count": n_episodes, "seed": seed, "repeats": repeats}
    lists = [draw_episodes(bank.dataset, novel, n_shot=n_shot, **how) for n_shot in shots]
    return EvaluationData(bank, novel, lists)


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
    train = toy_training_world(fold, seed=seed, gap=gap, n_scenes=n_train)
    test = toy_test_world(fold, gap=gap, n_scenes=n_test)
    train_bank = _toy_bank(train, backbone, device, stage("drawing training scenes"))
    test_bank = _toy_bank(test, backbone, device, stage("drawing test scenes"))
    return FoldData(fold, train_bank, train.targets, test_bank, test.targets)


def _toy_bank(world: ToyWorld, backbone: Backbone, device: str | torch.device, progress: Progress) -> FeatureBank:
    return compute_features(world, backbone, size=DEFAULT_SIZE, progress=progress, device=device)


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
    datasets, wrap = [open_folder(root) for root in roots], stage("computing features")
    known, twice, doubled = dict[str, Path](), list[str](), list[str]()
    for own in datasets:
        own_files: dict[str, Path] = {}
        for path, digest in own.image_digests.items():
            if digest in known:
                twice.append(f"{known[digest]} and {path}")
            elif digest in own_files:
                doubled.append(f"{own_files[digest]} and {path}")
            own_files.setdefault(digest, path)
        known |= own_files
    if twice:
        raise ValueError(f"{len(twice)} photographs lie in two folders, first {twice[0]}; leave them out of one")
    if doubled:
        text = "%d photographs lie there twice, first %s: one may be support and query, or trained on and scored"
        _LOG.warning(text, len(doubled), doubled[0])
    dataset = datasets[0] if len(datasets) == 1 else UnionDataset(datasets)

    def progress(chunks: Iterable[int]) -> Iterable[int]:
        _ = dataset.class_areas  # all that is wrong with masks is told before the work, if there is any
        return wrap(chunks)

    return compute_features(
        dataset, backbone, size=size, flip=True, cache_folder=cache_folder, progress=progress, device=device
    )


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
    if policy == "drop" and not usable_classes(train.dataset, base) and usable_classes(bank.dataset, base):
        raise ValueError(
            f"--novel drop leaves out every image that shows a novel class of fold {fold}, and no class of the others "
            "keeps two images; train with --novel ignore or --novel background"
        )
    return FoldData(fold, train, base, bank, novel)


_LOG = logging.getLogger(__name__)
_OF_VOC = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}


def plain_name(name: str) -> str:
    """A class without the further folder it comes from, however it is spelt: "folder:B/Wine_glass" is "wineglass".

    Of VOC's and COCO's names for one thing it is COCO's.
    """
    name = normalize("NFKC", name.partition("/")[2] if name.startswith("folder:") else name).casefold()
    plain = re.sub(r"(?<!\d)[\s_-]+|[\s_-]+(?!\d)", "", name)  # "bolt 1-1" is not "bolt 11"
    return _OF_VOC.get(plain, plain)
