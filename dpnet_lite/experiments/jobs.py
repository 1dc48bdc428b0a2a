"""The main job: train on base classes, score on novel ones, beside two rivals; whatever the data.

The rivals are the training-free prototype baseline and the same network with the support prototype only: as many
parameters, the same initial weights, the same episodes, the same budget. What is trained and scored on is handed in, as
a `TrainingData` or an `EpisodeSource` with lists of episodes; how episodes are counted is handed in as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor, nn

from dpnet_lite.checkpoints import DPNET_ALONE, Networks, Trained, save_head
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.episodes import EpisodeList, draw_episodes, usable_classes
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.experiments.experiment import FoldData, TrainingData, novel_episodes, plain_name
from dpnet_lite.experiments.progress import Stage, silent
from dpnet_lite.features import EpisodeSource
from dpnet_lite.scoring import Segmenter, head_segmenter, score_episodes, training_free_segmenter
from dpnet_lite.storage.files import claimed
from dpnet_lite.training import Trainer, TrainingResult, area_rule, initial_network

if TYPE_CHECKING:
    from lightning_fabric import Fabric

TRAINING_FREE, SUPPORT_ONLY, FULL = "training-free", "support only", "DPNet"
METHODS = (TRAINING_FREE, SUPPORT_ONLY, FULL)
_Counted = TypeVar("_Counted")


@dataclass(frozen=True)
class Scored(Generic[_Counted]):
    """One method on one list of episodes."""

    method: str
    episodes: EpisodeList
    scores: _Counted  # `EpisodeScores`, or what else the episodes were counted into


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
    networks: Networks = DPNET_ALONE,
) -> TrainingResult:
    """Train one head; with `training.n_held_out`, choose its checkpoint on that many base classes kept aside.

    `networks` are those that `model.network` may name.
    """
    if model.network not in networks:
        raise ValueError(f"network is {model.network!r}; choose one of {', '.join(networks)}")
    classes, validate = data.base, None
    if training.n_held_out:
        if training.n_held_out >= len(data.base):
            raise ValueError(
                f"n_held_out is {training.n_held_out}, but fold {data.fold} has {len(data.base)} base classes; "
                "hold out fewer"
            )
        classes, held_out = data.base[: -training.n_held_out], data.base[-training.n_held_out :]
        settings: dict[str, Any] = {"count": 200, "seed": training.seed, **area_rule(training)}
        episodes = draw_episodes(data.train.dataset, held_out, fold=data.fold, n_shot=1, **settings)

        def validate(head: nn.Module) -> float:
            return score_episodes(head_segmenter(head), data.train, episodes).miou

    kind = networks[model.network]
    network = initial_network(model, data.train.backbone, training.seed, initial_weights=initial_weights, kind=kind)
    trainer = Trainer(
        network, training, data.train, classes, fold=data.fold, folder=folder, validate=validate, fabric=fabric
    )
    return trainer.run(resume=resume, progress=stage(f"training {name}"))


def train(
    data: TrainingData,
    model: ModelConfig,
    training: TrainingConfig,
    path: Path,
    *,
    fabric: Fabric | None = None,
    resume: bool = False,
    may_replace: bool = True,
    stage: Stage = silent,
    initial_weights: Mapping[str, Tensor] | None = None,
    networks: Networks = DPNET_ALONE,
    **facts: Any,
) -> TrainingResult:
    """Train one head, from `initial_weights` where given, and save it to `path` with `facts` of its making.

    The state for resuming and `log.jsonl` lie in a folder beside it, named like it. One of several processes saves.
    ValueError where another process writes to `path`, or has done so and `may_replace` and `resume` are not given.
    """
    how: dict[str, Any] = {"resume": resume, "stage": stage, "fabric": fabric, "networks": networks}
    how |= {"initial_weights": initial_weights}
    folder, writes = path.with_suffix(""), fabric is None or fabric.is_global_zero
    with claimed(path, may_replace=may_replace or resume) if writes else nullcontext():
        result = train_head(data, model, training, folder=folder, **how)
        if writes:
            save_trained(path, data, training, result, validation=result.validation, **facts)
    return result


def save_trained(
    path: Path, data: TrainingData, training: TrainingConfig, result: TrainingResult, **facts: Any
) -> None:
    """Save a trained head; it says how it was made, with `facts` besides, which may replace others."""
    dataset = data.train.dataset
    made = {
        "step": result.step,
        "data": dataset.name,
        "dataset": dataset.fingerprint,
        "fold": data.fold,
        "base_classes": [dataset.class_names[i] for i in usable_classes(dataset, data.base, **area_rule(training))],
        "seed": training.seed,
        "training": training.to_dict(),
        "training_episodes": result.episodes_sha256,
    }
    save_head(path, result.head, data.train.backbone, size=data.train.size, **{**made, **facts})


def evaluate(
    segmenters: Mapping[str, Segmenter],
    source: EpisodeSource,
    lists: Sequence[EpisodeList],
    *,
    count: Callable[..., _Counted],
    stage: Stage = silent,
) -> list[Scored[_Counted]]:
    """Score every method on every list.

    Args:
        segmenters: by name of the method.
        source: of the data set that the lists were drawn from.
        lists: episodes of any seeds and numbers of shots.
        count: `score_episodes`, or another function of (segmenter, source, episodes, progress=...).
        stage: one is taken for each method and list.
    """
    several = len({episodes.seed for episodes in lists}) > 1
    scored = []
    for episodes in lists:
        what = f"{episodes.n_shot}-shot" + (f", seed {episodes.seed}" if several else "")
        for method, segment in segmenters.items():
            counted = count(segment, source, episodes, progress=stage(f"scoring {method}, {what}"))
            scored.append(Scored(method, episodes, counted))
    return scored


def trained_and_training_free(trained: Trained) -> dict[str, Segmenter]:
    """The two methods that one trained head gives: the head, and the baseline on the same features."""
    free = training_free_segmenter(trained.backbone.deep_channels)
    return {TRAINING_FREE: free, FULL: head_segmenter(trained.head)}


def refuse_seen_classes(path: Path, metadata: Mapping[str, Any], novel: Sequence[str], fold: int) -> None:
    """ValueError where the base classes of the head in `path` hold a class that is to be scored as novel."""
    own_fold, base = metadata.get("fold"), metadata.get("base_classes")
    known = novel if base is None and own_fold != fold else base or []  # without this list, the fold alone tells
    seen = [name for name in novel if plain_name(name) in {plain_name(other) for other in known}]
    if seen:
        own = (
            ""
            if own_fold in (None, fold)
            else f" (in its own data, with the --folds of its training: --fold {own_fold})"
        )
        text = f"{path} was trained on {seen[0]!r}, a novel class of fold {fold}; choose a fold whose novel classes"
        raise ValueError(f"{text} it never saw{own}")


def run_fold(
    data: FoldData,
    model: ModelConfig,
    training: TrainingConfig,
    *,
    shots: Sequence[int] = (1, 5),
    n_episodes: int = 500,
    methods: Sequence[str] = METHODS,
    original_size: bool = False,
    repeats: bool = False,
    device: str = "cpu",
    stage: Stage = silent,
    networks: Networks = DPNET_ALONE,
) -> FoldResult:
    """Train what needs training and score all methods on the same frozen episodes of novel classes."""
    asked: dict[str, Any] = {"shots": shots, "n_episodes": n_episodes, "repeats": repeats}
    lists = novel_episodes(data.test, data.novel, data.fold, **asked).lists  # what cannot be drawn is told first
    segmenters = {TRAINING_FREE: training_free_segmenter(data.test.backbone.deep_channels)}
    trained: dict[str, TrainingResult] = {}
    for name, config in ((SUPPORT_ONLY, support_only(model)), (FULL, model)):
        if name in methods:
            how: dict[str, Any] = {"fabric": make_fabric(device, training.precision), "networks": networks}
            trained[name] = train_head(data, config, training, stage=stage, name=name, **how)
            segmenters[name] = head_segmenter(trained[name].head.to(device))
    chosen = {name: segment for name, segment in segmenters.items() if name in methods}
    count = partial(score_episodes, original_size=original_size)
    scored = evaluate(chosen, data.test, lists, count=count, stage=stage)
    scores = {(entry.method, entry.episodes.n_shot): entry.scores for entry in scored}
    return FoldResult(data.fold, training.seed, scores, {episodes.n_shot: episodes for episodes in lists}, trained)
