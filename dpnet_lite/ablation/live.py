"""A short paired run for somebody who watches: a variant and its control, trained and scored a few steps at a time.

Short means little evidence: it shows how an ablation is done, and which way a change points. The shipped studies run
eight times as long, on all folds and more seeds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config import ModelConfig, TrainingConfig
from ..episodes import EpisodeList, draw_episodes
from ..evaluation import EpisodeScores
from ..fold_data import TEST_SEED, FoldData
from ..intervals import mean_paired_difference
from ..live_training import small_toy_fold
from ..resampling import Interval
from ..scoring import head_segmenter, score_episodes
from ..training import Trainer

Key = tuple[ModelConfig, int, int]  # network, fold, seed


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

    def data(self, fold: int) -> FoldData:
        """Features of a fold."""
        return small_toy_fold(fold, n_train=self.n_train)

    def episodes(self, fold: int) -> EpisodeList:
        """The test episodes of a fold, the same for every network."""
        data = self.data(fold)
        return draw_episodes(data.test.dataset, data.novel, fold=fold, n_shot=1, count=self.n_episodes, seed=TEST_SEED)

    def trainer(self, model: ModelConfig, start: ModelConfig, fold: int, seed: int) -> Trainer:
        """A training run from the weights that `start` would have, where their shapes fit."""
        data, training = self.data(fold), TrainingConfig.from_dict({**self.training.to_dict(), "seed": seed})
        first = Trainer(start, training, data.train, data.base, fold=fold)
        if model == start:
            return first
        weights = first.head.module.state_dict()
        return Trainer(model, training, data.train, data.base, fold=fold, initial_weights=weights)


class LiveAblation:
    """A variant beside its control, advanced piece by piece; what the bench knows already is not trained again.

    Args:
        name: of the variant.
        model, control: settings of both networks. The control also gives the initial weights.

    Raises:
        ValueError: variant and control are the same.
    """

    def __init__(self, name: str, model: ModelConfig, control: ModelConfig, bench: Bench) -> None:
        if model == control:
            raise ValueError(f"{name!r} is the control itself; change a switch")
        self.name, self.model, self.control, self.bench = name, model, control, bench
        self.pairs = [(fold, seed) for fold in bench.folds for seed in bench.seeds]
        self.todo: list[Key] = [
            (network, *pair) for pair in self.pairs for network in (control, model)
            if (network, *pair) not in bench.scores
        ]  # fmt: skip
        self.steps = len(self.todo) * bench.training.steps + 1  # the last one judges
        self.step = 0
        self.trainer: Trainer | None = None
        self.result: LiveResult | None = None

    @property
    def done(self) -> bool:
        return self.result is not None

    def advance(self, steps: int) -> None:
        """Train for up to `steps` steps of one network; score it where it is trained, judge where all are scored."""
        if self.done:
            return
        if not self.todo:
            self._judge()
            return
        network, fold, seed = self.todo[0]
        if self.trainer is None:
            self.trainer = self.bench.trainer(network, self.control, fold, seed)
        before = self.trainer.step
        head = self.trainer.run(stop_after=before + steps).head
        self.step += self.trainer.step - before
        if self.trainer.step == self.bench.training.steps:
            data = self.bench.data(fold)
            scores = score_episodes(head_segmenter(head), data.test, self.bench.episodes(fold))
            self.bench.scores[self.todo.pop(0)] = scores
            self.trainer = None

    def _judge(self) -> None:
        own, other = (
            [self.bench.scores[network, *pair] for pair in self.pairs] for network in (self.model, self.control)
        )
        difference, interval = mean_paired_difference(own, other)
        self.result = LiveResult(self.name, difference, interval, len(self.pairs))
        self.step = self.steps
