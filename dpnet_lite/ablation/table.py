"""The rows of all runs: one append-only file, a JSON object a line, that no killed process can damage.

A row is written with one call and is whole or, at the very end of the file, cut off; a cut-off row is skipped when the
file is read and fenced off when the next is written. Rows of several processes do not mix.
"""

from __future__ import annotations

import base64
import json
import lzma
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.tensor_files import require_file, write_atomically

SHIPPED = Path(__file__).parent / "results"
Row = dict[str, Any]


class Table:
    """Rows by (key, code): what was run, and the hash of the code that ran it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[tuple[str, str], Row] = {}
        self._size = path.stat().st_size if path.exists() else 0  # of the file when its rows were last read
        self._add(read_rows(path))

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.setdefault((row["key"], row["code"]), row)

    def append(self, rows: Sequence[Row]) -> None:
        """Write those rows that are new to the end of the file, on the disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"), self.path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size != self._size:  # another process has written since
                self._add(read_rows(self.path))
            once = {(row["key"], row["code"]): row for row in rows}
            new = [row for name, row in once.items() if name not in self.rows]
            file.seek(max(0, size - 1))
            fence = b"" if size == 0 or file.read(1) == b"\n" else b"\n"
            text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in new).encode()
            if text:
                file.write(fence + text)
                file.flush()
                os.fsync(file.fileno())
            self._size = file.seek(0, os.SEEK_END)
        self._add(new)

    def find(self, keys: Sequence[str], codes: Sequence[str]) -> list[Row] | None:
        """The rows of all `keys`, in their order, made by the first of `codes` that has them all; None if none has."""
        for code in codes:
            if all((key, code) in self.rows for key in keys):
                return [self.rows[key, code] for key in keys]
        return None


def read_rows(path: Path) -> Iterable[Row]:
    """The whole rows of a file, in order; none where there is no file. A row that was cut off is skipped."""
    if not path.exists():
        return
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and "key" in row and "code" in row:
                yield row


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Rows as a compressed file of their own, replaced whole; the same rows give the same bytes."""
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    write_atomically(path, lzma.compress(text.encode(), preset=9))


def shipped_rows(study: str, data: str = "toy") -> list[Row]:
    """The labelled rows of a study that come with the package.

    Raises:
        FileNotFoundError: this study has not been run on this data.
    """
    return list(read_rows(require_file(SHIPPED / data / f"{study}.jsonl.xz")))


def shipped_names(data: str = "toy") -> list[str]:
    """Names of the studies whose rows come with the package."""
    return sorted(path.name.removesuffix(".jsonl.xz") for path in (SHIPPED / data).glob("*.jsonl.xz"))


def pack_scores(scores: EpisodeScores) -> Row:
    """Scores as short texts: only classes that occur; intersection, union and valid pixels of every episode."""
    seen, numbers = np.unique(scores.class_index, return_inverse=True)
    intersection, union, background, _ = scores.counts.T
    pixels = np.stack([intersection, union, union + background])  # [3, n], the other counts follow from these
    kind = np.min_scalar_type(int(pixels.max()))  # the smallest unsigned integer that holds them
    return {
        "class_names": [scores.class_names[index] for index in seen],
        "episodes_sha256": scores.episodes_sha256,
        "class_index": pack(numbers.astype(np.uint8)),
        "pixels": pack(pixels.astype(kind)),
        "kind": kind.name,
    }


def unpack_scores(packed: Mapping[str, Any]) -> EpisodeScores:
    """The inverse of `pack_scores`, with the classes that occur numbered from 0."""
    pixels = unpack(packed["pixels"], np.dtype(packed["kind"])).reshape(3, -1)
    intersection, union, valid = pixels.astype(np.int64)
    counts = np.stack([intersection, union, valid - union, valid - intersection], axis=1)  # [3, n] -> [n, 4]
    classes = unpack(packed["class_index"], np.uint8)
    return EpisodeScores(classes, counts, tuple(packed["class_names"]), packed["episodes_sha256"])


def pack(array: np.ndarray) -> str:
    """The numbers of an array, compressed, as text."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()


def unpack(text: str, kind: np.dtype[Any] | type[np.generic]) -> np.ndarray:
    """The inverse of `pack`, in one dimension."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind)
