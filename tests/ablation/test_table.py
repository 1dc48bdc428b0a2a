"""The table of rows: nothing lost, nothing doubled, whatever happens to the process that writes."""

from __future__ import annotations

import base64
import json
import lzma
import math
import signal
import sqlite3
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from dpnet_lite.ablation.table import (
    Table,
    check_rows,
    pack,
    pack_scores,
    read_rows,
    shipped_rows,
    unpack,
    unpack_scores,
    write_rows,
)
from dpnet_lite.evaluation import EpisodeScores


def row(number: int, value: int | None = None) -> dict:
    return {"key": f"k{number}", "value": number if value is None else value, "filling": "x" * 5000}


def test_rows_come_back_by_key_and_a_key_stays_as_it_was(tmp_path):
    table = Table(str(tmp_path / "folder" / "rows.sqlite"))
    assert table.all_rows() == [] and not table.path.exists()
    assert table.find(["k1"]) is None and table.find([]) == []
    table.append([row(1), row(2), row(1, 7)])
    Table(table.path).append([row(2, 8), row(3)])  # another process, as it were
    assert table.find(["k3", "k1"]) == [row(3), row(1)]
    assert table.find(["k1", "k4"]) is None
    assert table.all_rows() == [row(1), row(2), row(3)]


def test_several_writers_do_not_lose_or_mix_their_rows(tmp_path):
    tables = [Table(tmp_path / "rows.sqlite") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: tables[n % 4].append([row(n), row(n + 1)]), range(60)))
    assert sorted(r["value"] for r in tables[0].all_rows()) == list(range(61))


DIES = """
import os, sys
from pathlib import Path
from dpnet_lite.ablation.table import Table
with Table(Path(sys.argv[1]))._opened() as connection:
    connection.execute("INSERT INTO rows VALUES ('k2', '{}')")
    os.kill(os.getpid(), 9)
"""


def test_a_writer_killed_as_it_writes_leaves_only_whole_appends(tmp_path):
    table = Table(tmp_path / "rows.sqlite")
    table.append([row(1)])
    assert subprocess.run([sys.executable, "-c", DIES, table.path]).returncode == -signal.SIGKILL
    assert table.all_rows() == [row(1)]
    table.append([row(2), row(3)])
    assert table.find(["k1", "k2", "k3"]) == [row(1), row(2), row(3)]


def test_what_the_system_refuses_is_told_as_that_and_asking_makes_no_file(tmp_path):
    table = Table(tmp_path / "rows.sqlite")
    assert table.find(["k1"]) is None and not table.path.exists()
    table.path.mkdir()  # SQLite cannot open a folder, whoever asks
    with pytest.raises(OSError, match=r"rows\.sqlite: unable to open .*; try again, or name another file with --table"):
        table.append([row(1)])


def test_a_row_that_lies_under_another_key_is_told(tmp_path):
    table = Table(tmp_path / "rows.sqlite")
    table.append([row(1), row(2)])
    with closing(sqlite3.connect(table.path)) as connection, connection:
        connection.execute("UPDATE rows SET row = (SELECT row FROM rows WHERE key = 'k2') WHERE key = 'k1'")
    assert table.find(["k2"]) == [row(2)]
    with pytest.raises(ValueError, match=r"rows\.sqlite: row k1 is damaged \(it is of another run\): restore this"):
        table.find(["k2", "k1"])


def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row(1)) + "\n")
    for use in (lambda: Table(path).find(["k1"]), lambda: Table(path).append([row(1)])):
        with pytest.raises(ValueError, match=r"rows\.jsonl is no table of rows .* name another file with --table"):
            use()
    other = Table(tmp_path / "other.sqlite")
    with closing(sqlite3.connect(other.path)) as connection:
        connection.execute("CREATE TABLE secret (a)")
    with pytest.raises(ValueError, match=r"other\.sqlite is another program's database; name another file"):
        other.append([row(1)])


def test_scores_survive_packing_and_metrics_do_not_change():
    generator = np.random.default_rng(0)
    intersection = generator.integers(0, 50, 30)
    union = intersection + generator.integers(1, 50, 30)
    counts = np.stack([intersection, union, 9216 - union, 9216 - intersection], axis=1)
    classes = generator.choice([3, 7, 60], 30)
    images = generator.permuted(np.tile(np.arange(70_000, 70_100), (30, 1)), axis=1)[:, :4]
    scores = EpisodeScores(classes, counts, tuple(f"class {n}" for n in range(80)), "sha", images)
    packed = json.loads(json.dumps(pack_scores(scores)))
    again = unpack_scores(packed)
    assert again.images.tolist() == [[query, *sorted(support)] for query, *support in images.tolist()]
    del packed["images"]  # as in older rows; they may stand apart
    assert unpack_scores(packed).images is None
    np.testing.assert_array_equal(unpack_scores(packed, {"sha": images.tolist()}).images, images)
    assert packed["class_names"] == ["class 3", "class 7", "class 60"]
    assert [again.class_names[c] for c in again.class_index] == [scores.class_names[c] for c in classes]
    np.testing.assert_array_equal(again.counts, counts)
    assert (again.miou, again.fb_iou, again.episodes_sha256) == (scores.miou, scores.fb_iou, "sha")
    values = generator.random(100).astype(np.float16)
    np.testing.assert_array_equal(unpack(pack(values), np.float16), values)


def whole_row() -> dict:
    scores = EpisodeScores([0, 1], [[1, 2, 7, 8], [2, 4, 5, 7]], ("a", "b"), "sha")
    facts = {"code": "1", "identity": {}, "versions": {}, "machine": "this", "parameters": 3}
    facts |= {"training_seconds": 1.0, "seconds_per_episode": 0.1}
    return {"key": "k1", "miou": scores.miou, "scores": pack_scores(scores), **facts}


@pytest.mark.parametrize(("n_classes", "digits"), [(256, 2), (257, 4)])  # older rows of 256 classes have bytes, too
def test_scores_of_many_classes_survive_packing(n_classes, digits):
    classes = np.arange(900) % n_classes
    names = tuple(f"class {number}" for number in range(n_classes))
    scores = EpisodeScores(classes, np.stack([classes, classes + 500, 1000 - classes, 1500 - classes], axis=1), names)
    packed = pack_scores(scores)
    assert unpack_scores(packed).class_iou() == scores.class_iou() and len(packed["class_index"]) == 900 * digits


def test_a_damaged_row_is_told(tmp_path):
    path, whole = tmp_path / "rows.sqlite", whole_row()
    table = Table(path)
    check_rows([whole], path)
    table.append([whole])
    texts = ["{", "[1]", b"\xff", "[" * 10**5]
    changes = [{name: None} for name in whole if name != "key"] + [{"miou": 0.4}]
    times = ("training_seconds", "seconds_per_episode")
    changes += [{name: value} for name in times for value in (math.nan, math.inf, -1.0)] + [{"parameters": -1}]
    packed = {"pixels": ("01", "zz", 3, "eNab"), "kind": ("float32",), "class_index": ("0009",), "class_names": ([1],)}
    changes += [{"scores": whole["scores"] | {name: value}} for name, values in packed.items() for value in values]
    changes.append({"scores": whole["scores"] | {"pixels": pack(np.array([[9, 2], [2, 4], [9, 9]], np.uint8))}})
    for text in [*texts, *(json.dumps(whole | change) for change in changes)]:
        with table._opened() as connection:
            connection.execute("UPDATE rows SET row = ?", (text,))
        with pytest.raises(
            ValueError, match=rf"^{path}: (a row|row k1) is damaged.*, or name another with --table"
        ) as caught:
            check_rows(table.find(["k1"]), path)
        assert "\n" not in str(caught.value)


def test_a_damaged_file_of_rows_is_told(tmp_path):
    write_rows(tmp_path / "rows.jsonl.xz", [row(1)])
    whole = (tmp_path / "rows.jsonl.xz").read_bytes()
    for damaged in (
        whole[:-20],
        whole[:40] + b"x" + whole[41:],
        b"text",
        lzma.compress(b"[1\n"),
        lzma.compress(b"[" * 10**5),
    ):
        (tmp_path / "rows.jsonl.xz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"rows\.jsonl\.xz is no whole file of rows .*: get it again$"):
            read_rows(tmp_path / "rows.jsonl.xz")


def test_packed_numbers_are_text_worked_by_hand_and_older_tables_are_read():
    values = np.array([[1, 258], [65535, 225]], np.uint16)
    text = "0102ffe1" + "0001ff00"  # the low bytes, then the high ones
    assert pack(values) == text and pack(values[:, :1]) == "01ff00ff"
    for packed in (text, base64.b64encode(zlib.compress(values.tobytes(), 9)).decode()):
        np.testing.assert_array_equal(unpack(packed, np.uint16), values.ravel(), strict=True)
    assert len(unpack(pack(values[:0]), np.uint16)) == 0


def test_a_compressed_file_of_rows_is_the_same_every_time(tmp_path):
    paths = [tmp_path / "a.jsonl.xz", tmp_path / "b.jsonl.xz"]
    for path in paths:
        write_rows(path, [row(1), row(2)])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert read_rows(paths[0]) == [row(1), row(2)]


def test_rows_that_are_not_shipped():
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl\.xz"):
        shipped_rows("nothing")
