"""Runs of several methods under evaluation protocols: their scores, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpnet_lite.episodes import EpisodeList
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import mean_interval
from dpnet_lite.experiments.progress import Stages
from dpnet_lite.experiments.resampling import Interval
from dpnet_lite.experiments.tables import aligned, enough_episodes, percent
from dpnet_lite.features import EpisodeSource
from dpnet_lite.files import write_atomically
from dpnet_lite.published.protocols.scoring import evaluate_under, protocol_score
from dpnet_lite.published.protocols.specs import Protocol
from dpnet_lite.scoring import Segmenter


@dataclass(frozen=True)
class ProtocolRun:
    """One method on one list of episodes, counted under one or more protocols."""

    method: str
    n_shot: int
    seed: int
    classes: tuple[int, ...]  # all novel classes of the fold, also those without an episode
    scores: dict[str, EpisodeScores]  # by name of the protocol

    def score(self, protocol: Protocol) -> tuple[float, float]:
        """mIoU and FB-IoU as the protocol computes them, in [0, 1]."""
        counted = self.scores[protocol.name]
        return protocol_score(protocol, counted.class_index, counted.counts, self.classes)


def run_protocols(
    segmenters: Mapping[str, Segmenter],
    source: EpisodeSource,
    lists: Sequence[EpisodeList],
    protocols: Sequence[Protocol],
    classes: Sequence[int],
    *,
    stages: Stages,
    benchmark: str = "pascal5i",
) -> list[ProtocolRun]:
    """Every method on every list; all protocols count the same predictions.

    Args:
        segmenters: by name of the method.
        source: of the data set that the lists were drawn from.
        lists: episodes of any seeds and numbers of shots.
        protocols: values of PROTOCOLS.
        classes: all novel classes of the fold.
        stages: one is taken for each method and list.
        benchmark: whose figures hold.
    """
    return [
        ProtocolRun(
            method,
            episodes.n_shot,
            episodes.seed,
            tuple(classes),
            evaluate_under(
                segment,
                source,
                episodes,
                protocols,
                benchmark=benchmark,
                progress=stages(f"scoring {method}, {episodes.n_shot}-shot, seed {episodes.seed}"),
            ),
        )
        for episodes in lists
        for method, segment in segmenters.items()
    ]


def protocol_table(runs: Sequence[ProtocolRun], protocols: Sequence[Protocol]) -> str:
    """A row per protocol, number of shots and method: the mean over the lists, and their range, in percent.

    Ours also has a bootstrap interval of that mean, where every class has episodes enough: these networks, other
    episodes. The other protocols have no interval of their own.
    """
    rows = [["protocol", "method", "shots", "lists x episodes", "mIoU % [95 %]", "range of lists", "FB-IoU %"]]
    for protocol in protocols:
        for n_shot, method in dict.fromkeys((run.n_shot, run.method) for run in runs):
            chosen = [run for run in runs if (run.n_shot, run.method) == (n_shot, method)]
            scores = np.array([run.score(protocol) for run in chosen])  # [n_runs, 2]
            n_episodes = len(chosen[0].scores[protocol.name].class_index)
            miou, fb_iou = scores.mean(axis=0)
            spread = f"{percent(scores[:, 0].min())} to {percent(scores[:, 0].max())}" if len(chosen) > 1 else ""
            rows.append(
                [
                    protocol.name,
                    method,
                    str(n_shot),
                    f"{len(chosen)} x {n_episodes:,}",
                    percent(miou, _interval(chosen, protocol)),
                    spread,
                    "none" if np.isnan(fb_iou) else percent(fb_iou),
                ]
            )
    hashes = ", ".join(
        f"{n_shot}-shot seed {seed} {digest[:12]}"
        for n_shot, seed, digest in dict.fromkeys(
            (run.n_shot, run.seed, next(iter(run.scores.values())).episodes_sha256) for run in runs
        )
    )
    drawn = f" All count the same predictions, on episodes drawn as {protocols[0].name} does."
    if len(protocols) == 1:
        drawn = ""
    return f"{aligned(rows)}\n\nEpisodes (SHA-256): {hashes}.{drawn}"


def _interval(runs: Sequence[ProtocolRun], protocol: Protocol) -> Interval | None:
    counted = [run.scores[protocol.name] for run in runs]
    return mean_interval(counted) if protocol.name == "ours" and enough_episodes(counted) else None


def write_runs(path: Path, checkpoint: str, runs: Sequence[ProtocolRun]) -> None:
    """Write as JSON everything that the tables are computed from."""
    rows = [
        {
            "method": run.method,
            "n_shot": run.n_shot,
            "seed": run.seed,
            "classes": list(run.classes),
            "scores": {name: scores.to_dict() for name, scores in run.scores.items()},
        }
        for run in runs
    ]
    write_atomically(path, json.dumps({"checkpoint": checkpoint, "runs": rows}).encode())
