"""The frozen episode lists of the published data sets: 1,000 episodes for every fold, 1 and 5 shots, seeds 0 to 4.

A list is a pure function of the data set's counts and of (fold, shots, seed): it is drawn, not downloaded, and known by
its SHA-256 (`EpisodeList.sha256`). `published/episode_hashes.json` holds the hashes of the official data:

- PASCAL-5i: from the 1,449 masks of VOC2012 val.
- FSS-1000: from the names of its 240 test classes, on the assumption that each has the images 1 to 10, as its paper
  says (1,000 classes of 10 images). No mask counts.
- COCO-20i: not yet published; this project has not had the annotations.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.episodes import EpisodeList, draw_episodes
from dpnet_lite.published.registry import fold_classes, published
from dpnet_lite.storage.files import write_atomically

SHOTS = (1, 5)
SEEDS = (0, 1, 2, 3, 4)
EPISODES = 1_000
HASHES = Path(__file__).parent / "episode_hashes.json"


class PublishedHashes(NamedTuple):
    """What is committed of a benchmark: the fingerprint of the data set, and the hash of each list by `list_name`."""

    fingerprint: str
    lists: dict[str, str]


def list_name(fold: int, n_shot: int, seed: int) -> str:
    """Such as "fold0-1shot-seed0"; the stem of the list's file, too."""
    return f"fold{fold}-{n_shot}shot-seed{seed}"


def draw_published(dataset: SegmentationDataset, name: str, *, fold: int, n_shot: int, seed: int) -> EpisodeList:
    """Draw a list as it is published, from the split that results are reported on.

    `dataset` is that split: "val", for FSS-1000 "test". `SHOTS` and `SEEDS` are published, others are drawn alike.
    Raises ValueError where there is no such benchmark or fold, or no class has two images.
    """
    entry = published(name)
    novel = fold_classes(name, fold, entry.test_split, n_split_classes=len(dataset.class_names)).novel
    rule: dict[str, Any] = {"min_area": 0, "min_pixels": entry.min_pixels, "repeats": True}
    return draw_episodes(dataset, novel, fold=fold, n_shot=n_shot, count=EPISODES, seed=seed, **rule)


def draw_lists(
    dataset: SegmentationDataset,
    name: str,
    *,
    folds: Sequence[int] | None = None,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
) -> Iterator[tuple[str, EpisodeList]]:
    """Draw all lists of a benchmark, or those asked for: pairs of `list_name` and list."""
    for fold in range(published(name).n_folds) if folds is None else folds:
        for n_shot in shots:
            for seed in seeds:
                yield list_name(fold, n_shot, seed), draw_published(dataset, name, fold=fold, n_shot=n_shot, seed=seed)


def published_hashes(name: str) -> PublishedHashes | None:
    """The committed hashes of a benchmark; None where none are published."""
    entry = json.loads(HASHES.read_text(encoding="utf-8")).get(name)
    return None if entry is None else PublishedHashes(entry["fingerprint"], entry["lists"])


def compare_with_published(name: str, key: str, sha256: str) -> Literal["equal", "different", "not yet published"]:
    """How a list's hash compares with the committed one of the same `list_name`."""
    hashes = published_hashes(name)
    if hashes is None or key not in hashes.lists:
        return "not yet published"
    return "equal" if hashes.lists[key] == sha256 else "different"


def write_list(path: Path, episodes: EpisodeList) -> None:
    """Write a list as JSON (.json.xz), whose hash is that of the JSON; ValueError where another file is there."""
    data = lzma.compress(episodes.to_json().encode())
    if path.exists() and path.read_bytes() != data:
        raise ValueError(f"{path} holds something else; give another folder with --out, or delete it")
    write_atomically(path, data)
