"""One process at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dpnet_lite.storage.files import told

_LOG = logging.getLogger(__name__)


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
