"""Single jobs behind the command line: train one head, score one checkpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from .comparison import FULL, TEST_SEED, TRAINING_FREE, FoldResult, train_head
from .demo import DemoConfig, demo_bank, demo_fold
from .devices import make_fabric
from .episodes import draw_episodes
from .heads import load_head, save_head
from .model.backbone import build_backbone
from .reporting import summary_table
from .scoring import head_segmenter, score_episodes, training_free_segmenter
from .tensor_files import write_atomically


def train_one(config: DemoConfig, path: Path, *, resume: bool = False, tensorboard: Path | None = None) -> Path:
    """Train the first fold and seed of `config` and save the head to `path`.

    The state for resuming and `log.jsonl` lie in a folder beside it, named like it.
    """
    fabric = make_fabric(config.device, config.training.precision, tensorboard=tensorboard)
    backbone = build_backbone(
        config.backbone, config.backbone_weights, device=fabric.device, precision=config.precision
    )
    bank = None if config.data == "toy" else demo_bank(config, backbone)
    training = replace(config.training, seed=config.seeds[0])
    data, stages = demo_fold(config, backbone, bank, config.folds[0], training.seed)
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
            path, result.head, backbone, size=config.size, step=result.step, data=data.train.dataset.name,
            fold=data.fold, seed=training.seed, training=training.to_dict(),
            validation=result.validation,
        )  # fmt: skip
    return path


def evaluate_checkpoint(config: DemoConfig, path: Path, *, seed: int | None = None, output: Path | None = None) -> str:
    """Score a head on the novel classes of the first fold of `config`, beside the training-free baseline.

    Returns the table; `output` also gets the scores as JSON.
    """
    head, metadata = load_head(path, device=config.device)
    backbone = build_backbone(
        metadata["backbone"], config.backbone_weights, device=config.device, precision=metadata["precision"]
    )
    if backbone.fingerprint != metadata["backbone_fingerprint"]:
        raise ValueError(f"{path} was trained on other {backbone.name} weights; name them with --backbone-weights")
    if metadata.get("fold") != config.folds[0]:
        raise ValueError(
            f"{path} was trained on the base classes of fold {metadata.get('fold')}, so fold {config.folds[0]} "
            f"holds classes it has seen; give --fold {metadata.get('fold')}"
        )
    bank = None if config.data == "toy" else demo_bank(config, backbone)
    data, stages = demo_fold(config, backbone, bank, config.folds[0], 0)
    lists = {
        n_shot: draw_episodes(
            data.test.dataset, data.novel, fold=data.fold, n_shot=n_shot, count=config.n_episodes,
            seed=TEST_SEED if seed is None else seed,
        )
        for n_shot in config.shots
    }  # fmt: skip
    segmenters = {TRAINING_FREE: training_free_segmenter(backbone.deep_channels), FULL: head_segmenter(head)}
    scores = {
        (name, n_shot): score_episodes(
            segment, data.test, lists[n_shot], original_size=config.original_size,
            progress=stages(f"scoring {name}, {n_shot}-shot"),
        )
        for n_shot in config.shots
        for name, segment in segmenters.items()
    }  # fmt: skip
    if output is not None:
        rows = [[name, n_shot, score.to_dict()] for (name, n_shot), score in scores.items()]
        write_atomically(output, json.dumps({"checkpoint": path.name, "scores": rows}).encode())
    return summary_table([FoldResult(data.fold, 0, scores, lists)])
