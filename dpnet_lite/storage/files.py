"""Reading and writing files: no pickled code is run, no half-written file is left, one process at a time writes."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from torch import Tensor

_LOG = logging.getLogger(__name__)


def require_file(path: str | Path) -> Path:
    """The path as a Path; FileNotFoundError where there is no such file."""
    if not isinstance(path, str | Path) or not os.path.isfile(path):  # also where the system refuses it, as too long
        raise FileNotFoundError(f"no file {str(path) or repr(path):.500}: check the path")
    return Path(path)


def load_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from .safetensors, .pth or .pt onto the CPU, dtypes as stored.

    Pickled files are read with weights_only=True alone, which refuses everything but tensors and plain containers. A
    state dict under the key "state_dict" (as many training scripts write it) is taken out, and "module." (DataParallel)
    taken off. FileNotFoundError for a missing file, ValueError for any other suffix, a damaged file, NaN or infinity,
    or content that is not a state dict.
    """
    path = require_file(path)
    if path.suffix == ".safetensors":
        try:
            return check_tensors(safetensors.torch.load(path.read_bytes()), path)
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
    return check_tensors(content, path)


def without_module(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that DataParallel and `torch.compile` give to all names."""
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return dict(tensors)


def check_tensors(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same after `without_module`; ValueError for tensors with NaN, infinity, or no number in each place."""
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise ValueError(f"{path}: {name} is sparse; save these weights as dense tensors")
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise ValueError(f"{path}: {name} holds NaN or infinity; get these weights again, or train them anew")
    return without_module(tensors)


def require_kinds(record: Any, kinds: Mapping[str, Any], damage: str) -> None:
    """ValueError, `damage` and what is wrong, where a record that was read back lacks a field or holds another kind.

    A kind is a type, or all values that a field may have.
    """
    for name, kind in kinds.items():
        value = record.get(name) if isinstance(record, dict) else None
        fits = value in kind if isinstance(kind, tuple | range) else isinstance(value, kind)
        if not fits or isinstance(value, bool) or (isinstance(kind, range) and not isinstance(value, int)):  # as 2.0
            raise ValueError(f"{damage} ({name} is {value!r:.50})")


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


@contextmanager
def told(path: Path, option: str = "--out", needed: int = 0) -> Iterator[None]:
    """An error of the system in the block names `path`, on a full disk the bytes `needed` if known, and what helps."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # in words of our own
            raise
        size = f"; {needed:,} bytes are needed" if needed and error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise type(error)(
            f"{path} cannot be written ({error.strerror}{size}): mend that, or name another place with {option}"
        ) from error


@contextmanager
def locked(path: Path, busy: str, *, waits: bool = True, option: str = "--out") -> Iterator[None]:
    """Hold the lock file `path` for the time of the block; a process that is killed lets the next one in.

    Where another process holds it, `busy` is said and that one waited for; or, if not `waits`, raised as a ValueError.
    """
    with told(path.parent, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not waits:
                raise ValueError(f"{busy}; wait for it, or name another place with {option}") from None
            _LOG.warning("%s; waiting for it", busy)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def refuse_existing(path: Path, *, may_replace: bool) -> None:
    """ValueError where `path` is there, if only as a link to nothing, and may not be replaced."""
    if os.path.lexists(path) and not may_replace:
        raise ValueError(f"{path} is there already; give another place with --out, or replace it with --overwrite")


@contextmanager
def claimed(path: Path, *, may_replace: bool) -> Iterator[None]:
    """Keep the place of a file for the block that makes it.

    ValueError where another process does so, or where the file may not be replaced: one may have made it by now.
    """
    with locked(path.with_name(f".{path.name}.lock"), f"another process writes to {path}", waits=False):
        refuse_existing(path, may_replace=may_replace)
        yield


def write_atomically(path: Path, data: bytes, *, option: str = "--out") -> None:
    """Write data so that path holds either its old content or all of the new one, whenever we are stopped.

    OSError that names `option` where that cannot be, or path is no regular file.
    """
    path = path.resolve() if path.is_symlink() else path  # what a link stands for is written
    # Same folder: a rename cannot cross disks. Of another name: a long one leaves no room.
    temporary = path.with_name(f".{sha256(os.fsencode(path.name))[:16]}.{platform.node()}-{os.getpid()}.tmp")
    with told(path, option, len(data)):
        if path.exists() and not path.is_file():  # a file would take the place of a device
            raise OSError(f"{path} is no regular file, but a folder or a device; name a file with {option}")
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_left_overs(path.parent)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@lru_cache(maxsize=1024)
def _clear_left_overs(folder: Path) -> None:
    """Remove what processes of this machine were writing in a folder when they were killed; looks once a process."""
    own = re.compile(rf"\..+\.(?:{re.escape(platform.node())}-)?(\d+)\.tmp")
    for file in folder.glob(".*.tmp") if Path("/proc/self").exists() else ():
        if (match := own.fullmatch(file.name)) and not Path("/proc", match[1]).exists():
            file.unlink(missing_ok=True)
