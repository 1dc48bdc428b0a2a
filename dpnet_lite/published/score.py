"""Scoring a trained head on a published data set, under one or more protocols."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpnet_lite.backbones.backbone import build_backbone
from dpnet_lite.datasets.base import CountedDataset
from dpnet_lite.experiments.fold_run import FULL, TRAINING_FREE
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.heads import load_head
from dpnet_lite.published.copy import PublishedCopy
from dpnet_lite.published.image_source import ImageSource
from dpnet_lite.published.list_files import read_hsnet_fold
from dpnet_lite.published.protocol_runs import protocol_table, run_protocols, write_runs
from dpnet_lite.published.protocols.drawing import draw_for
from dpnet_lite.published.protocols.specs import Protocol, find_protocol
from dpnet_lite.published.registry import fold_classes, published
from dpnet_lite.scoring import Segmenter, head_segmenter, training_free_segmenter

KEPT_BYTES = 4_000_000_000  # of features, when scoring


def evaluate_published(
    copy: PublishedCopy,
    path: Path,
    *,
    protocols: Sequence[str],
    fold: int | None = None,
    shots: Sequence[int] = (1, 5),
    seed: int | None = None,
    n_episodes: int | None = None,
    size: int | None = None,
    output: Path | None = None,
) -> str:
    """Score a head under one or more protocols, beside the training-free baseline; returns tables.

    With one protocol, episodes are drawn by its own rule, in its own number, once for each of its seeds. With several,
    the first one's episodes are taken, and all protocols count the same predictions on them.

    Raises:
        ValueError: the head was trained on other weights, or on classes that are novel here.
    """
    head, metadata = load_head(path, device=copy.device)
    backbone = build_backbone(
        metadata["backbone"], copy.backbone_weights, device=copy.device, precision=metadata["precision"]
    )
    if backbone.fingerprint != metadata["backbone_fingerprint"]:
        raise ValueError(f"{path} was trained on other {backbone.name} weights; name them with --backbone-weights")
    specs = [find_protocol(name) for name in protocols]
    fold = int(metadata.get("fold", 0)) if fold is None else fold
    split = published(copy.name).test_split
    dataset = copy.open(split, Stages())
    novel = fold_classes(copy.name, fold, split, n_split_classes=len(dataset.class_names)).novel
    _refuse_seen(path, metadata, [dataset.class_names[index] for index in novel], fold)
    side = int(metadata["size"]) if size is None else size
    per_image = 2 * backbone.out_channels * (-(-side // backbone.stride)) ** 2  # bytes
    source = ImageSource(dataset, backbone, size=side, kept=KEPT_BYTES // per_image)
    seeds = specs[0].seeds if seed is None else (seed,)
    pairs = listed_pairs(copy, dataset, fold)
    lists = [
        draw_for(
            specs[0],
            dataset,
            novel,
            fold=fold,
            n_shot=n_shot,
            seed=own,
            count=n_episodes,
            benchmark=copy.name,
            pairs=pairs,
        )
        for n_shot in shots
        for own in seeds
    ]
    segmenters: dict[str, Segmenter] = {
        TRAINING_FREE: training_free_segmenter(backbone.deep_channels),
        FULL: head_segmenter(head),
    }
    runs = run_protocols(
        segmenters, source, lists, specs, novel, stages=Stages(len(lists) * len(segmenters)), benchmark=copy.name
    )
    if output is not None:
        write_runs(output, path.name, runs)
    what = f"{published(copy.name).title}, fold {fold}, by {path} ({metadata.get('recipe', 'no recipe')})"
    notes = departures(specs, copy.name, has_pairs=pairs is not None, shots=shots)
    return "\n\n".join([what, protocol_table(runs, specs), *notes])


def departures(specs: Sequence[Protocol], name: str, *, has_pairs: bool, shots: Sequence[int] = (1,)) -> list[str]:
    """What a reader of the table must know where it departs from a repository's own way of testing."""
    notes = []
    if specs[0].name == "hsnet" and name == "pascal5i" and not has_pairs:
        notes.append("hsnet: all pairs of image and class, not HSNet's own; give the folder of its lists with --lists.")
    if max(shots) > 1 and any(protocol.name == "hsnet" for protocol in specs):
        notes.append("hsnet: HSNet votes over the answers of single shots; here the network sees all of them at once.")
    if specs[0].name == "hsnet" and name == "coco20i":
        notes.append("hsnet: images in the order of this data set, not of HSNet's own file.")
    if name == "coco20i" and any(protocol.coco_folds != published(name).layout for protocol in specs):
        notes.append("ssp: SSP's own folds are runs of neighbouring classes; these are interleaved.")
    return notes


def listed_pairs(copy: PublishedCopy, dataset: CountedDataset, fold: int) -> list[tuple[int, int]] | None:
    """(image index, class index) pairs of HSNet's lists for PASCAL-5i where the copy was opened with them, else None.

    HSNet's protocol tests these pairs, in this order.
    """
    if copy.name != "pascal5i" or copy.lists is None or not (copy.lists / "val").is_dir():
        return None
    places = {name: index for index, name in enumerate(dataset.ids)}
    return [(places[pair.id], pair.class_index) for pair in read_hsnet_fold(copy.lists, "val", fold)]


def _refuse_seen(path: Path, metadata: dict[str, Any], novel: Sequence[str], fold: int) -> None:
    seen = sorted(set(novel) & set(metadata.get("base_classes", [])))
    if seen:
        raise ValueError(
            f"{path} was trained on {seen[0]!r}, a novel class of fold {fold}; score it on its own data "
            f"({metadata.get('data')}) with the fold of its training (--fold {metadata.get('fold')})"
        )
