"""Where a network runs."""

from __future__ import annotations

import torch


def devices_here() -> list[str]:
    """Names of the devices of this machine, GPUs first."""
    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = ["cuda", *(f"cuda:{number}" for number in range(n_gpus))] if n_gpus else []
    return [*gpus, *(["mps", "mps:0"] if torch.backends.mps.is_available() else []), "cpu"]


def check_device(device: str | torch.device) -> str | torch.device:
    """`device` itself, or what auto stands for: the first GPU, else the CPU; ValueError where one named is not here."""
    here = devices_here()
    if not isinstance(device, str | torch.device) or str(device) not in (*here, "auto"):
        raise ValueError(
            f"device is {device!r}, but PyTorch finds {', '.join(here)} here; use --device {here[-1]} or auto"
        )
    return here[0] if device == "auto" else device
