"""The two steps that are timed, on synthetic episodes: training and evaluation of the whole path, backbone and head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.cpu import Episodes
from dpnet_lite.backbones.backbone import ARCHITECTURES, build_backbone
from dpnet_lite.backbones.replay import Replay
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.features import assemble
from dpnet_lite.losses import episode_loss, episode_targets
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch, Output
from dpnet_lite.training import build_optimiser, compiled

PRECISIONS = ("fp32", "tf32", "bf16")


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """TF32 on for "tf32" and off otherwise, in matrix products and in convolutions (where PyTorch's default is on).

    PyTorch's older switches are used: after the newer ones its compiler failed in 2.9 and 2.10 (pytorch issue 166387).
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


class EpisodeSteps:
    """The default network on one frozen backbone with random weights, 1-shot, `size` pixels."""

    def __init__(self, backbone: str, precision: str, *, device: torch.device, size: int) -> None:
        self.device, self.size, self.half = device, size, precision == "bf16"
        self.backbone = build_backbone(backbone, "random", device=device, precision="bf16" if self.half else "fp32")
        yard = ARCHITECTURES[backbone].build().eval().requires_grad_(False)  # as torchvision and PFENet build it
        self.yard: torch.nn.Module = yard.to(device, self.backbone.dtype, memory_format=torch.channels_last)
        self.model, self.training = ModelConfig(), TrainingConfig()
        self.head = DPNet(self.model, self.backbone.out_channels, self.backbone.deep_channels).to(device)
        self.network: torch.nn.Module = self.head  # the same, or compiled
        self.answer = Replay(self._answer, self.head)
        self.optimiser = build_optimiser(self.head, self.training, device)

    def compile(self) -> None:
        """Compile yard and head, each by itself, as `compile=true` does; the work is done at the next step."""
        self.yard, self.network = compiled(self.yard, self.device), compiled(self.head, self.device)
        self.answer = self._answer

    def episodes(self, count: int) -> tuple[Tensor, Tensor]:
        """Random images [2 B, 3, S, S], the queries first, and labels int64 [2 B, S, S]: discs on background."""
        drawn = Episodes(self.size, 1, count)
        return drawn.images.to(self.device), drawn.labels.to(self.device)

    @torch.no_grad()
    def backbone_alone(self, images: Tensor, labels: Tensor) -> Any:
        """The features of the plain backbone and nothing else: what a head is measured by."""
        return self.yard(images.to(self.backbone.dtype, memory_format=torch.channels_last))

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> Tensor:
        """Features, head, arg-max: predictions [B, S, S]. `labels` of the query are not looked at."""
        self.network.eval()
        return self.answer(*assemble(self.backbone(images), labels, len(images) // 2)).argmax(1)

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Features without gradient, head, losses, backward, clipping, AdamW."""
        self.network.train()
        batch = assemble(self.backbone(images), labels, len(images) // 2)
        output = self._forward(batch, self.head.reduce.draw_kept(len(images) // 2))
        loss = episode_loss(output, episode_targets(batch, self.model.auxiliary), self.training)[0]
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.training.gradient_clip)
        self.optimiser.step()

    def _answer(self, *tensors: Tensor) -> Tensor:
        return self._forward(EpisodeBatch(*tensors)).logits

    def _forward(self, batch: EpisodeBatch, kept_channels: Tensor | None = None) -> Output:
        """The head's output in float32, as Fabric gives it in mixed precision."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            output: Output = self.network(batch, (self.size, self.size), kept_channels=kept_channels)
        auxiliary = output.auxiliary_logits
        return Output(output.logits.float(), None if auxiliary is None else auxiliary.float(), None)
