"""A training run that goes on in small pieces and is scored on the way, for somebody who watches.

The scores on novel classes are for looking. To choose weights by them would be cheating: lesson 7 shows what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.toy import DEFAULT_GAP
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.experiment import TEST_SEED, FoldData, toy_fold
from dpnet_lite.scoring import head_segmenter, score_episodes
from dpnet_lite.training import Trainer, initial_network


@lru_cache(maxsize=2)
def small_toy_fold(fold: int, gap: float = DEFAULT_GAP, *, n_train: int = 600, n_test: int = 200) -> FoldData:
    """A fold of the toy world that is ready in a few seconds: a quarter of the scenes that `make demo` trains on."""
    return toy_fold(build_backbone("tiny"), fold, seed=0, gap=gap, n_train=n_train, n_test=n_test)


@dataclass(frozen=True)
class Score:
    """mIoU after a step, each in [0, 1]: on episodes of the base classes' own training images, and of novel classes."""

    step: int
    base: float
    novel: float


class LiveTraining:
    """Trains one head on a fold, as `Trainer` does, and scores it every `score_every` steps and at the end.

    Args:
        data: the fold; training takes its base classes and training images only.
        model, training: settings; every run of the same ones ends with the same weights, however it is cut up.
        score_every: steps between two scores, at least 1.
        n_episodes: scored each time, of the base and of the novel classes.

    Raises:
        ValueError: score_every is below 1.
    """

    def __init__(
        self,
        data: FoldData,
        model: ModelConfig,
        training: TrainingConfig,
        *,
        score_every: int = 50,
        n_episodes: int = 100,
    ) -> None:
        if score_every < 1:
            raise ValueError(f"score_every is {score_every}; give at least 1")
        self.data, self.score_every = data, score_every
        network = initial_network(model, data.train.backbone, training.seed)
        self.trainer = Trainer(network, training, data.train, data.base, fold=data.fold)
        self.scores: list[Score] = []
        self.head: nn.Module | None = None  # the weights so far, in eval mode; None before the first step
        self._base, self._novel = (
            draw_episodes(bank.dataset, classes, fold=data.fold, n_shot=1, count=n_episodes, seed=TEST_SEED)
            for bank, classes in ((data.train, data.base), (data.test, data.novel))
        )

    @property
    def step(self) -> int:
        """Steps done."""
        return self.trainer.step

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.trainer.config.steps

    @property
    def done(self) -> bool:
        """Whether none is left."""
        return self.step == self.steps

    @property
    def losses(self) -> list[dict[str, float]]:
        """A row for every tenth step and the last: step, loss, main, learning_rate."""
        return self.trainer.losses

    def advance(self, steps: int) -> None:
        """Train for `steps` more steps, fewer where the run ends or a score is due; score where one is due."""
        due = self.step - self.step % self.score_every + self.score_every
        self.head = self.trainer.run(stop_after=min(self.step + steps, due)).head
        if self.step == due or (self.done and (not self.scores or self.scores[-1].step < self.step)):
            self.scores.append(self._score(self.head))

    def _score(self, head: nn.Module) -> Score:
        segment = head_segmenter(head)
        base = score_episodes(segment, self.data.train, self._base).miou
        return Score(self.step, base, score_episodes(segment, self.data.test, self._novel).miou)
