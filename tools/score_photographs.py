"""Score photographs beside rules without training, into docs/results/photographs/; `write_results.py` has the tables.

python tools/score_photographs.py objects                                    # the shipped weights on the 13 objects
python tools/score_photographs.py folds ../shared --backbone mobilenet_v2    # heads trained on four folds of photos/
python tools/score_photographs.py folds ../shared --backbone vgg16 --precision bf16 --shots 1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import torch

from dpnet_lite.ablation.rivals import untrained_segmenter
from dpnet_lite.ablation.table import pack_scores, unpack_scores
from dpnet_lite.backbones.backbone import Backbone
from dpnet_lite.checkpoints import load_trained, versions
from dpnet_lite.config import ModelConfig
from dpnet_lite.course.opened_episode import with_switches
from dpnet_lite.datasets import objects
from dpnet_lite.datasets.base import KnownAreas
from dpnet_lite.episodes import Episode, EpisodeList, class_pools, draw_episodes
from dpnet_lite.experiments.experiment import Experiment
from dpnet_lite.experiments.jobs import FULL, METHODS, SUPPORT_ONLY, TRAINING_FREE, evaluate, run_fold
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.experiments.presets import N_FOLDS, PHOTOGRAPHS
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.scoring import BATCH, Segmenter, head_segmenter, score_episodes
from dpnet_lite.storage.files import write_atomically

FOLDER = Path(__file__).parent.parent / "docs" / "results" / "photographs"
RULES = {TRAINING_FREE: "prototypes", "self-support": "self-support", "nearest pixel": "nearest pixel"}
KIN = {"shoes": ("sneaker", "shiny sneaker"), "stuffed animals": ("teddy bear", "toy sloth", "toy wolf")}
N_EPISODES, SEED = 300, 1
Scores = list[list[Any]]  # rows of method, name of the list, packed scores


class KinDataset(KnownAreas):
    """The objects with kin in the place of one object: support and query show two of them."""

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset, dataset.class_areas)
        self.own_names, self.class_names = dataset.class_names, tuple(KIN)
        self.object_of = dataset.class_areas.argmax(axis=1)  # each photograph shows one

    def label_value(self, index: int, class_index: int) -> int:
        name = self.own_names[self.object_of[index]]
        return int(self.object_of[index]) + 1 if name in KIN[self.class_names[class_index]] else -1

    def pairs(self) -> list[Episode]:
        """Every photograph as query with every photograph of each of its kin as support."""
        members = [
            (number, i) for i in range(len(self)) for number in range(len(KIN)) if self.label_value(i, number) > 0
        ]
        return [
            Episode(kind, query, (support,))
            for (kind, query), (other, support) in permutations(members, 2)
            if kind == other and self.object_of[query] != self.object_of[support]
        ]


def object_lists(dataset: Any) -> dict[str, EpisodeList]:
    """1 shot: every pair of photographs of an object; 5 shots: drawn, repeating where an object has fewer others."""
    pools = class_pools(dataset, range(len(dataset.class_names)))
    pairs = [Episode(c, int(q), (int(s),)) for c, pool in pools.items() for q, s in permutations(pool, 2)]
    drawn = draw_episodes(dataset, tuple(pools), fold=0, n_shot=5, count=len(pairs), seed=SEED, repeats=True)
    return {"1-shot": EpisodeList(dataset.fingerprint, 0, 1, SEED, tuple(pairs)), "5-shot": drawn}


def rules(backbone: Backbone) -> dict[str, Segmenter]:
    return {name: untrained_segmenter(method, backbone.deep_channels) for name, method in RULES.items()}


def scored(segmenters: Mapping[str, Segmenter], bank: Any, lists: Mapping[str, EpisodeList]) -> Scores:
    rows = []
    for name, episodes in lists.items():
        for entry in evaluate(segmenters, bank, [episodes], count=score_episodes, stage=Stages(len(segmenters))):
            rows.append([entry.method, name, pack_scores(entry.scores)])
    return rows


@torch.no_grad()
def effective_cells(head: Any, bank: Any, episodes: EpisodeList, temperatures: ModelConfig) -> float:
    """Median over the episodes of 1 / sum of squared shares in P_q: how many cells make it, were all alike."""
    names = ("selection_temperature", "consensus_temperature")
    head = with_switches(head, **{name: getattr(temperatures, name) for name in names})
    batches = (bank.batch(episodes.episodes[start : start + BATCH]) for start in range(0, len(episodes), BATCH))
    traces = [head(batch, batch.cells, trace=True).trace for batch in batches]
    shares = torch.cat([trace.reliable.flatten(1) for trace in traces])  # [n, N_q]
    return float((1 / (shares**2).sum(dim=1)).median())


def score_objects() -> dict[str, Any]:
    """The shipped heads for photographs, on objects that they never saw."""
    trained = {FULL: load_trained("photographs"), SUPPORT_ONLY: load_trained("photographs_support_only")}
    backbone, size = trained[FULL].backbone, trained[FULL].size
    segmenters = rules(backbone) | {name: head_segmenter(one.head) for name, one in trained.items()}
    bank = compute_features(objects(), backbone, size=size, progress=Stages(1)("computing features"))
    kin = KinDataset(bank.dataset)
    kin_list = EpisodeList(kin.fingerprint, 0, 1, SEED, tuple(kin.pairs()))
    kin_bank = replace(bank, dataset=kin)
    lists = object_lists(bank.dataset)
    model, drawn = trained[FULL].head.config, ModelConfig()
    cells = {
        which: effective_cells(trained[FULL].head, bank, lists["1-shot"], one)
        for which, one in (("now", model), ("drawn", drawn))
    }
    rows = scored(segmenters, bank, lists) + scored(segmenters, kin_bank, {"kin": kin_list})
    facts = {"backbone": backbone.name, "size": size, "model": model.to_dict(), "effective_cells": cells}
    return {**facts, "versions": versions(), "folds": {"objects": rows}}


def score_folds(
    shared: Path, backbone_name: str, precision: str, shots: Sequence[int], cache: Path | None
) -> dict[str, Any]:
    """Heads trained on the base classes of each fold of photos/, on its novel classes."""
    weights = shared / "weights" / f"{backbone_name}_features_imagenet_fp16.safetensors"
    preset, named = PHOTOGRAPHS, {"backbone": backbone_name, "backbone_weights": weights, "precision": precision}
    plan = Experiment(
        str(shared / "photos"), preset.model, preset.training, size=preset.size, cache_folder=cache, **named
    )
    backbone = plan.build_backbone()
    bank, folds = plan.folder_bank(backbone), {}
    for fold in range(N_FOLDS):
        data = plan.fold_data(backbone, bank, fold, SEED)
        stage = Stages(2 + len(METHODS) * len(shots), f"fold {fold}: ")
        how = {"shots": shots, "n_episodes": N_EPISODES, "repeats": True, "stage": stage}
        result = run_fold(data, plan.model, replace(plan.training, seed=SEED), **how)
        others = {name: rule for name, rule in rules(backbone).items() if name not in METHODS}
        lists = {f"{n_shot}-shot": episodes for n_shot, episodes in result.episodes.items()}
        own = [[method, f"{n_shot}-shot", pack_scores(scores)] for (method, n_shot), scores in result.scores.items()]
        folds[str(fold)] = own + scored(others, bank, lists)
    facts = {"backbone": backbone.name, "precision": precision, "size": plan.size, "model": plan.model.to_dict()}
    return {**facts, "training": plan.training.to_dict(), "seed": SEED, "versions": versions(), "folds": folds}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("objects")
    folds = commands.add_parser("folds")
    folds.add_argument("shared", type=Path, help="folder with photos and weights")
    folds.add_argument("--backbone", choices=("mobilenet_v2", "vgg16"), required=True)
    folds.add_argument("--precision", default="fp32")
    folds.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    folds.add_argument("--cache", type=Path)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if args.what == "objects":
        name, record = "objects", score_objects()
    else:
        name, record = args.backbone, score_folds(args.shared, args.backbone, args.precision, args.shots, args.cache)
    # The images of a list stand once, not in the scores of every method.
    packs = [packed for rows in record["folds"].values() for _, _, packed in rows]
    record["images"] = {packed["episodes_sha256"]: unpack_scores(packed).images.tolist() for packed in packs}
    for packed in packs:
        del packed["images"]
    write_atomically(FOLDER / f"{name}.json", (json.dumps(record, separators=(",", ":")) + "\n").encode())


if __name__ == "__main__":
    main()
