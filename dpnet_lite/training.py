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

from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.features import EpisodeBatch, EpisodeSource
from dpnet_lite.interrupts import ignore_requests_to_end, interrupt_held, terminate_as_interrupt
from dpnet_lite.losses import Targets, episode_loss, episode_targets, learning_rate, target_weights
from dpnet_lite.model.base import EpisodeNetwork
from dpnet_lite.parts import Part, StepParts, check_division
from dpnet_lite.run_folder import RunFolder
from dpnet_lite.training_setup import build_optimiser, hash_seed, initial_network, training_episodes

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
            "model": model_config.to_dict(),
            "training": settings,
            "episodes": self.episodes.sha256,
            "backbone": bank.backbone.cache_key,
            "size": bank.size,
        }
        self.step = 0
        self.is_updating = False  # from the update of the weights until its step is logged and scored
        self.seconds = 0.0
        self.losses: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    def run(self, *, resume: bool = False, progress: Progress = iter, stop_after: int | None = None) -> TrainingResult:
        """Train to the last step (or `stop_after`), from the saved state if `resume`.

        Ctrl-C and SIGTERM write the state, then raise TrainingStopped. An error writes it too, unless it broke off an
        update of the weights; that another process is gone is a RuntimeError that says so.
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
            self._save_at_the_end(n_processes)
            kept = "nothing of this training is kept" if self.folder.path is None else "go on with --resume"
            raise TrainingStopped(f"stopped at step {self.step} of {self.config.steps}; {kept}") from error
        except (RuntimeError, ValueError, OSError) as error:
            is_lost = n_processes > 1 and is_lost_connection(error)
            if is_lost or self.step > steps.start:  # who usually saves may be the one that is gone
                self._save_at_the_end(n_processes, whoever=is_lost)
            if is_lost:
                raise lost_process(self.step, self.config.steps, rank, n_processes) from error
            raise
        finally:
            self.seconds += time.perf_counter() - started
            del batches  # ends the processes that decode images
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
        self._clip(step)
        is_logged = (step + 1) % 10 == 0 or step + 1 == config.steps
        loss, main = self._sum(losses).tolist() if is_logged else (0.0, 0.0)  # before the update: it may fail
        self.is_updating = True
        self.optimiser.step()
        self.step = step + 1
        if is_logged:
            self._log({"step": self.step, "loss": loss, "main": main, "learning_rate": rate})
        if self.validate is not None and (self.step % config.validate_every == 0 or self.step == config.steps):
            self._validate()
        self.is_updating = False
        if config.checkpoint_every and self.step % config.checkpoint_every == 0:
            self._save()

    def _clip(self, step: int) -> None:
        try:
            self.fabric.clip_gradients(self.head, self.optimiser, max_norm=self.config.gradient_clip)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            rate = learning_rate(step, self.config)
            raise ValueError(
                f"the gradient of step {step + 1} is not finite (learning rate {rate:.3g}); lower learning_rate"
            ) from error

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
            batch.support_features,
            batch.support_masks,
            batch.query_features,
            size=(self.bank.size, self.bank.size),
            support_background=batch.support_background,
            query_masks=(batch.query_labels == 1).float(),
        )
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

    def _save(self, *, whoever: bool = False) -> None:
        state = {
            "step": self.step,
            "head": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "losses": self.losses,
            "validation": self.validation,
            "best": self.best,
            "identity": self.identity,
        }
        self.folder.save(state, whoever=whoever)

    def _save_at_the_end(self, n_processes: int, *, whoever: bool = False) -> None:
        """Save although this process is being told to end, as torchrun does to all when one of them is gone."""
        if n_processes > 1:
            ignore_requests_to_end()
        if not self.is_updating:
            with interrupt_held():
                self._save(whoever=whoever)

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
        )


def is_lost_connection(error: Exception) -> bool:
    """Whether an error of PyTorch says that another process cannot be reached; it has no type of its own for that."""
    words = ("gloo", "nccl", "connection", "peer")
    return isinstance(error, torch.distributed.DistBackendError) or any(word in str(error).lower() for word in words)


def lost_process(step: int, steps: int, rank: int, n_processes: int) -> RuntimeError:
    """One clear line for what a process sees when another one is gone."""
    return RuntimeError(
        f"process {rank} of {n_processes} stopped at step {step} of {steps}, because another one is gone; its state is "
        "saved: go on with --resume, with a number of processes that divides the batch"
    )
