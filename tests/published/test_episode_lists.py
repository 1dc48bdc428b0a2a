"""The frozen lists: the same in every process, the committed hashes are those of the real data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from coco_fss_trees import write_fss
from made_up_pascal import PascalTree
from places import SHARED
from published_files import read_list

from dpnet_lite.published.episode_lists import (
    EPISODES,
    HASHES,
    SEEDS,
    SHOTS,
    compare_with_published,
    draw_lists,
    draw_published,
    list_name,
    published_hashes,
    write_list,
)
from dpnet_lite.published.registry import PUBLISHED, open_published

MASKS, LISTS = SHARED / "voc2012" / "SegmentationClassAug.tar.xz", SHARED / "lists"
needs_shared = pytest.mark.skipif(not (MASKS.is_file() and LISTS.is_dir()), reason="needs ../shared")


@pytest.fixture(scope="module")
def trees(pascal_tree: PascalTree, coco_root: Path, fss_root: Path) -> dict[str, Path]:
    return {"pascal5i": pascal_tree.root, "coco20i": coco_root, "fss1000": fss_root}


@pytest.mark.parametrize("name", PUBLISHED)
def test_lists_are_of_the_fold_its_novel_classes_and_large_objects(
    name: str, trees: dict[str, Path], tmp_path: Path
) -> None:
    entry = PUBLISHED[name]
    dataset = open_published(name, trees[name], entry.test_split, cache_folder=tmp_path)
    for fold in range(entry.n_folds):
        episodes = draw_published(dataset, name, fold=fold, n_shot=5, seed=3)
        assert (len(episodes), episodes.fold, episodes.n_shot, episodes.seed) == (EPISODES, fold, 5, 3)
        counts = Counter(episode.class_index for episode in episodes)
        assert max(counts.values()) - min(counts.values()) <= 1
        for class_index in counts:
            if name == "pascal5i":
                assert class_index // 5 == fold
            elif name == "coco20i":
                assert class_index % 4 == fold
        least = 1 if name == "fss1000" else 2048
        for episode in episodes:
            rows = [episode.query, *episode.support]
            assert (dataset.class_pixels[rows, episode.class_index] >= least).all()


@pytest.mark.parametrize(
    ("name", "one_shot", "five_shots"),
    [
        ("pascal5i", "e3ae16d4861f2ce9", "18dd5c78efada76f"),
        ("coco20i", "463107b8e5b91234", "2c71cbdb0221c9c3"),
        ("fss1000", "e6b485c29d981cf5", "792db9c9b81da7ae"),
    ],
)
def test_lists_of_made_up_data_are_those_that_were_drawn_first(name, one_shot, five_shots, trees, tmp_path) -> None:
    """Hashes over data set, class, query and support of every episode, in their order."""
    dataset = open_published(name, trees[name], PUBLISHED[name].test_split, cache_folder=tmp_path)
    drawn = [draw_published(dataset, name, fold=0, n_shot=n_shot, seed=1).sha256[:16] for n_shot in SHOTS]
    assert drawn == [one_shot, five_shots]


@pytest.mark.slow
def test_a_list_does_not_depend_on_the_process(trees: dict[str, Path], tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from dpnet_lite.published.episode_lists import draw_published
from dpnet_lite.published.registry import open_published
dataset = open_published("coco20i", {str(trees["coco20i"])!r}, "val", cache_folder=Path({str(tmp_path)!r}))
print(draw_published(dataset, "coco20i", fold=2, n_shot=5, seed=4).sha256)
"""
    dataset = open_published("coco20i", trees["coco20i"], "val", cache_folder=tmp_path / "other")
    here = draw_published(dataset, "coco20i", fold=2, n_shot=5, seed=4).sha256
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == here, result.stderr


def test_all_lists_differ_come_by_name_and_are_kept_in_files(trees: dict[str, Path], tmp_path: Path) -> None:
    dataset = open_published("fss1000", trees["fss1000"], "test")
    drawn = dict(draw_lists(dataset, "fss1000"))
    assert list(drawn) == [f"fold0-{shots}shot-seed{seed}" for shots in SHOTS for seed in SEEDS]
    assert len({episodes.sha256 for episodes in drawn.values()}) == len(SHOTS) * len(SEEDS)
    some = dict(draw_lists(dataset, "fss1000", folds=[0], shots=[5], seeds=[2]))
    assert some == {"fold0-5shot-seed2": drawn["fold0-5shot-seed2"]}
    write_list(tmp_path / "list.json.xz", some["fold0-5shot-seed2"])
    again = read_list(tmp_path / "list.json.xz")
    assert again == some["fold0-5shot-seed2"] and again.sha256 == some["fold0-5shot-seed2"].sha256
    with pytest.raises(ValueError, match="fold is 1, but FSS-1000 has no folds"):
        draw_published(dataset, "fss1000", fold=1, n_shot=1, seed=0)
    with pytest.raises(ValueError, match="COCO-20i takes its images from the annotations; leave it out"):
        open_published("coco20i", trees["coco20i"], "val", cache_folder=tmp_path, lists=tmp_path)


def test_committed_hashes_are_whole() -> None:
    committed = json.loads(HASHES.read_text(encoding="utf-8"))
    assert set(committed) == {"pascal5i", "fss1000"}  # COCO's annotations have not been at hand
    hashes = []
    for name in committed:
        entry = published_hashes(name)
        assert entry is not None
        names = {list_name(f, k, s) for f in range(PUBLISHED[name].n_folds) for k in SHOTS for s in SEEDS}
        assert set(entry.lists) == names
        hashes += [entry.fingerprint, *entry.lists.values()]
    assert len(set(hashes)) == len(hashes) == 1 + 40 + 1 + 10
    assert all(len(text) == 64 and set(text) <= set("0123456789abcdef") for text in hashes)
    assert published_hashes("coco20i") is None
    key = list_name(0, 1, 0)
    assert compare_with_published("pascal5i", key, committed["pascal5i"]["lists"][key]) == "equal"
    assert compare_with_published("pascal5i", key, committed["fss1000"]["lists"][key]) == "different"
    assert compare_with_published("pascal5i", list_name(0, 10, 0), "") == "not yet published"
    assert compare_with_published("coco20i", key, "") == "not yet published"


@needs_shared
def test_the_committed_hashes_are_those_of_the_real_masks(tmp_path: Path) -> None:
    ids = set((LISTS / "pfenet_pascal" / "val_ids.txt").read_text().split())
    with tarfile.open(MASKS) as archive:
        members = [member for member in archive if Path(member.name).stem in ids]
        archive.extractall(tmp_path, members=members, filter="data")
    dataset = open_published("pascal5i", tmp_path, "val", lists=LISTS / "pfenet_pascal")
    assert len(dataset) == 1449
    # Known count of fold 0: images with 2,048 px or more of one of its classes.
    assert np.sum((dataset.class_pixels[:, :5] >= 2048).any(axis=1)) == 364
    committed = published_hashes("pascal5i")
    assert committed is not None and committed.fingerprint == dataset.fingerprint
    drawn = {name: episodes.sha256 for name, episodes in draw_lists(dataset, "pascal5i")}
    assert drawn == committed.lists


@needs_shared
def test_the_committed_hashes_are_those_of_the_official_class_names(tmp_path: Path) -> None:
    names = (LISTS / "hsnet_fss" / "test.txt").read_text().split()
    write_fss(tmp_path, {"test": names}, empty=True)
    dataset = open_published("fss1000", tmp_path, "test")
    committed = published_hashes("fss1000")
    assert committed is not None and committed.fingerprint == dataset.fingerprint
    assert {name: episodes.sha256 for name, episodes in draw_lists(dataset, "fss1000")} == committed.lists
