"""Executing a run: train where there is something to train, score under every condition, give a row for each."""

from __future__ import annotations

import os
import platform
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from dpnet_lite.ablation.banks import config_backbone, shared_fold
from dpnet_lite.ablation.code_hash import code_hash
from dpnet_lite.ablation.masks import edit_masks
from dpnet_lite.ablation.runs import Run, digest
from dpnet_lite.ablation.table import Row, pack, pack_scores
from dpnet_lite.ablation.untrained import untrained_segmenter
from dpnet_lite.caches import default_cache
from dpnet_lite.checkpoints import versions
from dpnet_lite.episodes import draw_episodes
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.experiments.experiment import TEST_SEED, FoldData
from dpnet_lite.experiments.jobs import train_head
from dpnet_lite.features import EpisodeBatch
from dpnet_lite.heads import load_head, save_head
from dpnet_lite.model.base import EpisodeNetwork, Trace
from dpnet_lite.model.networks import build_network
from dpnet_lite.model.prototypes import masks_at
from dpnet_lite.scoring import Segmenter, head_segmenter, score_episodes


def execute(run: Run) -> list[Row]:
    """Train where there is something to train, score under every condition, and give a row for each.

    The trained weights are kept beside the cached features: another study, or another condition, takes them from
    there. A training that was killed goes on from its last state.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(run.threads)
    try:
        return _rows(run)
    finally:
        torch.set_num_threads(before)


def _rows(run: Run) -> list[Row]:
    """`execute`, in as many threads as there are."""
    segmenter, facts, observed = _segmenter(run)
    rows = []
    for condition, key in zip(run.conditions, run.keys(), strict=True):
        data = shared_fold(run.config, run.fold, run.test_gap(condition), run.scenes)
        episodes = draw_episodes(
            data.test.dataset, data.novel, fold=run.fold, n_shot=condition.n_shot, count=run.n_episodes, seed=TEST_SEED
        )
        observed.clear()
        start = time.perf_counter()
        scores = score_episodes(
            segmenter,
            data.test,
            episodes,
            original_size=run.config.original_size,
            edit_support=partial(edit_masks, edit=condition.mask, pixels=condition.pixels),
        )
        seconds = time.perf_counter() - start
        row = {
            "key": key,
            "code": code_hash(),
            "identity": run.identity(condition),
            "fold": run.fold,
            "seed": run.seed,
            "scores": pack_scores(scores),
            "miou": scores.miou,
            "fb_iou": scores.fb_iou,
            **facts,
            "seconds_per_episode": seconds / run.n_episodes,
            "versions": versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {run.config.device}",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if observed:
            row["precision"] = pack(np.concatenate(observed).astype(np.float16))
        rows.append(row)
    return rows


def _segmenter(run: Run) -> tuple[Segmenter, dict[str, Any], list[np.ndarray]]:
    """What segments, facts for its rows, and a list that collects each episode's precision of the selection."""
    observed: list[np.ndarray] = []
    backbone = config_backbone(run.config)
    if run.variant.method != "trained":
        segmenter = untrained_segmenter(run.variant.method, backbone.deep_channels)
        return segmenter, {"parameters": 0, "training_seconds": 0.0}, observed
    head, facts = _trained(run)

    def observe(batch: EpisodeBatch, trace: Trace) -> None:
        truth = masks_at(batch.query_labels == 1, (trace.reliable.shape[-2], trace.reliable.shape[-1]))
        observed.append((trace.reliable * truth).sum(dim=(1, 2)).cpu().numpy())  # [B, h, w] -> [B]

    selects = head.config.network == "dpnet" and head.config.pseudo_prototype
    return head_segmenter(head, observe=observe if selects else None), facts, observed


def _trained(run: Run) -> tuple[EpisodeNetwork, dict[str, Any]]:
    """The trained network of a run, from the cache if another study has trained it."""
    config, device = run.config, run.config.device
    key = digest([run.training_identity(), code_hash()])
    folder = (config.cache_folder or default_cache()) / "ablation"
    path, state = folder / f"{key}.safetensors", folder / key
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):  # two studies may ask for the same weights at once
        facts = _train_once(run, path, state)
    head, _ = load_head(path, device=device)
    return head, {"parameters": sum(weights.numel() for weights in head.parameters()), **facts}


def _train_once(run: Run, path: Path, state: Path) -> dict[str, Any]:
    """Train and save to `path` unless that was done before; what is to be known of the training."""
    config, device = run.config, run.config.device
    if not (path.exists() and path.with_suffix(".json").exists()):  # written one after the other
        data = shared_fold(config, run.fold, config.gap, run.scenes)
        fabric = make_fabric(device, run.training.precision)
        start = time.perf_counter()
        result = train_head(
            data,
            run.model,
            run.training,
            folder=state,
            resume=(state / "state.bin").exists(),
            fabric=fabric,
            initial_weights=_initial_weights(run, data),
        )
        facts: dict[str, Any] = {
            "training_seconds": time.perf_counter() - start,
            "training_episodes": result.episodes_sha256,
        }
        save_head(path, result.head, data.train.backbone, size=data.train.size, **facts)
    _remove_state(state)
    _, metadata = load_head(path)
    return {name: metadata[name] for name in ("training_seconds", "training_episodes")}


def _initial_weights(run: Run, data: FoldData) -> dict[str, Tensor]:
    """The weights that the study's base network starts with: what a variant has in common with it starts alike."""
    backbone = data.train.backbone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        return build_network(run.config.model, backbone.out_channels, backbone.deep_channels).state_dict()


def _remove_state(state: Path) -> None:
    """The state for resuming is of no use once the weights are saved."""
    for name in ("state.bin", "log.jsonl"):
        (state / name).unlink(missing_ok=True)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()
