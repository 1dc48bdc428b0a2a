"""The rows of all runs in one SQLite file, which no killed process can damage; the rows of one study as a text file."""

from __future__ import annotations

import base64
import json
import lzma
import math
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.storage.files import require_file, require_kinds, told, write_atomically

_SHIPPED = Path(__file__).parent / "results"
_REMEDY = "restore this file, or name another with --table: the runs are then done again, from kept weights"
Row = dict[str, Any]
_KINDS = {  # of what the judgement and the report read of a row
    "key": str, "code": str, "identity": dict, "scores": dict, "miou": float, "parameters": int, "versions": dict,
    "training_seconds": float, "seconds_per_episode": float, "machine": str,
}  # fmt: skip


class Table:
    """Rows by their key. Several processes may write to the file at once; a key that is there stays as it is."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, made where there is none; what the block writes is on the disk after it, all or nothing."""
        with told(self.path, "--table"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Seconds to wait for another writer.
            with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
                names = connection.execute("SELECT name FROM sqlite_master").fetchall()
                if names and ("rows",) not in names:
                    raise ValueError(f"{self.path} is another program's database; name another file with --table")
                connection.execute("CREATE TABLE IF NOT EXISTS rows (key TEXT PRIMARY KEY, row TEXT NOT NULL)")
                yield connection
        except sqlite3.OperationalError as error:  # locked, read-only, a full disk
            raise OSError(f"{self.path}: {error}; try again, or name another file with --table") from None
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{self.path} is no table of rows ({error}); name another file with --table") from None

    def append(self, rows: Sequence[Row]) -> None:
        """Write those rows whose keys are new, on the disk before this returns."""
        texts = [(row["key"], json.dumps(row, separators=(",", ":"))) for row in rows]
        with self._opened() as connection:
            connection.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", texts)

    def find(self, keys: Sequence[str]) -> list[Row] | None:
        """The rows of all `keys`, in their order; None where one is missing."""
        if keys and not self.path.exists():
            return None
        with self._opened() as connection:
            query = "SELECT row FROM rows WHERE key = ?"
            found = [connection.execute(query, (key,)).fetchone() for key in keys]
        rows = None if None in found else [self._parsed(text) for (text,) in found]
        for key, row in zip(keys, rows or [], strict=False):
            if row.get("key") != key:
                raise ValueError(f"{self.path}: row {key} is damaged (it is of another run): {_REMEDY}")
        return rows

    def all_rows(self) -> list[Row]:
        """Every row, in the order in which they came; none where there is no file."""
        if not self.path.exists():
            return []
        with self._opened() as connection:
            return [self._parsed(text) for (text,) in connection.execute("SELECT row FROM rows ORDER BY rowid")]

    def _parsed(self, text: str) -> Row:
        try:
            return dict(json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{self.path}: a row is damaged: {_REMEDY} ({error})") from None


def check_rows(rows: Sequence[Row], table: Path) -> None:
    """ValueError where a row of a table is not one that `execute` made, or its scores are damaged."""
    for row in rows:
        try:
            require_kinds(row, _KINDS, "not as it was made")
            for name in ("parameters", "training_seconds", "seconds_per_episode"):
                if not 0 <= row[name] < math.inf:  # NaN is in no range
                    raise ValueError(f"{name} is {row[name]}")
            if not np.isclose(unpack_scores(row["scores"]).miou, row["miou"], equal_nan=True):
                raise ValueError("the mIoU is not that of its scores")
        except ValueError as error:
            raise ValueError(f"{table}: row {row['key']} is damaged ({error}): {_REMEDY}") from None


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Rows as a compressed text file, a JSON object a line, replaced whole; the same rows give the same bytes."""
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    write_atomically(path, lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


def read_rows(path: Path) -> list[Row]:
    """The rows of such a file; ValueError for a damaged one."""
    try:
        with lzma.open(path) as file:
            return [dict(json.loads(line)) for line in file]
    except (lzma.LZMAError, EOFError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no whole file of rows ({error}): get it again") from None


def shipped_rows(study: str, data: str = "toy") -> list[Row]:
    """The labelled rows of a study that come with the package.

    Raises:
        FileNotFoundError: this study has not been run on this data.
    """
    return read_rows(require_file(_SHIPPED / data / f"{study}.jsonl.xz"))


def shipped_names(data: str = "toy") -> list[str]:
    """Names of the studies whose rows come with the package."""
    return sorted(path.name.removesuffix(".jsonl.xz") for path in (_SHIPPED / data).glob("*.jsonl.xz"))


def pack_scores(scores: EpisodeScores) -> Row:
    """Scores as short texts: only classes that occur; images, intersection, union, valid pixels of every episode."""
    seen, numbers = np.unique(scores.class_index, return_inverse=True)
    intersection, union, background, _ = scores.counts.T
    pixels = np.stack([intersection, union, union + background])  # [3, n], the other counts follow from these
    kind = np.min_scalar_type(int(pixels.max()))  # the smallest unsigned integer that holds them
    return {
        "class_names": [scores.class_names[index] for index in seen],
        "episodes_sha256": scores.episodes_sha256,
        "class_index": pack(numbers.astype(np.uint8 if len(seen) <= 256 else np.uint16)),
        "pixels": pack(pixels.astype(kind)),
        "kind": kind.name,
        **_pack_images(scores.images),
    }


def _pack_images(images: np.ndarray | None) -> Row:
    """The images of the episodes, the support in ascending order, which takes less room."""
    if images is None:
        return {}
    kind = np.min_scalar_type(max(256, int(images.max())))
    ordered = np.column_stack([images[:, 0], np.sort(images[:, 1:], axis=1)])
    return {"images": pack(ordered.astype(kind)), "images_kind": kind.name}


def unpack_scores(packed: Mapping[str, Any], images: Mapping[str, Any] | None = None) -> EpisodeScores:
    """The inverse of `pack_scores`, with the classes that occur numbered from 0; ValueError where they are damaged.

    The images may stand apart in `images`, by the hash of the episode list; older rows have none.
    """
    try:
        pixels = unpack(packed["pixels"], np.dtype(packed["kind"])).reshape(3, -1)
        intersection, union, valid = pixels.astype(np.int64, casting="safe" if pixels.itemsize < 8 else "same_kind")
        counts = np.stack([intersection, union, valid - union, valid - intersection], axis=1)  # [3, n] -> [n, 4]
        classes = unpack(packed["class_index"], np.uint8 if len(packed["class_names"]) <= 256 else np.uint16)
        known = None if images is None else images.get(packed["episodes_sha256"])
        if "images" in packed:
            known = unpack(packed["images"], np.dtype(packed["images_kind"])).reshape(len(classes), -1)  # [n, 1 + K]
        return EpisodeScores(classes, counts, tuple(packed["class_names"]), packed["episodes_sha256"], known)
    except (AttributeError, KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"packed scores are damaged: {error!r}") from None


def pack(array: np.ndarray) -> str:
    """The numbers of an array as hexadecimal text: first the lowest byte of each, then the next one of each.

    The file of rows compresses that better than numbers that are compressed already.
    """
    parts = np.ascontiguousarray(array).view(np.uint8).reshape(-1, array.itemsize)  # [n, bytes of a number]
    return parts.T.tobytes().hex()


def unpack(text: str, kind: np.dtype[Any] | type[np.generic]) -> np.ndarray:
    """The inverse of `pack`, in one dimension; older tables have zlib and base64, which begins with "eN"."""
    if text.startswith("eN"):
        return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind)
    parts = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(np.dtype(kind).itemsize, -1)
    return np.frombuffer(parts.T.tobytes(), dtype=kind)
