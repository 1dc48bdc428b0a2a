"""One episode, opened up: what the lessons and the explorers look at.

toy = ToyEpisodes(fold=0, gap=0.5)  # or ObjectEpisodes(), photographs
opened = toy.open(toy.episodes()[0])
opened.trace.pseudo_prototype, opened.iou ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from dpnet_lite.checkpoints import load_trained, shipped_head
from dpnet_lite.datasets import objects
from dpnet_lite.datasets.base import SegmentationDataset
from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.datasets.toy import DEFAULT_GAP, ToyWorld, catalogue_names
from dpnet_lite.datasets.transforms import resize_sample
from dpnet_lite.episodes import Episode, EpisodeList, draw_episodes
from dpnet_lite.experiments.kept_features import compute_features
from dpnet_lite.experiments.presets import N_FOLDS
from dpnet_lite.features import FeatureBank
from dpnet_lite.model.dpnet import DPNet, Trace
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.model.prototypes import masks_at
from dpnet_lite.scoring import predicted_mask


@dataclass(frozen=True)
class OpenedEpisode:
    """An episode with all that a head made of it. H = W is the size of its input, h = w that of the features."""

    episode: Episode
    class_name: str
    support_images: np.ndarray  # uint8 [K, H, W, 3]
    support_masks: np.ndarray  # bool [K, H, W]
    query_image: np.ndarray  # uint8 [H, W, 3]
    truth: np.ndarray  # bool [H, W]
    others: dict[str, np.ndarray]  # bool [H, W] of each other class that the query's labels show
    batch: EpisodeBatch  # of this one episode: B = 1
    trace: Trace
    prediction: np.ndarray  # bool [H, W]

    @property
    def iou(self) -> float:
        """IoU of prediction and truth, in [0, 1]."""
        return float((self.prediction & self.truth).sum() / max(1, (self.prediction | self.truth).sum()))

    @property
    def selected(self) -> np.ndarray:
        """float32 [H, W] in [0, 1]: weight of every query pixel in P_q, the greatest 1."""
        weights = self.trace.reliable[0]
        size = self.query_image.shape[:2]
        return functional.interpolate((weights / weights.max())[None, None], size)[0, 0].numpy()  # [h, w] -> [H, W]

    @property
    def truth_shares(self) -> Tensor:
        """float32 [h, w] in [0, 1]: how much of each feature cell of the query is foreground."""
        return masks_at(torch.from_numpy(self.truth), self.batch.cells)


class ShownEpisodes:
    """A data set, and a head that never saw the classes to look at.

    Args:
        dataset: images of any size; they are squashed to that of the head.
        head: the name of shipped weights, or a path (see `shipped_head`).
        novel: indices of the classes to look at.
        fold: of the episode lists.
    """

    def __init__(self, dataset: SegmentationDataset, head: str | Path, novel: Sequence[int], fold: int = 0) -> None:
        trained = load_trained(head)
        self.dataset, self.novel, self.fold = dataset, tuple(novel), fold
        self.class_names = dataset.class_names
        self.head: DPNet = trained.head
        self.backbone, self.size = trained.backbone, trained.size

    @cached_property
    def bank(self) -> FeatureBank:
        """Backbone features of all images, computed at the first use."""
        return compute_features(self.dataset, self.backbone, size=self.size)

    def episodes(self, *, n_shot: int = 1, count: int = 60, seed: int = 1) -> EpisodeList:
        """A frozen list of episodes of the novel classes."""
        how = {"fold": self.fold, "n_shot": n_shot, "count": count, "seed": seed}
        return draw_episodes(self.dataset, self.novel, repeats=True, **how)

    def open(self, episode: Episode, *, oracle_weights: Tensor | None = None, **switches: Any) -> OpenedEpisode:
        """Run the head on one episode, with some of its switches changed (see `with_switches`).

        Args:
            oracle_weights: as in `open_episode`.
        """
        head = with_switches(self.head, **switches) if switches else self.head
        return open_episode(head, self.bank, episode, oracle_weights=oracle_weights)


class ToyEpisodes(ShownEpisodes):
    """Scenes around the novel classes of a fold, and the shipped head that never saw these classes.

    Args:
        fold: 0 to 3.
        gap: how far support and query may differ, in [0, 1].
        n_scenes: how many scenes to draw; class k of the fold is the target of every 20th.
        seed: of the scenes.
    """

    def __init__(self, fold: int = 0, *, gap: float = DEFAULT_GAP, n_scenes: int = 200, seed: int = 2022) -> None:
        every = range(len(catalogue_names()))
        novel = novel_classes(len(every), fold, N_FOLDS)
        self.gap = gap
        self.world = ToyWorld(n_scenes, seed=seed, targets=novel, others=every, gap=gap)
        super().__init__(self.world, shipped_head(fold), novel, fold)


class ObjectEpisodes(ShownEpisodes):
    """The shipped photographs of 13 objects, and the shipped head for photographs, which saw none of them.

    Args:
        head: "photographs", or a variant of it, such as "photographs_support_only".
    """

    def __init__(self, head: str | Path = "photographs") -> None:
        dataset = objects()
        super().__init__(dataset, head, range(len(dataset.class_names)))


@torch.no_grad()
def open_episode(
    head: DPNet, bank: FeatureBank, episode: Episode, *, oracle_weights: Tensor | None = None
) -> OpenedEpisode:
    """Run a head on one episode of a bank, and keep what it made of it.

    Args:
        oracle_weights: float [h, w], at least 0; what the selection "oracle" takes in place of the query's true mask,
            to try out any selection. ValueError with another selection.
    """
    if oracle_weights is not None and head.config.selection != "oracle":
        raise ValueError(f"oracle_weights are for selection='oracle', but it is {head.config.selection!r}; give both")
    batch = bank.batch([episode])
    output = head(batch, batch.cells, query_masks=None if oracle_weights is None else oracle_weights[None], trace=True)
    names = bank.dataset.class_names
    values = [bank.dataset.label_value(episode.query, index) for index in range(len(names))]
    value = values[episode.class_index]
    query, *supports = (resize_sample(bank.dataset[index], bank.size) for index in (episode.query, *episode.support))
    seen = set(query.labels.unique().tolist())
    return OpenedEpisode(
        episode=episode,
        class_name=names[episode.class_index],
        support_images=np.stack([sample.image.permute(1, 2, 0).numpy() for sample in supports]),
        support_masks=np.stack([sample.labels.numpy() == value for sample in supports]),
        query_image=query.image.permute(1, 2, 0).numpy(),
        truth=query.labels.numpy() == value,
        others={
            name: query.labels.numpy() == other
            for name, other in zip(names, values, strict=True)
            if other != value and other in seen
        },
        batch=batch,
        trace=output.trace,
        prediction=predicted_mask(output.logits[0], (bank.size, bank.size)).numpy() == 1,
    )


def with_switches(head: DPNet, **switches: Any) -> DPNet:
    """The same weights under another configuration, for switches that need no other weights (the selection's).

    Raises:
        ValueError: a switch has a wrong value, or needs weights that the head does not have.
    """
    with torch.device("meta"):  # first weights would be drawn for nothing
        changed = DPNet(replace(head.config, **switches), head.in_channels, head.deep_channels)
    weights = head.state_dict()
    if {name: p.shape for name, p in changed.state_dict().items()} != {name: p.shape for name, p in weights.items()}:
        named = ", ".join(f"{name}={value!r}" for name, value in switches.items())
        raise ValueError(f"{named} needs other weights than this head has; train a head with it")
    changed.load_state_dict({name: value.clone() for name, value in weights.items()}, assign=True)
    return changed.eval()


def best_threshold_iou(similarity: Tensor, truth: Tensor) -> float:
    """The largest IoU that any threshold on one map gives, in [0, 1]: it bounds every way to choose a threshold.

    Args:
        similarity: float [h, w]; a mask takes the cells with the highest values.
        truth: bool [h, w] with at least one True.
    """
    values, order = similarity.flatten().sort(descending=True)
    hits = truth.flatten()[order].cumsum(dim=0)  # cells of the truth among the first k
    taken = torch.arange(1, len(order) + 1)
    ends = torch.cat([values[1:] < values[:-1], torch.tensor([True])])  # no threshold parts equal values
    return float((hits / (taken + truth.sum() - hits))[ends].max())


def selection_quality(weights: Tensor, truth_shares: Tensor) -> tuple[float, float]:
    """How well weighed query pixels lie on the object.

    Args:
        weights: float [...], at least 0, how much each cell counts in P_q.
        truth_shares: float of the same shape in [0, 1], how much of each cell is foreground.

    Returns:
        precision: share of the weight that lies on the object.
        recall: of the cells that are at least half foreground, the share that weigh at least half of the greatest
            weight; NaN where there is no such cell.
    """
    total = float(weights.sum())
    precision = float((weights * truth_shares).sum()) / total if total > 0 else float("nan")
    inside = truth_shares >= 0.5
    chosen = weights >= 0.5 * weights.max()
    recall = float((chosen & inside & (weights > 0)).sum()) / int(inside.sum()) if bool(inside.any()) else float("nan")
    return precision, recall
