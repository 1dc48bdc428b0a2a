"""Training of the head on a frozen backbone's features, on Lightning Fabric: one loop, checkpoints, resume.

A run is determined by its configs and seed: the training episodes are a frozen list, step s takes the same ones in
every run, and a resumed run ends with the weights of an uninterrupted one, bit for bit on a CPU. Neither the number of
processes nor the parts that each takes its share in change what is computed, apart from the order of sums.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from .config import ModelConfig, TrainingConfig
from .features import EpisodeBatch, EpisodeSource
from .interrupts import interrupt_held, terminate_as_interrupt
from .losses import Targets, episode_loss, episode_targets, learning_rate, target_weights
from .model.base import EpisodeNetwork
from .parts import Part, StepParts, check_division
from .run_folder import RunFolder
from .training_setup import build_optimiser, hash_seed, initial_network, training_episodes

Progress = Callable[[Iterable[int]], Iterable[int]]
Validate = Callable[[EpisodeNetwork], float]
FREE = ("accumulate", "compile")  # settings that change how a step is computed, not what


class TrainingStopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM reached the training loop; the state was written first."""


@dataclass(frozen=True)
class TrainingResult:
    head: EpisodeNetwork  # on the CPU, in eval mode
    losses: list[dict[str, float]]  # a row per logged step: step, loss, main, learning_rate
    validation: list[dict[str, float]]  # a row per validation: step, miou of held-out base classes
    step: int  # the step whose weights these are
    episodes_sha256: str = ""  # of the training episodes
    seconds: float = 0.0  # of this process in the loop
    waited: float = 0.0  # seconds in which its source had to wait for images


class Trainer:
    """Trains one head on the base classes of one source of episodes.

    Args:
        bank: gives the batches: features of the training images, or the images themselves.
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
        bank: EpisodeSource,
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
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1, precision=config.precision)
        check_division(config, self.fabric.world_size)
        self.folder, self.validate = RunFolder(folder, writes=self.fabric.is_global_zero), validate
        self.network = initial_network(model_config, config.seed, bank.backbone, initial_weights)
        module: Any = torch.compile(self.network) if config.compile else self.network
        self.head, self.optimiser = self.fabric.setup(module, build_optimiser(self.network, config))
        self.episodes = training_episodes(bank.dataset, classes, config, fold=fold)
        settings = {name: value for name, value in config.to_dict().items() if name not in FREE}
        self.identity = {
            "model": model_config.to_dict(), "training": settings, "episodes": self.episodes.sha256,
            "backbone": bank.backbone.cache_key, "size": bank.size,
        }  # fmt: skip
        self.step = 0
        self.seconds = 0.0
        self.losses: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    def run(self, *, resume: bool = False, progress: Progress = iter, stop_after: int | None = None) -> TrainingResult:
        """Train to the last step (or `stop_after`), from the saved state if `resume`.

        Ctrl-C and SIGTERM write the state, then raise TrainingStopped. So does a lost process, with RuntimeError.
        """
        if resume:
            self._restore()
        else:
            self.folder.refuse_stopped_run()
        last = self.config.steps if stop_after is None else min(stop_after, self.config.steps)
        self.head.train()
        self.folder.log(self.losses, anew=True)  # rows of an earlier run, or of steps after the saved state, go
        rank, n_processes = self.fabric.global_rank, self.fabric.world_size
        steps = range(self.step, last)
        parts = StepParts(self.episodes.episodes, self.config, steps, rank=rank, n_processes=n_processes)
        batches = iter(self.bank.training_batches(parts, self.config))
        started = time.perf_counter()
        try:
            with terminate_as_interrupt():
                for _ in progress(steps) if len(steps) else ():  # a run that is done shows no bar
                    with interrupt_held():
                        self._step([self._next(batches, parts, number) for number in range(self.config.accumulate)])
        except KeyboardInterrupt as error:
            self._save()
            kept = "nothing of this training is kept" if self.folder.path is None else "go on with --resume"
            raise TrainingStopped(f"stopped at step {self.step} of {self.config.steps}; {kept}") from error
        except RuntimeError as error:
            if n_processes == 1:
                raise
            self._save()
            raise lost_process(error, self.step, self.config.steps, rank, n_processes) from error
        finally:
            self.seconds += time.perf_counter() - started
        self._save()
        return self._result()

    def _next(self, batches: Iterator[EpisodeBatch], parts: StepParts, number: int) -> tuple[EpisodeBatch, Part]:
        """The next batch on the device, and which part it is: the `number`-th of this step."""
        batch = next(batches)
        part = parts[(self.step - parts.steps.start) * self.config.accumulate + number]
        return EpisodeBatch(*(self.fabric.to_device(tensor) for tensor in batch)), part

    def _step(self, batches: Sequence[tuple[EpisodeBatch, Part]]) -> None:
        config, step = self.config, self.step
        rate = learning_rate(step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        targets = [episode_targets(batch, self.model_config.auxiliary) for batch, _ in batches]
        totals = self._sum(target_weights(targets, config.foreground_weight))
        self.optimiser.zero_grad()
        losses = torch.zeros(2, device=self.fabric.device)
        for number, ((batch, part), target) in enumerate(zip(batches, targets, strict=True), start=1):
            with self.fabric.no_backward_sync(self.head, enabled=number < len(batches)):
                losses += self._backward(batch, part, target, totals)
        self.fabric.clip_gradients(self.head, self.optimiser, max_norm=config.gradient_clip)
        self.optimiser.step()
        self.step = step + 1
        if self.step % 10 == 0 or self.step == config.steps:
            loss, main = self._sum(losses).tolist()
            self._log({"step": self.step, "loss": loss, "main": main, "learning_rate": rate})
        if self.validate is not None and (self.step % config.validate_every == 0 or self.step == config.steps):
            self._validate()
        if config.checkpoint_every and self.step % config.checkpoint_every == 0:
            self._save()

    def _sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        total = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def _backward(self, batch: EpisodeBatch, part: Part, targets: Targets, totals: Tensor) -> Tensor:
        """Add a part's gradients; returns what it adds to the step's loss and main loss, float [2]."""
        # Dropout draws from a generator state of this step's own: a resumed run needs no saved random state.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_seed(self.config.seed, part.step, 0))
            self.network.draw_kept_channels(len(part.episodes), first=part.first, whole=part.n_step)
        output = self.head(
            batch.support_features, batch.support_masks, batch.query_features,
            size=(self.bank.size, self.bank.size), support_background=batch.support_background,
            query_masks=(batch.query_labels == 1).float(),
        )  # fmt: skip
        loss, main = episode_loss(output, targets, self.config, totals)
        self.fabric.backward(loss * self.fabric.world_size)  # DDP takes the mean over the processes
        return torch.stack([loss.detach(), main.detach()]).float()

    def _validate(self) -> None:
        assert self.validate is not None
        score = self.validate(self.network.eval())
        self.network.train()
        self.validation.append({"step": self.step, "miou": score})
        if self.best is None or score > self.best[0]:
            weights = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
            self.best = (score, self.step, weights)

    def _log(self, row: dict[str, float]) -> None:
        self.losses.append(row)
        self.fabric.log_dict({k: v for k, v in row.items() if k != "step"}, step=int(row["step"]))
        self.folder.log([row])

    def _save(self) -> None:
        self.folder.save({
            "step": self.step, "head": self.network.state_dict(), "optimiser": self.optimiser.state_dict(),
            "losses": self.losses, "validation": self.validation, "best": self.best, "identity": self.identity,
        })  # fmt: skip

    def _restore(self) -> None:
        state = self.folder.restore(self.identity)
        self.network.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses, self.validation = state["step"], state["losses"], state["validation"]
        self.best = None if state["best"] is None else tuple(state["best"])

    def _result(self) -> TrainingResult:
        """The last weights, or the best on held-out base classes where those were asked for."""
        head = copy.deepcopy(self.network).cpu().eval()
        step = self.step
        if self.best is not None:
            head.load_state_dict(self.best[2])
            step = self.best[1]
        return TrainingResult(
            head, self.losses, self.validation, step, self.episodes.sha256, self.seconds, self.bank.waited
        )  # fmt: skip


def lost_process(error: RuntimeError, step: int, steps: int, rank: int, n_processes: int) -> RuntimeError:
    """One clear line for what a process sees when another one is gone."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    return RuntimeError(
        f"process {rank} of {n_processes} stopped at step {step} of {steps}, most likely because another one is gone "
        f"({reason}); go on with --resume, with a number of processes that divides the batch"
    )
