"""Digests of what files hold; those of a large folder are kept in the user's cache, so that it is not read twice."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from dpnet_lite.storage.caches import default_cache, read_sealed, write_sealed
from dpnet_lite.storage.files import sha256

_KEY = "digests"  # of the sealed file
_SMALL = 16_000_000  # bytes: a folder of so few is read each time, in some 10 ms
_TICK = 2_000_000_000  # ns: no file system's clock has longer ones


def file_state(path: Path) -> str:
    """Size and times of change: while these are the same so is the content, unless two changes fell into one tick."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def file_digests(folder: Path, files: Sequence[Path]) -> dict[Path, str]:
    """Of each file of a folder "STATE SHA-256", the state as `file_state` has it.

    What is kept of a file holds while its state does, if it was at rest when it was read (as git's rule for "racy"
    entries). A cache that is damaged or cannot be written is no error.
    """
    states, now = {path: file_state(path) for path in files}, time.time_ns()
    is_large = sum(int(state.split()[0]) for state in states.values()) > _SMALL
    kept, found = dict[str, str](), dict[Path, str]()
    with contextlib.suppress(OSError):
        kept = json.loads((is_large and read_sealed(_cache_file(folder), _KEY)) or b"{}")
    for path, state in states.items():
        known = kept.get(str(path), "")
        found[path] = known if known.startswith(f"{state} ") else f"{state} {sha256(path.read_bytes())}"
    at_rest = {str(path): text for path, text in found.items() if max(map(int, text.split()[1:3])) < now - _TICK}
    if is_large and at_rest != kept:
        with contextlib.suppress(OSError):
            write_sealed(_cache_file(folder), _KEY, json.dumps(at_rest).encode())
    return found


def _cache_file(folder: Path) -> Path:
    return default_cache() / "digests" / sha256(os.fsencode(folder.resolve()))[:24]
