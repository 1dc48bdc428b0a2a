"""What a recipe trains on, and what it would cost."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.checkpoints import DPNET_ALONE, Networks
from dpnet_lite.config import TrainingConfig
from dpnet_lite.datasets.novel import TrainingView
from dpnet_lite.episodes import check_division, class_pools
from dpnet_lite.experiments.experiment import TrainingData
from dpnet_lite.experiments.progress import Stage, Stages, silent
from dpnet_lite.published.coco import refuse_two_years
from dpnet_lite.published.copy import PublishedCopy
from dpnet_lite.published.fss import claim_classes, read_class_list
from dpnet_lite.published.image_source import ImageSource
from dpnet_lite.published.list_files import read_ids
from dpnet_lite.published.mask_index import MaskedDataset
from dpnet_lite.published.pascal import refuse_shared
from dpnet_lite.published.recipe_files import Recipe
from dpnet_lite.published.registry import fold_classes, published
from dpnet_lite.training import Trainer, area_rule, initial_network

if TYPE_CHECKING:
    from lightning_fabric import Fabric

WARM_UP, MEASURED = 3, 10  # steps of an estimate


def recipe_data(recipe: Recipe, copy: PublishedCopy, fold: int, fabric: Fabric) -> TrainingData:
    """The training images of a fold, with novel objects in them as the recipe has it.

    Raises:
        ValueError: the recipe is for another data set, or its batches cannot be divided among the processes.
    """
    if recipe.data != copy.name:
        raise ValueError(
            f"recipe {recipe.name} is for {recipe.data}, but the data is {copy.name}; choose another recipe"
        )
    check_division(recipe.training, fabric.world_size)
    _refuse_overlap(copy)
    backbone = build_backbone(recipe.backbone, copy.backbone_weights, device=fabric.device, precision=copy.precision)
    with fabric.rank_zero_first(local=True):  # the first process of a machine counts the masks, the others find it
        dataset = copy.open("train", Stages())
        classes = fold_classes(copy.name, fold, "train", n_split_classes=len(dataset.class_names))
        _refuse_empty_classes(dataset)
        view = TrainingView(dataset, classes.novel, recipe.novel)
        source = ImageSource(view, backbone, size=recipe.size, workers=copy.workers)
        return TrainingData(fold, source, classes.base)


def _refuse_overlap(copy: PublishedCopy) -> None:
    """ValueError where another split has images or classes of train; one that is absent has none."""
    if copy.name == "pascal5i" and copy.lists is not None:
        refuse_shared(read_ids(copy.lists, "train"), read_ids(copy.lists, "val"))
    with suppress(FileNotFoundError):
        if copy.name == "coco20i":
            refuse_two_years(copy.root)
    owner: dict[str, str] = {}
    for split in published(copy.name).splits if copy.name == "fss1000" else ():
        with suppress(FileNotFoundError):
            claim_classes(*read_class_list(copy.lists or copy.root, split), split, owner)


def _refuse_empty_classes(dataset: MaskedDataset) -> None:
    """ValueError where a class has images, and all their masks are empty: there would be nothing to learn."""
    is_empty = dataset.class_areas.any(axis=0) & ~dataset.class_pixels.any(axis=0)
    if is_empty.any():
        first = dataset.class_names[int(is_empty.argmax())]
        raise ValueError(
            f"no mask of class {first} shows it ({is_empty.sum()} such classes); see: dpnet-lite data check"
        )


def count_images(data: TrainingData, training: TrainingConfig) -> int:
    """How many images can serve an episode of a base class."""
    pools = class_pools(data.train.dataset, data.base, **area_rule(training))
    return len(np.unique(np.concatenate(list(pools.values()))))


def estimate_cost(
    recipe: Recipe,
    data: TrainingData,
    training: TrainingConfig,
    fabric: Fabric,
    *,
    stage: Stage = silent,
    networks: Networks = DPNET_ALONE,
) -> str:
    """What a whole training would take on this machine, from a few steps of it."""
    few = replace(training, steps=WARM_UP + MEASURED, checkpoint_every=0, validate_every=0, n_held_out=0)
    on_gpu = fabric.device.type == "cuda"
    kind = networks[recipe.model.network]
    network = initial_network(recipe.model, data.train.backbone, few.seed, kind=kind)
    trainer = Trainer(network, few, data.train, data.base, fold=data.fold, fabric=fabric)
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
