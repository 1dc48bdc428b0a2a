"""Cache files that know what they hold: a changed, cut or misplaced one counts as absent, and is made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpnet_lite.storage.files import write_atomically

_LENGTH = 64  # of a seal, which stands behind the data, where readers of PNG do not look


def write_sealed(path: Path, key: str, data: bytes) -> None:
    """Write data with the digest of it and of `key`, which says what it is for. OSError as by `cache_errors`."""
    with cache_errors(path.parent):
        write_atomically(path, data + _seal(key, data))


def read_sealed(path: Path, key: str) -> bytes | None:
    """The data that was written under `key`; None where the file is absent, or not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    data = content[:-_LENGTH]
    return data if content[-_LENGTH:] == _seal(key, data) else None


@contextmanager
def cache_errors(folder: Path) -> Iterator[None]:
    """What goes wrong with files of the cache, as an OSError of one line with the remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot write to {folder} ({reason}); make room there, or give --cache another folder") from None


def _seal(key: str, data: bytes) -> bytes:
    return hashlib.sha256(f"{key}\n".encode() + data).hexdigest().encode()
