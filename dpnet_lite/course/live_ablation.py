"""A short paired run for somebody who watches: a variant and its control, trained and scored a few steps at a time.

Short means little evidence: it shows how an ablation is done, and which way a change points. The shipped studies train
far longer, on all folds and more seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.course.live_training import small_toy_fold
from dpnet_lite.episodes import EpisodeList, draw_episodes
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.experiment import TEST_SEED, FoldData
from dpnet_lite.experiments.intervals import Interval, mean_paired_difference
from dpnet_lite.scoring import head_segmenter, score_episodes
from dpnet_lite.training import Trainer, initial_network


class Key(NamedTuple):
    """All that the scores of a network depend on: two networks with the same key have the same scores."""

    model: ModelConfig
    start: ModelConfig  # whose initial weights it takes where shapes fit
    training: TrainingConfig  # with the run's seed
    fold: int
    n_episodes: int
    n_train: int


@dataclass(frozen=True)
class LiveResult:
    """mIoU of a variant less that of its control, both in [0, 1], over the pairs of a short run."""

    name: str
    difference: float
    interval: Interval  # 95 %
    pairs: int


@dataclass
class Bench:
    """What short runs share: data, budget, and the scores of every network that was trained before.

    Attributes:
        folds, seeds: every combination is a pair. Two folds are kept in memory at once.
        training: the budget of every network.
        n_episodes: scored for each fold.
    """

    folds: tuple[int, ...] = (0, 1)
    seeds: tuple[int, ...] = (0, 1)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=60, batch_size=4, flip=False))
    n_episodes: int = 100
    n_train: int = 600  # scenes of a fold
    scores: dict[Key, EpisodeScores] = field(default_factory=dict)

    def pairs(self) -> list[tuple[int, int]]:
        """Every combination of fold and seed.

        Raises:
            ValueError: there is none, one comes twice, or there is no episode to score.
        """
        for name, values in (("folds", self.folds), ("seeds", self.seeds)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name} is {values}; give at least one, and each once")
        if self.n_episodes < 1:
            raise ValueError(f"n_episodes is {self.n_episodes}; give at least 1")
        return [(fold, seed) for fold in self.folds for seed in self.seeds]

    def key(self, model: ModelConfig, start: ModelConfig, fold: int, seed: int) -> Key:
        """Under which the scores of a network are kept."""
        return Key(model, start, replace(self.training, seed=seed), fold, self.n_episodes, self.n_train)

    def data(self, fold: int) -> FoldData:
        """Features of a fold."""
        return small_toy_fold(fold, n_train=self.n_train)

    def episodes(self, fold: int) -> EpisodeList:
        """The test episodes of a fold, the same for every network."""
        data = self.data(fold)
        return draw_episodes(data.test.dataset, data.novel, fold=fold, n_shot=1, count=self.n_episodes, seed=TEST_SEED)

    def trainer(self, model: ModelConfig, start: ModelConfig, fold: int, seed: int) -> Trainer:
        """A training run from the weights that `start` would have, where their shapes fit."""
        data, training = self.data(fold), replace(self.training, seed=seed)
        backbone = data.train.backbone
        first = initial_network(start, backbone, seed).state_dict()
        network = initial_network(model, backbone, seed, initial_weights=first)
        return Trainer(network, training, data.train, data.base, fold=fold)


class LiveAblation:
    """A variant beside its control, advanced piece by piece; what the bench knows already is not trained again.

    Args:
        name: of the variant.
        model, control: settings of both networks. The control also gives the initial weights.

    Raises:
        ValueError: variant and control are the same, or the bench has no pairs or episodes.
    """

    def __init__(self, name: str, model: ModelConfig, control: ModelConfig, bench: Bench) -> None:
        if model == control:
            raise ValueError(f"{name!r} is the control itself; change a switch")
        self.name, self.model, self.control, self.bench = name, model, control, bench
        self.pairs = [tuple(bench.key(net, control, *pair) for net in (model, control)) for pair in bench.pairs()]
        self.todo = [key for pair in self.pairs for key in reversed(pair) if key not in bench.scores]  # control first
        self.steps = len(self.todo) * bench.training.steps + 1  # the last one judges
        self.step = 0
        self.trainer: Trainer | None = None
        self.result: LiveResult | None = None

    @property
    def done(self) -> bool:
        return self.result is not None

    def advance(self, steps: int) -> None:
        """Train for up to `steps` steps of one network; score it where it is trained, judge where all are scored.

        Raises:
            ValueError: steps is below 1.
        """
        if steps < 1:
            raise ValueError(f"steps is {steps}; give at least 1")
        if self.done:
            return
        if not self.todo:
            self._judge()
            return
        key = self.todo[0]
        if self.trainer is None:
            self.trainer = self.bench.trainer(key.model, key.start, key.fold, key.training.seed)
        before = self.trainer.step
        head = self.trainer.run(stop_after=before + steps).head
        self.step += self.trainer.step - before
        if self.trainer.step == key.training.steps:
            data = self.bench.data(key.fold)
            scores = score_episodes(head_segmenter(head), data.test, self.bench.episodes(key.fold))
            self.bench.scores[self.todo.pop(0)] = scores
            self.trainer = None

    def _judge(self) -> None:
        own, other = ([self.bench.scores[key] for key in keys] for keys in zip(*self.pairs, strict=True))
        difference, interval = mean_paired_difference(own, other)
        self.result = LiveResult(self.name, difference, interval, len(self.pairs))
        self.step = self.steps
