"""Packages that only parts of this room need."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(module: str, use: str) -> ModuleType:
    """Import a package of the extra `benchmarks`; where it is missing, ModuleNotFoundError says what it is for."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{module.partition('.')[0]} {use}: pip install 'dpnet-lite[benchmarks]'") from None
