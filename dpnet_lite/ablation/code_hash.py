"""Which code made a result: one hash over everything that decides the numbers.

Comments, docstrings and layout do not count, so that a better explanation does not make old results look foreign. Nor
do defaults of settings: a row's identity holds every setting. All versions of Python give the same hash.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent.parent
DECIDING = (
    "model/*.py",
    "datasets/base.py",
    "datasets/fold*.py",
    "datasets/images.py",
    "datasets/novel.py",
    "datasets/toy*.py",
    "datasets/transforms.py",
    "datasets/union.py",
    "episodes.py",
    "features.py",
    "fold_data.py",
    "losses.py",
    "parts.py",
    "training.py",
    "training_setup.py",
    "comparison.py",
    "scoring.py",
    "evaluation.py",
    "heads.py",
    "ablation/banks.py",
    "ablation/execution.py",
    "ablation/masks.py",
    "ablation/runs.py",
    "ablation/untrained.py",
)


@cache
def code_hash() -> str:
    """Twelve hex digits, the same in every process that runs this code."""
    digest = hashlib.sha256()
    for pattern in DECIDING:
        for path in sorted(PACKAGE.glob(pattern)):
            digest.update(f"{path.relative_to(PACKAGE).as_posix()}\n{plain_code(path.read_text('utf-8'))}\n".encode())
    return digest.hexdigest()[:12]


def plain_code(source: str) -> str:
    """What a Python source does, without its comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return _plain(tree)


def _plain(part: Any) -> str:
    """A syntax tree as text without fields that are empty: newer versions of Python have more of them."""
    if isinstance(part, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(part) if value is not None and value != []]
        return f"{type(part).__name__}({', '.join(f'{name}={_plain(value)}' for name, value in fields)})"
    return f"[{', '.join(map(_plain, part))}]" if isinstance(part, list) else repr(part)
