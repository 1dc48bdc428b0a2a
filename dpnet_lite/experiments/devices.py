"""Where training runs: one process on a device, or one of several started by torchrun or `fabric run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def check_device(device: str) -> str:
    """`device` itself, or what auto stands for: the first GPU, else the CPU; ValueError where it is not here."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = ["cuda", *(f"cuda:{number}" for number in range(n_gpus))] if n_gpus else []
    here = [*gpus, *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if device not in (*here, "auto"):
        raise ValueError(
            f"device is {device!r}, but PyTorch finds {', '.join(here)} here; use --device {here[-1]} or auto"
        )
    return here[0] if device == "auto" else device


def world_size() -> int:
    """How many processes torchrun started for this job; ValueError where they could not find each other."""
    size = os.environ.get("WORLD_SIZE", "1")
    lacks = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if not size.isdecimal() or (size != "1" and lacks):
        reason = f"{', '.join(lacks)} not set" if lacks else "that is no number"
        raise ValueError(f"the environment has WORLD_SIZE={size}, {reason}: unset it, or start with torchrun")
    return int(size)


def make_fabric(device: str, precision: str, *, tensorboard: Path | None = None) -> Fabric:
    """Fabric for one process on `device`, or for all processes when started by torchrun or `fabric run`."""
    from lightning_fabric import Fabric  # takes seconds to import
    from lightning_fabric.loggers import TensorBoardLogger

    world, local = world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
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
