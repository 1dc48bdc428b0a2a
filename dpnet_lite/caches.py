"""Where things are kept that can be made again: features, indices, rasterised masks."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """`dpnet_lite` in the user's folder for caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dpnet_lite"
