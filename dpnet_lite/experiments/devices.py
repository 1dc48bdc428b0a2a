"""Where training runs: one process on a device, or one of several started by torchrun or `fabric run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def check_device(device: str) -> str:
    """`device` itself; ValueError where it is none of cpu, cuda and cuda:NUMBER, or is not there."""
    kind, colon, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not index.isdigit())):
        raise ValueError(f"device is {device!r}; give cpu, cuda or cuda:NUMBER")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device is {device!r}, but PyTorch finds no GPU here; use --device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise ValueError(f"device is {device!r}, but there are {torch.cuda.device_count()} GPUs, counted from 0")
    return device


def make_fabric(device: str, precision: str, *, tensorboard: Path | None = None) -> Fabric:
    """Fabric for one process on `device`, or for all processes when started by torchrun or `fabric run`."""
    from lightning_fabric import Fabric  # takes seconds to import
    from lightning_fabric.loggers import TensorBoardLogger

    world, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    kind, _, index = check_device(device).partition(":")
    devices: int | list[int] = local if world > 1 else ([int(index)] if index else 1)
    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=max(1, world // max(1, local)),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
        loggers=[] if tensorboard is None else [TensorBoardLogger(tensorboard)],
    )
    fabric.launch()
    return fabric
