"""Single jobs behind the command line: train one head, score one checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.episodes import EpisodeList, draw_episodes
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.experiments.experiment import DemoConfig, demo_bank, demo_fold, own_class_names
from dpnet_lite.experiments.fold_data import TEST_SEED, plain_name, toy_test_bank, toy_training
from dpnet_lite.experiments.fold_run import FULL, TRAINING_FREE, FoldResult, train_head, training_facts
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.experiments.tables import summary_table
from dpnet_lite.features import FeatureBank
from dpnet_lite.heads import load_head, save_head
from dpnet_lite.published.protocol_runs import protocol_table, run_protocols, write_runs
from dpnet_lite.published.protocols.specs import find_protocol
from dpnet_lite.scoring import head_segmenter, score_episodes, training_free_segmenter
from dpnet_lite.tensor_files import write_atomically


def train_one(
    config: DemoConfig, path: Path, *, resume: bool = False, overwrite: bool = False, tensorboard: Path | None = None
) -> str:
    """Train the first fold and seed of `config` and save the head to `path`; returns a line that says so.

    The state for resuming and `log.jsonl` lie in a folder beside it, named like it.

    Raises:
        ValueError: `path` is there already, and neither `resume` nor `overwrite` was asked for.
    """
    if path.exists() and not (resume or overwrite):
        raise ValueError(f"{path} is there already; give another name with --out, or replace it with --overwrite")
    fabric = make_fabric(config.device, config.training.precision, tensorboard=tensorboard)
    backbone = build_backbone(
        config.backbone, config.backbone_weights, device=fabric.device, precision=config.precision
    )
    config = replace(config, device=str(fabric.device))
    with fabric.rank_zero_first():  # the first process fills the cache of features, the others find it full
        bank = None if config.data == "toy" else demo_bank(config, backbone)
    training, fold = replace(config.training, seed=config.seeds[0]), config.folds[0]
    stages = Stages(2 if bank is None else 1)
    if bank is None:
        data = toy_training(backbone, fold, seed=training.seed, gap=config.gap, device=config.device, stage=stages)
    else:
        data = demo_fold(config, backbone, bank, fold, training.seed, stages)
    result = train_head(
        data,
        config.model,
        training,
        folder=path.with_suffix(""),
        resume=resume,
        stage=stages,
        fabric=fabric,
    )
    if fabric.is_global_zero:
        save_head(
            path,
            result.head,
            backbone,
            size=data.train.size,
            validation=result.validation,
            **training_facts(data, training, result),
        )
    return f"saved {path}: weights of step {result.step} of {training.steps}"


def evaluate_checkpoint(
    config: DemoConfig,
    path: Path,
    *,
    size: int | None = None,
    seed: int | None = None,
    output: Path | None = None,
    protocols: Sequence[str] = (),
) -> str:
    """Score a head on the novel classes of the first fold of `config`, beside the training-free baseline.

    With `protocols`, the same predictions are counted as each of them does, with its figures for PASCAL-5i. The
    backbone, its precision and, where `size` is None, the input's side are those that the head was trained with.
    Returns the table under a line that says what was scored; `output` also gets the scores as JSON.
    """
    head, metadata = load_head(path, device=config.device)
    backbone = build_backbone(
        metadata["backbone"], config.backbone_weights, device=config.device, precision=metadata["precision"]
    )
    if backbone.fingerprint != metadata["backbone_fingerprint"]:
        raise ValueError(f"{path} was trained on other {backbone.name} weights; name them with --backbone-weights")
    _refuse_seen_classes(config, path, metadata)
    config = replace(config, size=int(metadata["size"]) if size is None else size)
    stages = Stages((config.data == "toy") + 2 * len(config.shots))
    bank, fold = _test_bank(config, backbone, stages), config.folds[0]
    novel = novel_classes(len(own_class_names(config)), fold, config.n_folds, config.layout)
    lists = {
        n_shot: draw_episodes(
            bank.dataset,
            novel,
            fold=fold,
            n_shot=n_shot,
            count=config.n_episodes,
            seed=TEST_SEED if seed is None else seed,
        )
        for n_shot in config.shots
    }
    segmenters = {TRAINING_FREE: training_free_segmenter(backbone.deep_channels), FULL: head_segmenter(head)}
    if protocols:
        specs = [find_protocol(name) for name in protocols]
        runs = run_protocols(segmenters, bank, list(lists.values()), specs, novel, stages=stages)
        if output is not None:
            write_runs(output, path.name, runs)
        return f"{_what_is_scored(bank, lists, path, metadata)}\n\n{protocol_table(runs, specs)}"
    scores = {
        (name, n_shot): score_episodes(
            segment,
            bank,
            lists[n_shot],
            original_size=config.original_size,
            progress=stages(f"scoring {name}, {n_shot}-shot"),
        )
        for n_shot in config.shots
        for name, segment in segmenters.items()
    }
    if output is not None:
        rows = [[name, n_shot, score.to_dict()] for (name, n_shot), score in scores.items()]
        write_atomically(output, json.dumps({"checkpoint": path.name, "scores": rows}).encode())
    return f"{_what_is_scored(bank, lists, path, metadata)}\n\n{summary_table([FoldResult(fold, 0, scores, lists)])}"


def _what_is_scored(bank: FeatureBank, lists: dict[int, EpisodeList], path: Path, metadata: dict[str, Any]) -> str:
    first = next(iter(lists.values()))
    hashes = ", ".join(f"{n_shot}-shot {episodes.sha256[:12]}" for n_shot, episodes in sorted(lists.items()))
    return (
        f"Novel classes of fold {first.fold} of {bank.dataset.name}, {len(first.episodes)} episodes each (SHA-256: "
        f"{hashes}), by {path}, trained on {metadata.get('data', 'unknown data')}, "
        f"fold {metadata.get('fold', 'unknown')}"
    )


def _test_bank(config: DemoConfig, backbone: Backbone, stages: Stages) -> FeatureBank:
    """Features of the images that are scored; no training scene of the toy world is drawn."""
    if config.data == "toy":
        return toy_test_bank(backbone, config.folds[0], gap=config.gap, device=config.device, stage=stages)
    return demo_bank(config, backbone)


def _refuse_seen_classes(config: DemoConfig, path: Path, metadata: dict[str, Any]) -> None:
    """ValueError where the head's base classes hold a class that is to be scored as novel."""
    fold, own_fold, names = config.folds[0], metadata.get("fold"), own_class_names(config)
    novel = [names[index] for index in novel_classes(len(names), fold, config.n_folds, config.layout)]
    base = metadata.get("base_classes")  # heads without this list tell their fold alone
    known = novel if base is None and own_fold != fold else base or []
    seen = [name for name in novel if plain_name(name) in {plain_name(other) for other in known}]
    if seen:
        raise ValueError(
            f"{path} was trained on {seen[0]!r}, a novel class of fold {fold}; choose a fold whose novel "
            f"classes it never saw (in its own data, with the --folds of its training: --fold {own_fold})"
        )
