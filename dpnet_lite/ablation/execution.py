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
from torch import nn

import dpnet_lite
from dpnet_lite.ablation.masks import edit_masks
from dpnet_lite.ablation.rivals import NETWORKS, untrained_segmenter
from dpnet_lite.ablation.runs import RESULTS_VERSION, Run, digest
from dpnet_lite.ablation.table import Row, pack, pack_scores
from dpnet_lite.checkpoints import load_head, save_head, versions
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.experiments.experiment import novel_episodes
from dpnet_lite.experiments.jobs import train_head
from dpnet_lite.model.dpnet import Trace
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.model.prototypes import masks_at
from dpnet_lite.scoring import Segmenter, head_segmenter, score_episodes
from dpnet_lite.storage.caches import default_cache
from dpnet_lite.storage.files import locked
from dpnet_lite.storage.run_folder import load_training_state
from dpnet_lite.training import initial_network


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
    for condition, key in zip(run.conditions, run.row_keys, strict=True):
        data = run.data(condition)
        repeats = run.experiment.is_toy or run.experiment.repeat_support
        how: dict[str, Any] = {"shots": [condition.n_shot], "n_episodes": run.n_episodes, "repeats": repeats}
        (episodes,) = novel_episodes(data.test, data.novel, run.fold, **how).lists
        observed.clear()
        start = time.perf_counter()
        scores = score_episodes(
            segmenter,
            data.test,
            episodes,
            original_size=run.experiment.original_size,
            edit_support=partial(edit_masks, edit=condition.mask, pixels=condition.pixels),
        )
        seconds = time.perf_counter() - start
        row = {
            "key": key,
            "code": f"{dpnet_lite.__version__} (results version {RESULTS_VERSION})",
            "identity": run.identity(condition),
            "fold": run.fold,
            "seed": run.seed,
            "scores": pack_scores(scores),
            "miou": scores.miou,
            "fb_iou": scores.fb_iou,
            **facts,
            "seconds_per_episode": seconds / run.n_episodes,
            "versions": versions(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {run.experiment.device}",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        if observed:
            row["precision"] = pack(np.concatenate(observed).astype(np.float16))
        rows.append(row)
    return rows


def _segmenter(run: Run) -> tuple[Segmenter, dict[str, Any], list[np.ndarray]]:
    """What segments, facts for its rows, and a list that collects each episode's precision of the selection."""
    observed: list[np.ndarray] = []
    if run.variant.method != "trained":
        segmenter = untrained_segmenter(run.variant.method, run.backbone.deep_channels)
        return segmenter, {"parameters": 0, "training_seconds": 0.0}, observed
    head, facts = _trained(run)

    def observe(batch: EpisodeBatch, trace: Trace) -> None:
        truth = masks_at(batch.query_labels == 1, batch.cells)
        observed.append((trace.reliable * truth).sum(dim=(1, 2)).cpu().numpy())  # [B, h, w] -> [B]

    selects = run.model.network == "dpnet" and run.model.pseudo_prototype
    return head_segmenter(head, observe=observe if selects else None), facts, observed


def _trained(run: Run) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network of a run, from the cache if another study has trained it, and what its rows say of it."""
    key = digest(run.training_identity())
    folder = (run.experiment.cache_folder or default_cache()) / "ablation"
    path, state = folder / f"{key}.safetensors", folder / key
    with locked(folder / f"{key}.lock", f"another process trains {path}", option="--cache"):
        if (kept := _kept(run, path)) is None:
            _train(run, path, state)
            kept = _kept(run, path)
        _remove_state(state)
    assert kept is not None, path
    head, facts = kept
    return head, {"parameters": sum(weights.numel() for weights in head.parameters()), **facts}


def _kept(run: Run, path: Path) -> tuple[nn.Module, dict[str, Any]] | None:
    """A trained network and facts of its training; None where there is none that is whole and this run's own."""
    try:
        head, metadata = load_head(path, device=run.experiment.device, networks=NETWORKS)
        facts = {name: metadata[name] for name in ("training_seconds", "training_episodes")}
        return (head, facts) if digest(metadata["identity"]) == path.stem else None
    except (FileNotFoundError, KeyError, ValueError):
        return None


def _train(run: Run, path: Path, state: Path) -> None:
    """Train and save to `path`; what can be resumed is kept in `state`."""
    data, base = run.data(), run.experiment.model
    # What a variant has in common with the study's base network starts alike.
    start = initial_network(base, run.backbone, run.seed, kind=NETWORKS[base.network]).state_dict()
    started = time.perf_counter()
    try:
        load_training_state(state / "state.bin")
    except (FileNotFoundError, ValueError):  # a damaged one is of no use
        _remove_state(state)
    result = train_head(
        data,
        run.model,
        run.training,
        folder=state,
        resume=(state / "state.bin").exists(),
        fabric=make_fabric(run.experiment.device, run.training.precision),
        initial_weights=start,
        networks=NETWORKS,
    )
    facts: dict[str, Any] = {
        "training_seconds": time.perf_counter() - started,
        "training_episodes": result.episodes_sha256,
        "identity": run.training_identity(),
    }
    save_head(path, result.head, run.backbone, size=data.train.size, **facts)


def _remove_state(state: Path) -> None:
    """The state for resuming is of no use once the weights are saved."""
    for name in ("state.bin", "log.jsonl"):
        (state / name).unlink(missing_ok=True)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()
