"""Training of the head on frozen features, on Lightning Fabric: one loop, checkpoints, resume.

A run is determined by its configs and seed: the training episodes are a frozen list, step s takes the same ones in
every run, and a resumed run ends with the weights of an uninterrupted one, bit for bit on a CPU.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from .checkpoints import load_training_state, save_training_state
from .config import ModelConfig, TrainingConfig
from .episodes import Episode, EpisodeList, draw_episodes
from .features import EpisodeBatch, FeatureBank
from .interrupts import interrupt_held
from .losses import episode_loss, learning_rate
from .model.base import EpisodeNetwork
from .model.networks import build_network

Progress = Callable[[Iterable[int]], Iterable[int]]
Validate = Callable[[EpisodeNetwork], float]


class TrainingStopped(KeyboardInterrupt):
    """Ctrl-C reached the training loop; the state was written first."""


@dataclass(frozen=True)
class TrainingResult:
    head: EpisodeNetwork  # on the CPU, in eval mode
    losses: list[dict[str, float]]  # a row per logged step: step, loss, main, auxiliary, learning_rate
    validation: list[dict[str, float]]  # a row per validation: step, miou of held-out base classes
    step: int  # the step whose weights these are
    episodes_sha256: str = ""  # of the training episodes


class Trainer:
    """Trains one head on the base classes of one bank of features.

    Args:
        bank: features of the training images.
        classes: class indices to train on (held-out base classes already taken away).
        fold: recorded in the episode list.
        folder: where `state.bin` (for resuming) and `log.jsonl` go; None keeps everything in memory.
        validate: scores the head on held-out *base* classes; never give it novel ones.
        fabric: default is one CPU process.
        initial_weights: replace those weights of the new network that have their name and shape, so that different
            networks start alike where they can.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        config: TrainingConfig,
        bank: FeatureBank,
        classes: Sequence[int],
        *,
        fold: int,
        folder: Path | None = None,
        validate: Validate | None = None,
        fabric: Fabric | None = None,
        initial_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        if (validate is None) != (config.validate_every == 0):
            raise ValueError(
                f"validate_every is {config.validate_every}, but a validation was "
                f"{'not ' if validate is None else ''}given; give both or neither"
            )
        self.model_config, self.config, self.bank = model_config, config, bank
        self.folder, self.validate = folder, validate
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1, precision=config.precision)
        backbone = bank.backbone
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            head = build_network(model_config, backbone.out_channels, backbone.deep_channels)
        own, given = head.state_dict(), initial_weights or {}
        head.load_state_dict({n: given[n] if n in given and given[n].shape == w.shape else w for n, w in own.items()})
        optimiser = torch.optim.AdamW(head.parameters(), weight_decay=config.weight_decay)
        self.head, self.optimiser = self.fabric.setup(head, optimiser)
        n_episodes = config.steps * config.batch_size * self.fabric.world_size
        self.episodes: EpisodeList = draw_episodes(
            bank.dataset, classes, fold=fold, n_shot=config.n_shot, count=n_episodes, seed=config.seed
        )
        self.identity = {
            "model": model_config.to_dict(), "training": config.to_dict(),
            "episodes": self.episodes.sha256, "backbone": backbone.cache_key, "size": bank.size,
        }  # fmt: skip
        self.step = 0
        self.losses: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    def run(self, *, resume: bool = False, progress: Progress = iter, stop_after: int | None = None) -> TrainingResult:
        """Train to the last step (or `stop_after`), from the saved state if `resume`.

        Ctrl-C writes the state, then raises TrainingStopped.
        """
        if resume:
            self._restore()
        else:
            self._refuse_stopped_run()
        last = self.config.steps if stop_after is None else min(stop_after, self.config.steps)
        self.head.train()
        self._write_log("w", self.losses)  # rows of an earlier run, or of steps after the saved state, go
        try:
            # A run that is done shows no bar.
            for _ in progress(range(self.step, last)) if self.step < last else ():
                with interrupt_held():
                    self._step()
        except KeyboardInterrupt as error:
            self._save()
            kept = "nothing of this training is kept" if self.folder is None else "go on with --resume"
            raise TrainingStopped(f"stopped at step {self.step} of {self.config.steps}; {kept}") from error
        self._save()
        return self._result()

    def _step(self) -> None:
        config, step = self.config, self.step
        rate = learning_rate(step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        batch = self._batch(step)
        # Dropout draws from a generator state of this step's own: a resumed run needs no saved random state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(config.seed, step, self.fabric.global_rank))
            output = self.head(
                batch.support_features, batch.support_masks, batch.query_features,
                size=(self.bank.size, self.bank.size), support_background=batch.support_background,
                query_masks=(batch.query_labels == 1).float(),
            )  # fmt: skip
        loss, main = episode_loss(output, batch, self.model_config, config)
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.head, self.optimiser, max_norm=config.gradient_clip)
        self.optimiser.step()
        self.step = step + 1
        if self.step % 10 == 0 or self.step == config.steps:
            self._log({"step": self.step, "loss": loss.item(), "main": main.item(), "learning_rate": rate})
        if self.validate is not None and (self.step % config.validate_every == 0 or self.step == config.steps):
            self._validate()
        if config.checkpoint_every and self.step % config.checkpoint_every == 0:
            self._save()

    def _batch(self, step: int) -> EpisodeBatch:
        """This process's episodes of a step, flipped at random where asked for."""
        n, rank, world = self.config.batch_size, self.fabric.global_rank, self.fabric.world_size
        start = (step * world + rank) * n
        episodes: list[Episode] = [self.episodes[i] for i in range(start, start + n)]
        views = None
        if self.config.flip and self.bank.features.shape[1] > 1:
            rng = np.random.default_rng((self.config.seed, step, rank))
            views = rng.integers(2, size=(n, 1 + self.config.n_shot)).tolist()
        batch = self.bank.batch(episodes, views)
        return EpisodeBatch(*(self.fabric.to_device(tensor) for tensor in batch))

    def _validate(self) -> None:
        assert self.validate is not None
        head: EpisodeNetwork = self.head.module
        score = self.validate(head.eval())
        head.train()
        self.validation.append({"step": self.step, "miou": score})
        if self.best is None or score > self.best[0]:
            self.best = (
                score,
                self.step,
                {k: v.detach().cpu().clone() for k, v in head.state_dict().items()},
            )

    def _log(self, row: dict[str, float]) -> None:
        self.losses.append(row)
        self.fabric.log_dict({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        self._write_log("a", [row])

    def _write_log(self, mode: str, rows: Sequence[dict[str, float]]) -> None:
        if self.folder is not None and self.fabric.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "log.jsonl").open(mode) as log:
                log.writelines(json.dumps(row) + "\n" for row in rows)

    def _save(self) -> None:
        if self.folder is None or not self.fabric.is_global_zero:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "step": self.step, "head": self.head.module.state_dict(), "optimiser": self.optimiser.state_dict(),
            "losses": self.losses, "validation": self.validation, "best": self.best, "identity": self.identity,
        }  # fmt: skip
        save_training_state(self.folder / "state.bin", state)

    def _refuse_stopped_run(self) -> None:
        """A run that was stopped is not overwritten because somebody forgot --resume."""
        if self.folder is None or not (self.folder / "state.bin").exists():
            return
        state = load_training_state(self.folder / "state.bin")
        steps = state["identity"]["training"]["steps"]
        if state["step"] < steps:
            raise ValueError(
                f"{self.folder} holds a run stopped at step {state['step']} of {steps}; "
                "go on with --resume, or delete that folder to start anew"
            )

    def _restore(self) -> None:
        if self.folder is None or not (self.folder / "state.bin").exists():
            raise FileNotFoundError(f"nothing to resume in {self.folder}; leave out --resume to start anew")
        state = load_training_state(self.folder / "state.bin")
        for part, value in self.identity.items():
            saved = state["identity"].get(part)
            if saved != value:
                raise ValueError(
                    f"{self.folder} was trained with {_difference(part, saved, value)}; "
                    "resume with the same settings, or train anew with another --out"
                )
        self.head.module.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses, self.validation = state["step"], state["losses"], state["validation"]
        self.best = None if state["best"] is None else tuple(state["best"])

    def _result(self) -> TrainingResult:
        """The last weights, or the best on held-out base classes where those were asked for."""
        head: EpisodeNetwork = copy.deepcopy(self.head.module).cpu().eval()
        step = self.step
        if self.best is not None:
            head.load_state_dict(self.best[2])
            step = self.best[1]
        return TrainingResult(head, self.losses, self.validation, step, self.episodes.sha256)


def _difference(part: str, saved: Any, given: Any) -> str:
    """What two identities do not share: "steps 100 (now 200)", or the part's name where it has no fields."""
    if not (isinstance(saved, dict) and isinstance(given, dict)):
        return f"other {part}"
    names = [name for name in given if saved.get(name) != given[name]]
    return ", ".join(f"{name} {saved.get(name)} (now {given[name]})" for name in names) or f"other {part}"


def hash_seed(*parts: int) -> int:
    """One 63-bit seed from several numbers, the same in every process."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
