"""The table of rows: nothing lost, nothing doubled, whatever happens to the process that writes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dpnet_lite.ablation.table import (
    Table,
    pack,
    pack_scores,
    read_rows,
    shipped_rows,
    unpack,
    unpack_scores,
    write_rows,
)
from dpnet_lite.evaluation import EpisodeScores


def row(number: int, code: str = "c") -> dict:
    return {"key": f"k{number}", "code": code, "value": number, "filling": "x" * 5000}


def test_rows_come_back_by_key_and_code(tmp_path):
    table = Table(tmp_path / "folder" / "rows.jsonl")
    table.append([row(1), row(2)])
    table.append([row(1, "other")])
    again = Table(table.path)
    assert again.find(["k2", "k1"], ["c"]) == [row(2), row(1)]
    assert again.find(["k1"], ["other"]) == [row(1, "other")]
    assert again.find(["k1"], ["other", "c"]) == [row(1, "other")]
    assert again.find(["k1", "k2"], ["other", "c"]) == [row(1), row(2)]  # codes are not mixed
    assert again.find(["k1", "k3"], ["c", "other"]) is None


def test_a_row_is_written_once(tmp_path):
    table = Table(tmp_path / "rows.jsonl")
    for _ in range(2):
        table.append([row(1), row(1)])
    assert table.path.read_text().count("\n") == 1


@pytest.mark.parametrize("cut", [1, 2, 100, 5000])
def test_a_row_that_was_cut_off_is_skipped_and_the_next_is_whole(tmp_path, cut):
    path = tmp_path / "rows.jsonl"
    Table(path).append([row(1), row(2)])
    path.write_bytes(path.read_bytes()[:-cut])
    table = Table(path)
    # Without its newline alone, a row is whole.
    assert [r["value"] for r in read_rows(path)] == ([1, 2] if cut == 1 else [1])
    table.append([row(2), row(3)])
    assert sorted(r["value"] for r in read_rows(path)) == [1, 2, 3]


def test_two_writers_of_the_same_row_write_it_once(tmp_path):
    path = tmp_path / "rows.jsonl"
    first, second = Table(path), Table(path)
    first.append([row(1)])
    second.append([row(1), row(2)])
    first.append([row(2), row(3)])
    assert [r["value"] for r in read_rows(path)] == [1, 2, 3]
    assert first.find(["k2", "k3"], ["c"]) == [row(2), row(3)]


def test_two_writers_do_not_mix_their_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    tables = [Table(path) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: tables[n % 4].append([row(n)]), range(100)))
    assert sorted(r["value"] for r in read_rows(path)) == list(range(100))


def test_scores_survive_packing_and_metrics_do_not_change():
    generator = np.random.default_rng(0)
    intersection = generator.integers(0, 50, 30)
    union = intersection + generator.integers(1, 50, 30)
    counts = np.stack([intersection, union, 9216 - union, 9216 - intersection], axis=1)
    classes = generator.choice([3, 7, 60], 30)
    scores = EpisodeScores(classes, counts, tuple(f"class {n}" for n in range(80)), "sha")
    packed = json.loads(json.dumps(pack_scores(scores)))
    again = unpack_scores(packed)
    assert packed["class_names"] == ["class 3", "class 7", "class 60"]
    assert [again.class_names[c] for c in again.class_index] == [scores.class_names[c] for c in classes]
    np.testing.assert_array_equal(again.counts, counts)
    assert (again.miou, again.fb_iou, again.episodes_sha256) == (scores.miou, scores.fb_iou, "sha")


def test_pack_keeps_every_bit():
    values = np.random.default_rng(0).random(100).astype(np.float16)
    np.testing.assert_array_equal(unpack(pack(values), np.float16), values)


def test_a_compressed_file_of_rows_is_the_same_every_time(tmp_path):
    paths = [tmp_path / "a.jsonl.xz", tmp_path / "b.jsonl.xz"]
    for path in paths:
        write_rows(path, [row(1), row(2)])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert list(read_rows(paths[0])) == [row(1), row(2)]


def test_rows_that_are_not_shipped():
    with pytest.raises(FileNotFoundError, match=r"nothing\.jsonl\.xz"):
        shipped_rows("nothing")
