"""The explorers with their controls, and the page with all of them that `make app` serves. Needs ipywidgets.

from dpnet_lite.course.explorers.apps import cycle_explorer
cycle_explorer()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers.ablation import AblationLab
from dpnet_lite.course.explorers.cycle import cycle_figure, first_inside
from dpnet_lite.course.explorers.episode import (
    cases_figure,
    episode_figure,
    pick_episode,
    precision_of,
    toy_episodes,
)
from dpnet_lite.course.explorers.interaction import interaction_figure
from dpnet_lite.course.explorers.payoff import payoff_explorer
from dpnet_lite.course.explorers.scales import level_titles, scales_figure
from dpnet_lite.course.explorers.shell import Explorer, dropdown, error_message, slider
from dpnet_lite.course.explorers.training import LiveTrainer
from dpnet_lite.course.live_ablation import Bench
from dpnet_lite.course.live_training import LiveTraining, small_toy_fold
from dpnet_lite.course.opened_episode import OpenedEpisode
from dpnet_lite.datasets.folds import novel_classes
from dpnet_lite.datasets.toy import DEFAULT_GAP, catalogue_names
from dpnet_lite.experiments.presets import N_FOLDS, TOY

_DEFAULT_RULE = "cycle, weighted, consensus (default)"
_ON_A_PAGE = 4  # cases of the gallery; a fold has 20 novel classes
_GRID = 24  # cells along a side of the toy world's features
_CORRELATION_PANEL = 2  # of interaction_figure
RULES: dict[str, dict[str, Any]] = {
    "plain cycle": {"selection": "support_first", "weighted_pooling": False, "consensus_rounds": 0},
    "cycle, weighted": {"selection": "support_first", "weighted_pooling": True, "consensus_rounds": 0},
    _DEFAULT_RULE: {},
    "query first": {"selection": "query_first", "weighted_pooling": False, "consensus_rounds": 0},
    "threshold": {"selection": "threshold", "weighted_pooling": False, "consensus_rounds": 0},
    "top k": {"selection": "top_k", "weighted_pooling": False, "consensus_rounds": 0},
    "oracle": {"selection": "oracle"},
}


def _scene_controls(fold: int) -> dict[str, Any]:
    """Fold, class, gap and seed; the names of the classes follow the fold."""
    folds, classes = dropdown("fold", range(N_FOLDS), value=fold), dropdown("class", _class_options(fold))
    style = {"description_width": "initial"}
    gap = widgets.FloatSlider(
        DEFAULT_GAP, min=0, max=1, step=0.25, description="gap", continuous_update=False, style=style
    )
    seed = widgets.BoundedIntText(0, min=0, max=9999, description="seed", style=style)

    def rename(change: Any) -> None:
        position = classes.value
        classes.options = _class_options(change["new"])
        classes.value = position

    folds.observe(rename, names="value")
    return {"fold": folds, "position": classes, "gap": gap, "seed": seed}


def _class_options(fold: int) -> list[tuple[str, int]]:
    names = catalogue_names()
    return [(names[index], position) for position, index in enumerate(novel_classes(len(names), fold, N_FOLDS))]


def _rule_control(first: str = _DEFAULT_RULE) -> widgets.Dropdown:
    return dropdown("selection", list(RULES), value=first)


@lru_cache(maxsize=64)
def _open(fold: int, gap: float, position: int, seed: int, n_shot: int = 1, rule: str = _DEFAULT_RULE) -> OpenedEpisode:
    """What a setting looks at; kept, so that moving a pixel does not run the network again."""
    toy = toy_episodes(fold, gap)
    return toy.open(pick_episode(toy, position, n_shot=n_shot, seed=seed), **RULES[rule])


def episode_explorer(fold: int = 0) -> Explorer:
    """Choose fold, class, gap, shots and seed; see the episode and what the network makes of it."""

    def draw(fold: int, position: int, gap: float, seed: int, n_shot: int) -> Figure:
        return episode_figure(_open(fold, gap, position, seed, n_shot))

    alt = "Support images with outlined masks, the query, the predicted mask and the true one"
    return Explorer(draw, {**_scene_controls(fold), "n_shot": slider("shots", 1, 4, 1)}, alt=alt)


def cycle_explorer(fold: int = 0) -> Explorer:
    """Choose an episode, a selection rule and a support cell; follow its cycle to the query and back.

    The cell is chosen with two sliders, or by a click on the support image.
    """

    def draw(fold: int, position: int, gap: float, seed: int, rule: str, row: int, column: int) -> Figure:
        return cycle_figure(_open(fold, gap, position, seed, rule=rule), (row, column))

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        step = toy_episodes(0, DEFAULT_GAP).world.size / _GRID
        return {"row": int((y + 0.5) // step), "column": int((x + 0.5) // step)} if panel == 0 else {}

    row, column = first_inside(_open(fold, DEFAULT_GAP, 0, 0))
    cells = {name: slider(name, 0, _GRID - 1, value) for name, value in (("row", row), ("column", column))}
    alt = "A support pixel, the arrow to its match in the query and the arrow back; the selected pixels"
    rules = _rule_control(next(iter(RULES)))
    return Explorer(draw, {**_scene_controls(fold), "rule": rules, **cells}, alt=alt, click=click)


def interaction_explorer(fold: int = 0) -> Explorer:
    """Choose an episode, a selection rule and a channel; see the correlation, the gate, and maps before and after.

    The channel is chosen with a slider, or by a click on its row of the correlation.
    """

    def draw(fold: int, position: int, gap: float, seed: int, rule: str, channel: int) -> Figure:
        return interaction_figure(_open(fold, gap, position, seed, rule=rule), channel)

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        return {"channel": round(y)} if panel == _CORRELATION_PANEL else {}

    channel = slider("channel", 0, _open(fold, DEFAULT_GAP, 0, 0).trace.prototype.shape[1] - 1, 0)
    alt = "The correlation of both prototypes, the gate, and the similarity maps before and after the interaction"
    return Explorer(draw, {**_scene_controls(fold), "rule": _rule_control(), "channel": channel}, alt=alt, click=click)


def scale_explorer(fold: int = 0) -> Explorer:
    """Choose an episode and a level of the fusion; see what it gets and gives, and the answer without it."""

    def draw(fold: int, position: int, gap: float, seed: int, level: int) -> Figure:
        return scales_figure(toy_episodes(fold, gap), _open(fold, gap, position, seed), level)

    titles = level_titles(toy_episodes(fold, DEFAULT_GAP).head, _open(fold, DEFAULT_GAP, 0, 0))
    level = dropdown("level", [(title, number) for number, title in enumerate(titles)])
    alt = "The comparison maps and features of one level of the fusion, and the answers with and without it"
    return Explorer(draw, {**_scene_controls(fold), "level": level}, alt=alt)


def gallery_explorer(fold: int = 0) -> Explorer:
    """One episode of each novel class, four on a page, from the worst selection to the best or the other way."""

    def draw(fold: int, gap: float, seed: int, rule: str, best_first: bool, page: int) -> Figure:
        episodes = sorted(_open_all(fold, gap, seed, rule), key=precision_of, reverse=best_first)
        return cases_figure(episodes[_ON_A_PAGE * (page - 1) : _ON_A_PAGE * page])

    controls = _scene_controls(fold)
    n_pages = len(controls.pop("position").options) // _ON_A_PAGE
    order = dropdown("first the", [("worst", False), ("best", True)])
    controls |= {"rule": _rule_control(), "best_first": order, "page": slider("page", 1, n_pages, 1)}
    alt = "Four episodes: the support with its mask, the selected pixels of the query, and the predicted mask"
    return Explorer(draw, controls, alt=alt)


@lru_cache(maxsize=8)
def _open_all(fold: int, gap: float, seed: int, rule: str) -> list[OpenedEpisode]:
    """An episode of every novel class; kept, so that turning a page does not run the network again."""
    toy = toy_episodes(fold, gap)
    return [toy.open(episode, **RULES[rule]) for episode in toy.episodes(count=len(toy.novel), seed=seed)]


def live_trainer(fold: int = 0, *, steps: int = 300) -> LiveTrainer:
    """Train a small run on the fold's base classes; watch the loss and the mIoU of base and novel classes."""
    training = replace(TOY.training, steps=steps)
    return LiveTrainer(lambda: LiveTraining(small_toy_fold(fold), ModelConfig(), training))


def live_ablation() -> AblationLab:
    """Change a switch of the network; a short paired run against the full network starts in the background."""
    return AblationLab(Bench())


# What the page shows: the name of a tab, what is to be seen, and what makes the explorer.
PARTS: dict[str, tuple[str, Callable[..., widgets.Widget]]] = {
    "Episode": (
        "A class that the network never saw in training: the support images with their masks, the query, and the "
        "mask that the network finds.",
        episode_explorer,
    ),
    "Cycle": (
        "Click on a pixel of the support. The arrow leads to its nearest query pixel and back to the nearest support "
        "pixel of that; where it lands in the mask, the query pixel is kept. Right: all pixels that are selected.",
        cycle_explorer,
    ),
    "Gallery": (
        "One episode of each novel class: the support, the pixels behind the pseudo-prototype, and the predicted mask. "
        "Precision is the share of the selection that lies on the object.",
        gallery_explorer,
    ),
    "Interaction": (
        "The correlation of both prototypes, the gate of each channel, and the similarity maps before and after. "
        "Click on a row of the correlation to choose a channel.",
        interaction_explorer,
    ),
    "Scales": ("What the fusion sees at one scale, and the answer without it.", scale_explorer),
    "Ablation": (
        "Change a switch: a short run trains that variant and the full network in pairs, and its bar joins those of "
        "the shipped study, which trained far longer. A shipped variant has just the modules that it names.",
        live_ablation,
    ),
    "Payoff": (
        "When is the full network ahead of the one with the support prototype alone? Choose a study, one of its "
        "conditions, and a fact by which the episodes are sorted.",
        payoff_explorer,
    ),
    "Training": ("Train a small network here and now. Paused, it goes on where it was.", live_trainer),
}
# A tab is as wide as its name; in a narrow window they stand in several rows.
_TITLE = (
    "<style>.jupyter-widget-tab .lm-TabBar-tab {flex: 0 0 auto !important; min-width: 0 !important; "
    "padding: 0 4px !important} .jupyter-widget-tab .lm-TabBar-content {flex-wrap: wrap !important} "
    ".jupyter-widget-tab .lm-TabBar {min-height: 0 !important; max-height: none !important; height: auto !important; "
    "overflow: visible !important}</style>"
    "<h1>DPNet Lite: explorers</h1>"
)


def explorer_page() -> widgets.VBox:
    """A title and a tab for each explorer."""
    holders = [widgets.VBox([widgets.HTML(f"<p>{text}</p>")]) for text, make in PARTS.values()]
    tabs = widgets.Tab(children=holders, titles=list(PARTS))

    def fill(change: dict[str, Any]) -> None:
        holder = holders[change["new"]]
        if len(holder.children) == 1:
            make = list(PARTS.values())[change["new"]][1]
            try:
                made = make()
            except Exception as error:  # whatever it is, the reader must see it
                made = error_message("This explorer cannot be made.", error)
            holder.children = (*holder.children, made)

    tabs.observe(fill, names="selected_index")
    tabs.selected_index = 0
    fill({"new": 0})
    return widgets.VBox([widgets.HTML(_TITLE), tabs], layout=widgets.Layout(max_width="1150px"))
