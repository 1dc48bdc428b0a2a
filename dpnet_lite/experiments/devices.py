"""Where training runs: one process on a device, or one of several started by torchrun or `fabric run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from dpnet_lite.backbones.devices import check_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def world_size() -> int:
    """How many processes torchrun started for this job; ValueError where they could not find each other."""
    size = os.environ.get("WORLD_SIZE", "1")
    lacks = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if not (size.isascii() and size.isdecimal()) or (size != "1" and lacks):
        reason = f"{', '.join(lacks)} not set" if lacks else "that is no number"
        raise ValueError(f"the environment has WORLD_SIZE={size}, {reason}: unset it, or start with torchrun")
    return int(size)


def make_fabric(device: str, precision: str, *, tensorboard: Path | None = None) -> Fabric:
    """Fabric for one process on `device`, or for all processes when started by torchrun or `fabric run`."""
    from lightning_fabric import Fabric  # takes seconds to import
    from lightning_fabric.loggers import TensorBoardLogger

    world, local = world_size(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    kind, _, index = str(check_device(device)).partition(":")
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
