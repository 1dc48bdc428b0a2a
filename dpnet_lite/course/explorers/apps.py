"""The explorers with their controls. Needs ipywidgets.

from dpnet_lite.explorers.apps import cycle_explorer
cycle_explorer()
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers.ablation import AblationLab
from dpnet_lite.course.explorers.cycle import cycle_figure
from dpnet_lite.course.explorers.episode import episode_figure, pick_episode, toy_study
from dpnet_lite.course.explorers.gallery import cases_figure, precision_of
from dpnet_lite.course.explorers.interaction import interaction_figure
from dpnet_lite.course.explorers.scales import level_titles, scales_figure
from dpnet_lite.course.explorers.shell import Explorer
from dpnet_lite.course.explorers.training import LiveTrainer
from dpnet_lite.course.live_ablation import Bench
from dpnet_lite.course.live_training import LiveTraining, small_toy_fold
from dpnet_lite.course.opened_episode import EpisodeView
from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.datasets.toy import DEFAULT_GAP, catalogue_names
from dpnet_lite.experiments.presets import N_FOLDS, TOY
from dpnet_lite.model.cycle_comparison import membership

DEFAULT_RULE = "cycle, weighted, consensus (default)"
ON_A_PAGE = 4  # cases of the gallery; a fold has 20 novel classes
GRID = 24  # cells along a side of the toy world's features
CORRELATION_PANEL = 2  # of interaction_figure
WIDE = {"description_width": "initial"}
RULES: dict[str, dict[str, Any]] = {
    "plain cycle": {"selection": "support_first", "weighted_pooling": False, "consensus_rounds": 0},
    "cycle, weighted": {"selection": "support_first", "weighted_pooling": True, "consensus_rounds": 0},
    DEFAULT_RULE: {},
    "query first": {"selection": "query_first", "weighted_pooling": False, "consensus_rounds": 0},
    "threshold": {"selection": "threshold", "weighted_pooling": False, "consensus_rounds": 0},
    "top k": {"selection": "top_k", "weighted_pooling": False, "consensus_rounds": 0},
    "oracle": {"selection": "oracle"},
}


def scene_controls(fold: int = 0) -> dict[str, Any]:
    """Fold, class, gap and seed; the names of the classes follow the fold."""
    folds = widgets.Dropdown(options=range(N_FOLDS), value=fold, description="fold", style=WIDE)
    classes = widgets.Dropdown(options=_class_options(fold), description="class", style=WIDE)
    gap = widgets.FloatSlider(
        DEFAULT_GAP, min=0, max=1, step=0.25, description="gap", continuous_update=False, style=WIDE
    )
    seed = widgets.BoundedIntText(0, min=0, max=9999, description="seed", style=WIDE)

    def rename(change: Any) -> None:
        position = classes.value
        classes.options = _class_options(change["new"])
        classes.value = position

    folds.observe(rename, names="value")
    return {"fold": folds, "position": classes, "gap": gap, "seed": seed}


def _class_options(fold: int) -> list[tuple[str, int]]:
    names = catalogue_names()
    return [(names[index], position) for position, index in enumerate(novel_classes(len(names), fold, N_FOLDS))]


@lru_cache(maxsize=64)
def _view(fold: int, gap: float, position: int, seed: int, n_shot: int, rule: str) -> EpisodeView:
    """What a setting looks at; kept, so that moving a pixel does not run the network again."""
    study = toy_study(fold, gap)
    return study.view(pick_episode(study, position, n_shot=n_shot, seed=seed), **RULES[rule])


def episode_explorer(fold: int = 0) -> Explorer:
    """Choose fold, class, gap, shots and seed; see the episode and what the network makes of it."""

    def draw(fold: int, position: int, gap: float, seed: int, n_shot: int) -> Figure:
        return episode_figure(_view(fold, gap, position, seed, n_shot, DEFAULT_RULE))

    shots = widgets.IntSlider(1, min=1, max=4, description="shots", continuous_update=False, style=WIDE)
    alt = "Support images with outlined masks, the query, the predicted mask and the true one"
    return Explorer(draw, {**scene_controls(fold), "n_shot": shots}, alt=alt)


def cycle_explorer(fold: int = 0) -> Explorer:
    """Choose an episode, a selection rule and a support cell; follow its cycle to the query and back.

    The cell is chosen with two sliders, or by a click on the support image.
    """

    def draw(fold: int, position: int, gap: float, seed: int, rule: str, row: int, column: int) -> Figure:
        return cycle_figure(_view(fold, gap, position, seed, 1, rule), (row, column))

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        step = toy_study(0, DEFAULT_GAP).world.size / GRID
        return {"row": int((y + 0.5) // step), "column": int((x + 0.5) // step)} if panel == 0 else {}

    row, column = first_inside(_view(fold, DEFAULT_GAP, 0, 0, 1, DEFAULT_RULE))
    cells = {
        name: widgets.IntSlider(value, min=0, max=GRID - 1, description=name, continuous_update=False, style=WIDE)
        for name, value in (("row", row), ("column", column))
    }
    rules = widgets.Dropdown(options=list(RULES), description="selection", style=WIDE)
    alt = "A support pixel, the arrow to its match in the query and the arrow back; the selected pixels"
    return Explorer(draw, {**scene_controls(fold), "rule": rules, **cells}, alt=alt, click=click)


def interaction_explorer(fold: int = 0) -> Explorer:
    """Choose an episode, a selection rule and a channel; see the correlation, the gate, and maps before and after.

    The channel is chosen with a slider, or by a click on its row of the correlation.
    """

    def draw(fold: int, position: int, gap: float, seed: int, rule: str, channel: int) -> Figure:
        return interaction_figure(_view(fold, gap, position, seed, 1, rule), channel)

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        return {"channel": round(y)} if panel == CORRELATION_PANEL else {}

    n_channels = _view(fold, DEFAULT_GAP, 0, 0, 1, DEFAULT_RULE).trace.prototype.shape[1]
    channel = widgets.IntSlider(
        0, min=0, max=n_channels - 1, description="channel", continuous_update=False, style=WIDE
    )
    rules = widgets.Dropdown(options=list(RULES), value=DEFAULT_RULE, description="selection", style=WIDE)
    alt = "The correlation of both prototypes, the gate, and the similarity maps before and after the interaction"
    return Explorer(draw, {**scene_controls(fold), "rule": rules, "channel": channel}, alt=alt, click=click)


def scale_explorer(fold: int = 0) -> Explorer:
    """Choose an episode and a level of the fusion; see what it gets and gives, and the answer without it."""

    def draw(fold: int, position: int, gap: float, seed: int, level: int) -> Figure:
        return scales_figure(toy_study(fold, gap), _view(fold, gap, position, seed, 1, DEFAULT_RULE), level)

    titles = level_titles(toy_study(fold, DEFAULT_GAP).head, _view(fold, DEFAULT_GAP, 0, 0, 1, DEFAULT_RULE))
    options = [(title, number) for number, title in enumerate(titles)]
    level = widgets.Dropdown(options=options, description="level", style=WIDE)
    alt = "The comparison maps and features of one level of the fusion, and the answers with and without it"
    return Explorer(draw, {**scene_controls(fold), "level": level}, alt=alt)


def gallery_explorer(fold: int = 0) -> Explorer:
    """One episode of each novel class, four on a page, from the worst selection to the best or the other way."""

    def draw(fold: int, gap: float, seed: int, rule: str, best_first: bool, page: int) -> Figure:
        views = sorted(_views(fold, gap, seed, rule), key=precision_of, reverse=best_first)
        return cases_figure(views[ON_A_PAGE * (page - 1) : ON_A_PAGE * page])

    scene = scene_controls(fold)
    rules = widgets.Dropdown(options=list(RULES), value=DEFAULT_RULE, description="selection", style=WIDE)
    order = widgets.Dropdown(options=[("worst", False), ("best", True)], description="first the", style=WIDE)
    n_pages = len(scene["position"].options) // ON_A_PAGE
    page = widgets.IntSlider(1, min=1, max=n_pages, description="page", continuous_update=False, style=WIDE)
    controls = {name: scene[name] for name in ("fold", "gap", "seed")}
    alt = "Four episodes: the support with its mask, the selected pixels of the query, and the predicted mask"
    return Explorer(draw, {**controls, "rule": rules, "best_first": order, "page": page}, alt=alt)


@lru_cache(maxsize=8)
def _views(fold: int, gap: float, seed: int, rule: str) -> list[EpisodeView]:
    """An episode of every novel class; kept, so that turning a page does not run the network again."""
    study = toy_study(fold, gap)
    return [study.view(episode, **RULES[rule]) for episode in study.episodes(count=len(study.novel), seed=seed)]


def live_trainer(fold: int = 0, *, steps: int = 300) -> LiveTrainer:
    """Train a small run on the fold's base classes; watch the loss and the mIoU of base and novel classes."""

    def make() -> LiveTraining:
        return LiveTraining(small_toy_fold(fold), ModelConfig(), replace(TOY.training, steps=steps))

    return LiveTrainer(make)


def live_ablation() -> AblationLab:
    """Change a switch of the network; a short paired run against the full network starts in the background."""
    return AblationLab(Bench())


def first_inside(view: EpisodeView, shot: int = 0) -> tuple[int, int]:
    """(row, column) of the middle one of the support cells inside the mask."""
    width = view.trace.query.shape[-1]
    inside = membership(view.trace.support_masks[:, shot].flatten(1))[0].nonzero().flatten()  # [h, w] -> [N_s]
    return divmod(int(inside[len(inside) // 2]), width)
