"""The two steps that are timed, on synthetic episodes: training and evaluation of the whole path, backbone and head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.config import ModelConfig, TrainingConfig
from dpnet_lite.losses import episode_loss, episode_targets
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.model.episode_batch import EpisodeBatch, Output
from dpnet_lite.model.prototypes import masks_at

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
        self.model, self.training, self.yard = ModelConfig(), TrainingConfig(), None
        self.head = DPNet(self.model, self.backbone.out_channels, self.backbone.deep_channels).to(device)
        self.network: torch.nn.Module = self.head  # the same, or compiled
        self.optimiser = torch.optim.AdamW(
            self.head.parameters(), lr=self.training.learning_rate, weight_decay=self.training.weight_decay
        )

    def compile(self) -> None:
        """Compile backbone and head, each by itself; the work is done at the next step."""
        self.backbone.body = torch.compile(self.backbone.body, dynamic=False)
        self.network = torch.compile(self.network, dynamic=False)

    def episodes(self, count: int) -> tuple[Tensor, Tensor]:
        """Random images [B, 2, 3, S, S], the query first, and labels int64 [B, 2, S, S]: discs on background."""
        images = torch.randn(count, 2, 3, self.size, self.size, device=self.device)
        axis = torch.linspace(-1, 1, self.size, device=self.device)
        centre = torch.empty(count, 2, 2, 1, device=self.device).uniform_(-0.4, 0.4)
        rows, columns = (axis - centre[:, :, 0]) ** 2, (axis - centre[:, :, 1]) ** 2  # [B, 2, S]
        return images, (rows[..., :, None] + columns[..., None, :] < 0.25).long()

    def evaluate(self, images: Tensor, labels: Tensor) -> Tensor:
        """Features, head, arg-max: predictions [B, S, S]. `labels` of the query are not looked at."""
        self.network.eval()
        with torch.no_grad():
            return self._forward(self._batch(images, labels)).logits.argmax(1)

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Features without gradient, head, losses, backward, clipping, AdamW."""
        self.network.train()
        batch = self._batch(images, labels)
        loss = self._loss(self._forward(batch, self.head.reduce.draw_kept(len(images))), batch)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.training.gradient_clip)
        self.optimiser.step()

    def _batch(self, images: Tensor, labels: Tensor) -> EpisodeBatch:
        features = self.backbone(images.flatten(0, 1)).unflatten(0, images.shape[:2])  # [B, 2, D, h, w]
        cells = (features.shape[-2], features.shape[-1])
        return EpisodeBatch(
            support_features=features[:, 1:],
            support_masks=masks_at(labels[:, 1:] == 1, cells),
            support_background=masks_at(labels[:, 1:] == 0, cells),
            query_features=features[:, 0],
            query_labels=labels[:, 0],
        )

    def _forward(self, batch: EpisodeBatch, kept_channels: Tensor | None = None) -> Output:
        """The head's output in float32, as Fabric gives it in mixed precision."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.half):
            output: Output = self.network(batch, (self.size, self.size), kept_channels=kept_channels)
        auxiliary = output.auxiliary_logits
        return Output(output.logits.float(), None if auxiliary is None else auxiliary.float(), None)

    def _loss(self, output: Output, batch: EpisodeBatch) -> Tensor:
        return episode_loss(output, episode_targets(batch, self.model.auxiliary), self.training)[0]
