"""Caches, which hold what can be made again: where they lie, and files that know what they hold.

A sealed file that was changed, cut or misplaced counts as absent, and is made again.
"""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from dpnet_lite.storage.files import sha256, told, write_atomically

_LOG = logging.getLogger(__name__)
_LENGTH = 64  # of a seal, which stands behind the data, where readers of PNG do not look


def default_cache() -> Path:
    """`dpnet_lite` in the user's folder for caches; OSError where this user has none."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpnet_lite"
    except RuntimeError:  # a user without a name, as in some containers
        raise OSError("there is no home folder to keep a cache in; name a folder with --cache") from None


def usable_cache(named: Path | None = None) -> Path | None:
    """The folder named, or the default one; None where nothing can be written there, which is said in a line."""
    try:
        folder = named or default_cache()
        with told(folder, "--cache"):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return folder
    except OSError as error:
        _LOG.warning("features are not kept for the next run: %s", error)
        return None


def write_sealed(path: Path, key: str, data: bytes) -> None:
    """Write data with the digest of it and of `key`, which says what it is for."""
    write_atomically(path, data + _seal(key, data), option="--cache")


def read_sealed(path: Path, key: str) -> bytes | None:
    """The data that was written under `key`; None where the file is absent, or not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[:-_LENGTH]
    return data if content[-_LENGTH:] == _seal(key, data) else None


def _seal(key: str, data: bytes) -> bytes:
    return sha256(f"{key}\n".encode() + data).encode()
