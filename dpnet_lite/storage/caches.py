"""Where caches lie: what can be made again, features, indices, rasterised masks."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from dpnet_lite.storage.files import told

_LOG = logging.getLogger(__name__)


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
