"""Training by a recipe, and what it would cost."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from dpnet_lite.backbones.backbone import Backbone, build_backbone
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import class_pools
from dpnet_lite.experiments.devices import make_fabric
from dpnet_lite.experiments.fold_data import Stage, TrainingData, silent
from dpnet_lite.experiments.fold_run import train_head, training_facts
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.heads import save_head
from dpnet_lite.parts import check_division
from dpnet_lite.published.copy import PublishedCopy
from dpnet_lite.published.image_source import ImageSource
from dpnet_lite.published.recipe_files import Recipe
from dpnet_lite.published.registry import fold_classes
from dpnet_lite.training import Trainer
from dpnet_lite.training_setup import area_rule

WARM_UP, MEASURED = 3, 10  # steps of an estimate


def train_published(
    recipe: Recipe,
    copy: PublishedCopy,
    path: Path,
    *,
    fold: int,
    seed: int,
    steps: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: Path | None = None,
    estimate: bool = False,
) -> str:
    """Train the head of one fold by a recipe and save it to `path`; returns a line that says so.

    With `estimate`, a few steps are measured instead, and what the whole would cost is returned; nothing is saved.

    Raises:
        ValueError: `path` is there already, and neither `resume` nor `overwrite` was asked for; or the recipe is for
            another data set.
    """
    if recipe.data != copy.name:
        raise ValueError(
            f"recipe {recipe.name} is for {recipe.data}, but the data is {copy.name}; choose another recipe"
        )
    if path.exists() and not (resume or overwrite or estimate):
        raise ValueError(f"{path} is there already; give another name with --out, or replace it with --overwrite")
    fabric = make_fabric(copy.device, recipe.training.precision, tensorboard=tensorboard)
    check_division(recipe.training, fabric.world_size)
    backbone = build_backbone(recipe.backbone, copy.backbone_weights, device=fabric.device, precision=copy.precision)
    with fabric.rank_zero_first(local=True):  # the first process of a machine counts the masks, the others find it
        data = training_data(recipe, copy, backbone, fold, Stages())
        n_images = count_images(data, recipe.training)
    steps = recipe.steps(n_images) if steps is None else steps
    training = replace(recipe.training, seed=seed, steps=steps)
    if estimate:
        return estimate_cost(recipe, data, training, fabric, stage=Stages(2))
    result = train_head(
        data, recipe.model, training, folder=path.with_suffix(""), resume=resume, stage=Stages(1), fabric=fabric
    )
    if fabric.is_global_zero:
        save_head(
            path,
            result.head,
            backbone,
            size=data.train.size,
            validation=result.validation,
            recipe=recipe.name,
            novel=recipe.novel,
            **training_facts(data, training, result),
        )
    share = 100 * result.waited / result.seconds if result.seconds else 0.0
    return (
        f"saved {path}: weights of step {result.step} of {training.steps}; {result.seconds:.0f} s in the loop, "
        f"of which {share:.0f} % waiting for images"
    )


def training_data(recipe: Recipe, copy: PublishedCopy, backbone: Backbone, fold: int, stages: Stages) -> TrainingData:
    """The training images of a fold, as the recipe treats novel objects in them."""
    dataset = copy.open("train", stages)
    classes = fold_classes(copy.name, fold, "train", n_split_classes=len(dataset.class_names))
    view = TrainingView(dataset, classes.novel, recipe.novel)
    source = ImageSource(view, backbone, size=recipe.size, workers=copy.workers)
    return TrainingData(fold, source, classes.base)


def count_images(data: TrainingData, training: TrainingConfig) -> int:
    """How many images can serve an episode of a base class."""
    pools = class_pools(data.train.dataset, data.base, **area_rule(training))
    return len(np.unique(np.concatenate(list(pools.values()))))


def estimate_cost(
    recipe: Recipe, data: TrainingData, training: TrainingConfig, fabric: Fabric, *, stage: Stage = silent
) -> str:
    """What a whole training would take on this machine, from a few steps of it."""
    few = replace(training, steps=WARM_UP + MEASURED, checkpoint_every=0, validate_every=0, n_held_out=0)
    on_gpu = fabric.device.type == "cuda"
    trainer = Trainer(recipe.model, few, data.train, data.base, fold=data.fold, fabric=fabric)
    trainer.run(stop_after=WARM_UP, progress=stage("warming up"))
    started, waited = time.perf_counter(), data.train.waited
    trainer.run(stop_after=few.steps, progress=stage("measuring"))
    if on_gpu:
        torch.cuda.synchronize()
    seconds = (time.perf_counter() - started) / MEASURED
    share = 100 * (data.train.waited - waited) / (seconds * MEASURED)
    memory = f"at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory, " if on_gpu else ""
    where = torch.cuda.get_device_name() if on_gpu else f"the CPU, threads: {torch.get_num_threads()}"
    hours = seconds * training.steps / 3600
    duration = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    return (
        f"estimate for {recipe.name}, fold {data.fold}, from {MEASURED} measured steps on {where}, "
        f"{fabric.world_size} process{'es' if fabric.world_size > 1 else ''}: {training.steps:,} steps of "
        f"{training.batch_size} episodes at {seconds:.2f} s take {duration}; "
        f"{memory}{share:.0f} % of the time waiting for images"
    )
