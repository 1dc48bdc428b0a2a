"""Training of a network on a frozen backbone's features, on Lightning Fabric: one loop, checkpoints, resume.

A run is determined by its configs and seed: the training episodes are a frozen list, step s takes the same ones in
every run, and a resumed run ends with the weights of an uninterrupted one, bit for bit on a CPU. Neither the number of
processes nor the parts that each takes its share in change what is computed, apart from the order of sums.
"""

from __future__ import annotations

import copy
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.episodes import DEFAULT_MIN_AREA, EpisodeList, Part, StepParts, check_division, draw_episodes
from dpnet_lite.features import EpisodeSource, Progress
from dpnet_lite.losses import Targets, episode_loss, episode_targets, learning_rate, target_weights
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_Validate = Callable[[nn.Module], float]
_FREE = ("accumulate", "compile")  # settings that change how a step is computed, not what


def area_rule(config: TrainingConfig) -> dict[str, Any]:
    """Which images may serve a class in this training: by pixels where `min_pixels` is set, else by share."""
    return {"min_area": 0.0 if config.min_pixels else DEFAULT_MIN_AREA, "min_pixels": config.min_pixels}


def training_episodes(
    dataset: SegmentationDataset, classes: Sequence[int], config: TrainingConfig, *, fold: int
) -> EpisodeList:
    """The frozen list of a run: `steps` times `batch_size` episodes of the base classes."""
    count = config.steps * config.batch_size
    how = {"count": count, "seed": config.seed, "repeats": True, **area_rule(config)}
    return draw_episodes(dataset, classes, fold=fold, n_shot=config.n_shot, **how)


def initial_network(
    config: ModelConfig,
    backbone: Backbone,
    seed: int,
    *,
    initial_weights: Mapping[str, Tensor] | None = None,
    kind: Callable[[ModelConfig, int, int], nn.Module] = DPNet,
) -> nn.Module:
    """A new network from a seed.

    Args:
        initial_weights: replace those of its weights that have their name and shape, so that different networks start
            alike where they can.
        kind: the class of the network; DPNet, or a rival's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(config, backbone.out_channels, backbone.deep_channels)
    own, given = network.state_dict(), initial_weights or {}
    network.load_state_dict({n: given[n] if n in given and given[n].shape == w.shape else w for n, w in own.items()})
    return network


class TrainingStopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM reached the training loop; the state was written first."""


@dataclass(frozen=True)
class TrainingResult:
    head: nn.Module  # the trained network, on the CPU, in float32 and eval mode
    losses: list[dict[str, float]]  # a row per logged step: step, loss, main, learning_rate
    validation: list[dict[str, float]]  # a row per validation: step, miou of held-out base classes
    step: int  # the step whose weights these are
    episodes_sha256: str = ""  # of the training episodes
    seconds: float = 0.0  # of this process in the loop
    waited: float = 0.0  # seconds in which its source had to wait for images


class Trainer:
    """Trains one network, in place, on the base classes of one source of episodes.

    Args:
        network: what is trained: DPNet, or another network of its form (`config`, `reduce`, `forward`).
        config: how; its seed gives the episodes and what is dropped.
        source: gives the batches: features of the training images, or the images themselves.
        classes: class indices to train on (held-out base classes already taken away).
        fold: recorded in the episode list.
        folder: where `state.bin` (for resuming) and `log.jsonl` go; None keeps everything in memory.
        validate: scores the network on held-out *base* classes; never give it novel ones.
        fabric: default is one CPU process.
    """

    def __init__(
        self,
        network: nn.Module,
        config: TrainingConfig,
        source: EpisodeSource,
        classes: Sequence[int],
        *,
        fold: int,
        folder: Path | None = None,
        validate: _Validate | None = None,
        fabric: Fabric | None = None,
    ) -> None:
        if (validate is None) != (config.validate_every == 0):
            raise ValueError(
                f"validate_every is {config.validate_every}, but a validation was "
                f"{'not ' if validate is None else ''}given; give both or neither"
            )
        self.network: Any = network
        model_config: Any = network.config
        self.config, self.source, self.validate = config, source, validate
        if fabric is None:
            from lightning_fabric import Fabric  # takes seconds, and who only looks at a network does without

            fabric = Fabric(accelerator="cpu", devices=1, precision=config.precision)
        self.fabric = fabric
        check_division(config, self.fabric.world_size)
        self.folder = RunFolder(folder, writes=self.fabric.is_global_zero)
        device = self.fabric.device
        module: Any = compiled(network, device) if config.compile else network
        self.module, self.optimiser = self.fabric.setup(module, build_optimiser(network, config, device))
        self.episodes = training_episodes(source.dataset, classes, config, fold=fold)
        self.identity = {
            "model": model_config.to_dict(),
            "training": {name: value for name, value in config.to_dict().items() if name not in _FREE},
            "episodes": self.episodes.sha256,
            "backbone": source.backbone.cache_key,
            "size": source.size,
        }
        self.step = 0
        self.is_updating = False  # from the update of the weights until its step is logged and scored
        self.seconds = 0.0
        self.losses: list[dict[str, float]] = []
        self.validation: list[dict[str, float]] = []
        self.best: tuple[float, int, dict[str, Tensor]] | None = None

    @torch.enable_grad()
    def run(self, *, resume: bool = False, progress: Progress = iter, stop_after: int | None = None) -> TrainingResult:
        """Train to the last step (or `stop_after`), from the saved state if `resume`.

        Ctrl-C and SIGTERM wait for the end of the step and write the state, then raise TrainingStopped. An error writes
        it too, unless it broke off an update of the weights.
        """
        if resume:
            self._restore()
        else:
            self.folder.refuse_stopped_run()
        last = self.config.steps if stop_after is None else min(stop_after, self.config.steps)
        self.module.train()
        self.folder.log(self.losses, anew=True)  # rows of an earlier run, or of steps after the saved state, go
        steps = range(self.step, last)
        rank, n_processes = self.fabric.global_rank, self.fabric.world_size
        parts = StepParts(self.episodes.episodes, self.config, steps, rank=rank, n_processes=n_processes)
        batches = iter(self.source.training_batches(parts, self.config))
        started = time.perf_counter()
        try:
            with _held_signals() as noted:
                for _ in progress(steps) if len(steps) else ():  # a run that is done shows no bar
                    self._step([self._next(batches, parts, number) for number in range(self.config.accumulate)])
                    if noted:
                        raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            self._save_if_whole()
            kept = "nothing of this training is kept" if self.folder.path is None else "go on with --resume"
            raise TrainingStopped(f"stopped at step {self.step} of {self.config.steps}; {kept}") from error
        except (RuntimeError, ValueError, OSError) as error:
            if self.step > steps.start:
                self._save_if_whole()
            if (remedy := _remedy(error)) is not None:
                raise RuntimeError(f"step {self.step + 1} broke off: {remedy}") from error
            raise
        finally:
            self.seconds += time.perf_counter() - started
            del batches  # ends the processes that decode images
        self._save()
        return self._result()

    def _next(self, batches: Iterator[EpisodeBatch], parts: StepParts, number: int) -> tuple[EpisodeBatch, Part]:
        """The next batch on the device, and which part it is: the `number`-th of this step."""
        part = parts[(self.step - parts.steps.start) * self.config.accumulate + number]
        return next(batches).to(self.fabric.device), part

    def _step(self, batches: Sequence[tuple[EpisodeBatch, Part]]) -> None:
        config, step = self.config, self.step
        rate = learning_rate(step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        targets = [episode_targets(batch, self.network.config.auxiliary) for batch, _ in batches]
        totals = self._sum(target_weights(targets, config.foreground_weight))
        self.optimiser.zero_grad()
        losses = torch.zeros(2, device=self.fabric.device)
        for number, ((batch, part), target) in enumerate(zip(batches, targets, strict=True), start=1):
            with self.fabric.no_backward_sync(self.module, enabled=number < len(batches)):
                losses += self._backward(batch, part, target, totals)
        self._clip(step, batches)
        is_logged = (step + 1) % 10 == 0 or step + 1 == config.steps
        loss, main = self._sum(losses).tolist() if is_logged else (0.0, 0.0)  # before the update: it may fail
        self.is_updating = True
        self.optimiser.step()
        self.step = step + 1
        if is_logged:
            row = {"loss": loss, "main": main, "learning_rate": rate}
            self.fabric.log_dict(row, step=self.step)
            self.losses.append({"step": self.step, **row})
            self.folder.log(self.losses[-1:])
        if self.validate is not None and (self.step % config.validate_every == 0 or self.step == config.steps):
            self._validate(self.validate)
        self.is_updating = False
        if config.checkpoint_every and self.step % config.checkpoint_every == 0:
            self._save()

    def _backward(self, batch: EpisodeBatch, part: Part, targets: Targets, totals: Tensor) -> Tensor:
        """Add a part's gradients; returns what it adds to the step's loss and main loss, float [2]."""
        kept = None
        if self.network.config.dropout:
            # Drawn for the whole step from a generator state of its own, and outside compiled code: an episode loses
            # the same channels however a step is divided, and a resumed run needs no saved random state.
            with torch.random.fork_rng(devices=[]):
                state = np.random.SeedSequence((self.config.seed, part.step, 0)).generate_state(1, np.uint64)
                torch.manual_seed(int(state[0] >> np.uint64(1)))  # 63 bits
                kept = self.network.reduce.draw_kept(part.n_step)[part.first : part.first + len(part.episodes)]
        output = self.module(batch, (self.source.size, self.source.size), kept_channels=kept)
        loss, main = episode_loss(output, targets, self.config, totals)
        self.fabric.backward(loss * self.fabric.world_size)  # DDP takes the mean over the processes
        return torch.stack([loss.detach(), main.detach()]).float()

    def _clip(self, step: int, batches: Sequence[tuple[EpisodeBatch, Part]]) -> None:
        try:
            self.fabric.clip_gradients(self.module, self.optimiser, max_norm=self.config.gradient_clip)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            known = all(batch.query_features.isfinite().all() for batch, _ in batches)
            remedy = "lower learning_rate" if known else "the features are not either: look at the backbone's weights"
            episodes = [f"class {e.class_index} images {list(e.images)}" for _, part in batches for e in part.episodes]
            raise ValueError(
                f"the loss or the gradient of step {step + 1} is not finite (learning rate "
                f"{learning_rate(step, self.config):.3g}; episodes: {', '.join(episodes)}); {remedy}"
            ) from error

    def _sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        total = self.fabric.all_reduce(values, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def _validate(self, validate: _Validate) -> None:
        score = float(validate(self.network.eval()))
        self.network.train()
        self.validation.append({"step": self.step, "miou": score})
        if self.best is None or score > self.best[0] or self.best[0] != self.best[0]:  # NaN is no best
            weights = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
            self.best = (score, self.step, weights)

    def _save(self) -> None:
        self.folder.save(
            {
                "step": self.step,
                "head": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "losses": self.losses,
                "validation": self.validation,
                "best": self.best,
                "identity": self.identity,
            }
        )

    def _save_if_whole(self) -> None:
        if not self.is_updating and all(weights.isfinite().all() for weights in self.network.parameters()):
            with _held_signals():
                self._save()

    def _restore(self) -> None:
        state = self.folder.restore(self.identity)
        try:
            self.best = None if state["best"] is None else tuple(state["best"])
            for weights in (state["head"] if self.best is None else self.best[2], state["head"]):
                self.network.load_state_dict(weights)
            self.optimiser.load_state_dict(state["optimiser"])
        except Exception as error:  # parts made by others can raise anything
            raise ValueError(f"{self.folder.path} holds a state of another network; delete it to start anew") from error
        self.step, self.losses, self.validation = state["step"], state["losses"], state["validation"]

    def _result(self) -> TrainingResult:
        """The last weights, or the best on held-out base classes where those were asked for."""
        head, step = copy.deepcopy(self.network).cpu().eval(), self.step
        if self.best is not None:
            _, step, weights = self.best
            head.load_state_dict(weights)
        episodes, waited = self.episodes.sha256, self.source.waited
        return TrainingResult(head.float(), self.losses, self.validation, step, episodes, self.seconds, waited)


def _remedy(error: Exception) -> str | None:
    """What helps where a process died or memory ran out; None for other errors."""
    if isinstance(error, torch.OutOfMemoryError) or "alloc_cpu" in str(error):
        return "memory is full; raise accumulate (--training accumulate=2), or lower batch_size or the size of images"
    if "DataLoader worker" in str(error):
        return "a process that reads images died, perhaps for want of memory; go on with --resume and fewer --workers"
    return None


def compiled(network: nn.Module, device: torch.device) -> Any:
    """The network, compiled; for a GPU its work is recorded as CUDA graphs too, so that none waits for a launch."""
    return torch.compile(network, mode="reduce-overhead" if device.type == "cuda" else "default")


def build_optimiser(network: nn.Module, config: TrainingConfig, device: torch.device) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum [precedent: PFENet and its relatives]; the rate is set at every step."""
    if config.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay, fused=device.type == "cuda")


@contextmanager
def _held_signals() -> Iterator[list[int]]:
    """Inside the block Ctrl-C and SIGTERM are only noted in the list: a step broken off cannot be resumed bit for bit.

    A second one waits as well: torchrun passes on the Ctrl-C that its processes had from the terminal already. Whoever
    has handlers of their own, or ignores a signal, keeps that.
    """
    noted: list[int] = []
    usual: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    is_main = threading.current_thread() is threading.main_thread()  # signals reach the main thread only
    held = [number for number, handler in usual.items() if is_main and signal.getsignal(number) is handler]

    for number in held:
        signal.signal(number, lambda number, frame: noted.append(number))
    try:
        yield noted
    finally:
        for number in held:
            signal.signal(number, usual[number])
