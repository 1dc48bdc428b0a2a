"""Scoring under protocols: any data under any of them, and a trained head on a published data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpnet_lite.checkpoints import Trained
from dpnet_lite.datasets.base import CountedDataset
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.experiment import EvaluationData
from dpnet_lite.experiments.intervals import Interval, mean_interval, percent
from dpnet_lite.experiments.jobs import Scored, refuse_seen_classes
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.experiments.tables import aligned, enough_episodes
from dpnet_lite.published.copy import PublishedCopy
from dpnet_lite.published.image_source import ImageSource
from dpnet_lite.published.pascal import fold_pairs
from dpnet_lite.published.protocols.drawing import draw_for
from dpnet_lite.published.protocols.scoring import evaluate_under, protocol_score
from dpnet_lite.published.protocols.specs import Protocol
from dpnet_lite.published.registry import fold_classes, published

_NAMED = 20  # classes that a line names
_KEPT_BYTES = 4_000_000_000  # of features, when scoring
_Counts = dict[str, EpisodeScores]  # by name of the protocol, from the same predictions


def published_data(
    copy: PublishedCopy,
    path: Path,
    trained: Trained,
    protocol: Protocol,
    *,
    fold: int,
    shots: Sequence[int],
    seeds: Sequence[int],
    n_episodes: int | None,
    size: int,
) -> EvaluationData:
    """The images of a fold and the episodes that a protocol draws of them, a list for each number of shots and seed.

    Args:
        path: of the trained head, for the error's words.
        n_episodes: of each list; None: as many as the protocol has.
        size: side of the network's square in pixels.

    Raises:
        ValueError: the head was trained on classes that are novel here.
    """
    split, backbone = published(copy.name).test_split, trained.backbone
    dataset = copy.open(split, Stages())
    novel = fold_classes(copy.name, fold, split, n_split_classes=len(dataset.class_names)).novel
    refuse_seen_classes(path, trained.metadata, [dataset.class_names[index] for index in novel], fold)
    per_image = 2 * backbone.out_channels * (-(-size // backbone.stride)) ** 2  # bytes
    source = ImageSource(dataset, backbone, size=size, kept=_KEPT_BYTES // per_image)
    pairs = listed_pairs(copy, dataset, fold)
    draw = partial(draw_for, protocol, dataset, novel, fold=fold, count=n_episodes, benchmark=copy.name, pairs=pairs)
    return EvaluationData(source, novel, [draw(n_shot=n_shot, seed=seed) for n_shot in shots for seed in seeds])


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

    HSNet's protocol tests these pairs, in this order. ValueError for a pair that cannot be one of the fold's.
    """
    if copy.hsnet_lists is None:
        return None
    novel = fold_classes(copy.name, fold, "val").novel
    return fold_pairs(copy.hsnet_lists, fold, novel, dataset.ids, dataset.class_pixels)


def count_under(protocols: Sequence[Protocol], benchmark: str = "pascal5i") -> Callable[..., _Counts]:
    """What `experiments.jobs.evaluate` takes to count the same predictions under all protocols.

    Args:
        protocols: values of PROTOCOLS.
        benchmark: whose figures hold.
    """
    return partial(evaluate_under, protocols=protocols, benchmark=benchmark)


def protocol_table(runs: Sequence[Scored[_Counts]], protocols: Sequence[Protocol], classes: Sequence[int]) -> str:
    """A row per protocol, number of shots and method: the mean over the lists, and their range, in percent.

    Ours also has a bootstrap interval of that mean, where every class has episodes enough: these networks, other
    episodes. The other protocols have no interval of their own. `classes` are all novel classes of the fold, also those
    without an episode. Where one cannot be scored, the row says of how many classes it is, and a line names the others.
    """
    notes = list[str]()
    rows = [["protocol", "method", "shots", "lists x episodes", "mIoU % [95 %]", "range of lists", "FB-IoU %"]]
    for protocol in protocols:
        for n_shot, method in dict.fromkeys((run.episodes.n_shot, run.method) for run in runs):
            chosen = [
                run.scores[protocol.name] for run in runs if (run.episodes.n_shot, run.method) == (n_shot, method)
            ]
            scores = np.array([protocol_score(protocol, s.class_index, s.counts, classes) for s in chosen])  # [runs, 2]
            miou, fb_iou = scores.mean(axis=0)
            unscored = [index for index in classes if any(np.isnan(s.class_iou().get(index, np.nan)) for s in chosen)]
            share = f" ({len(classes) - len(unscored)} of {len(classes)} classes)" if unscored else ""
            if unscored:
                notes.append(
                    _unscored_note(protocol, protocols[0], [chosen[0].class_names[index] for index in unscored])
                )
            shown = "none" if np.isnan(miou) else percent(miou, _interval(chosen, protocol))
            ends = [percent(end) for end in (scores[:, 0].min(), scores[:, 0].max())]
            reach = " to ".join(ends) if len(chosen) > 1 and not np.isnan(miou) else ""
            row = [protocol.name, method, str(n_shot), f"{len(chosen)} x {len(chosen[0].class_index):,}"]
            rows.append([*row, f"{shown}{share}", reach, "none" if np.isnan(fb_iou) else percent(fb_iou)])
    lists = dict.fromkeys((run.episodes.n_shot, run.episodes.seed, run.episodes.sha256[:12]) for run in runs)
    hashes = ", ".join(f"{n_shot}-shot seed {seed} {digest}" for n_shot, seed, digest in lists)
    drawn = f" All count the same predictions, on episodes drawn as {protocols[0].name} does."
    if any("[" in row[4] for row in rows[1:]):
        notes.insert(0, "Intervals: episodes only, one training.")
    told = "".join(f"\n\n{note}" for note in dict.fromkeys(notes))
    return f"{aligned(rows)}\n\nEpisodes (SHA-256): {hashes}.{drawn if len(protocols) > 1 else ''}{told}"


def _unscored_note(protocol: Protocol, drawn: Protocol, names: Sequence[str]) -> str:
    others = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    counted = "counted as 0" if protocol.rule in ("clamped", "epsilon") else "left out of the mean"
    text = f"{', '.join(names[:_NAMED])}{others} ({counted}); in a list no episode shows its object"
    why = "" if drawn.drawing == "turns" else f"; {drawn.name} has no turns of classes: give more with --episodes, or"
    return f"{protocol.name}, not scored: {text}{why or ','} see: dpnet-lite data check."


def _interval(scores: Sequence[EpisodeScores], protocol: Protocol) -> Interval | None:
    return mean_interval(scores) if protocol.name == "ours" and enough_episodes(scores) else None


def run_rows(runs: Sequence[Scored[_Counts]], classes: Sequence[int]) -> list[dict[str, Any]]:
    """Everything that the tables are computed from, as JSON can hold it."""
    return [
        {
            "method": run.method,
            "n_shot": run.episodes.n_shot,
            "seed": run.episodes.seed,
            "classes": list(classes),
            "scores": {name: scores.to_dict() for name, scores in run.scores.items()},
        }
        for run in runs
    ]
