"""Reading and writing files of tensors: no pickled code is ever run, no half-written file is ever left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor


def require_file(path: str | Path) -> Path:
    """The path as a Path; FileNotFoundError where there is no such file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: check the path")
    return path


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, .pth or .pt onto the CPU, dtypes as stored.

    Pickled files are read with weights_only=True alone, which refuses everything but tensors and plain containers. A
    state dict under the key "state_dict" (as many training scripts write it) is taken out. FileNotFoundError for a
    missing file, ValueError for any other suffix, a damaged file, or content that is not a state dict.
    """
    path = require_file(path)
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load(path.read_bytes())
        except SafetensorError as error:
            raise ValueError(f"{path} is not a whole safetensors file ({error}): get it again") from error
    if path.suffix not in (".pth", ".pt"):
        raise ValueError(f"{path}: suffix {path.suffix!r} is not read; give a .safetensors, .pth or .pt file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or malicious pickle can raise anything
        raise ValueError(
            f"{path} cannot be read as plain tensors (damaged, or it holds other pickled objects, which are "
            "never run): get it again, or convert it to .safetensors where you trust it"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"{path} does not hold a state dict (names to tensors): save model.state_dict() alone")
    return dict(content)


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and values, whatever the order, device and memory format."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    """SHA-256 of data, in hex."""
    return hashlib.sha256(data).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write data so that path holds either its old content or all of the new one, whenever we are stopped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # same folder: a rename cannot cross disks
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
