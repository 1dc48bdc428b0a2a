"""The explorers with their controls, and the page with all of them that `make app` serves. Needs ipywidgets.

from dpnet_lite.course.explorers.apps import cycle_explorer
cycle_explorer()
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from matplotlib.figure import Figure

from dpnet_lite.config import ModelConfig
from dpnet_lite.course.explorers.ablation import AblationLab, answers_of, changes_of, switches_of, variant_name
from dpnet_lite.course.explorers.correlations import correlation_explorer
from dpnet_lite.course.explorers.cycle import cycle_figure, first_inside, telling_start
from dpnet_lite.course.explorers.episode import (
    cases_figure,
    episode_figure,
    object_episodes,
    pick_episode,
    precision_of,
    toy_episodes,
)
from dpnet_lite.course.explorers.interaction import interaction_figure, interaction_told
from dpnet_lite.course.explorers.luck import luck_explorer
from dpnet_lite.course.explorers.outcomes import FAILURE, SUCCESS, outcome, why
from dpnet_lite.course.explorers.payoff import payoff_explorer
from dpnet_lite.course.explorers.scales import level_titles, scales_figure, scales_told
from dpnet_lite.course.explorers.shell import LISTS, Explorer, dropdown, error_message, offer, slider
from dpnet_lite.course.explorers.training import Curves, LiveTrainer
from dpnet_lite.course.explorers.your_images import YourImages
from dpnet_lite.course.live_ablation import Bench
from dpnet_lite.course.live_training import LiveTraining, small_toy_fold
from dpnet_lite.course.opened_episode import OpenedEpisode, ShownEpisodes
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.datasets.toy import DEFAULT_GAP
from dpnet_lite.episodes import Episode
from dpnet_lite.experiments.presets import N_FOLDS, TOY

_DEFAULT_RULE = "cycle, weighted, consensus (default)"
_ON_A_PAGE = 4  # cases of the gallery; a fold has 20 novel classes
_CORRELATION_PANEL = 2  # of interaction_figure
_NONE_YET = [("", -1)]  # options that follow a world, see `offer`
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
    """World, fold, class, gap and seed; see `_follow_world`."""
    world = dropdown("world", [("drawn world", False), ("photographs", True)])
    folds, classes = dropdown("fold", range(N_FOLDS), value=fold), dropdown("class", _NONE_YET)
    style = {"description_width": "initial"}
    gap = widgets.FloatSlider(
        DEFAULT_GAP, min=0, max=1, step=0.25, description="gap", continuous_update=False, style=style
    )
    seed = widgets.BoundedIntText(0, min=0, max=9999, description="seed", style=style)
    return {"photographs": world, "fold": folds, "position": classes, "gap": gap, "seed": seed}


def _follow_world(controls: Mapping[str, Any]) -> str:
    """Photographs have their own classes, and neither fold nor gap; returns the credit that they need."""
    photographs = controls["photographs"].value
    for name in ("fold", "gap"):
        controls[name].layout.display = "none" if photographs else None
    if "position" in controls:
        shown = _chosen(controls)
        offer(controls["position"], [shown.class_names[index] for index in shown.novel])
    return f"<small>{OBJECTS_CREDIT}</small>" if photographs else ""


def _rule_control(first: str = _DEFAULT_RULE) -> widgets.Dropdown:
    return dropdown("selection", list(RULES), value=first)


def _chosen(controls: Mapping[str, Any]) -> ShownEpisodes:
    return _shown(*(controls[name].value for name in ("photographs", "fold", "gap")))


def _shown(photographs: bool, fold: int, gap: float) -> ShownEpisodes:
    return object_episodes() if photographs else toy_episodes(fold, gap)


def _episode(controls: Mapping[str, Any]) -> OpenedEpisode:
    """The chosen episode, under the default rule."""
    return _open(**{name: controls[name].value for name in ("photographs", "fold", "position", "gap", "seed")})


@lru_cache(maxsize=64)
def _open(
    photographs: bool, fold: int, gap: float, position: int, seed: int, n_shot: int = 1, rule: str = _DEFAULT_RULE
) -> OpenedEpisode:
    """What a setting looks at; kept, so that moving a pixel does not run the network again."""
    shown = _shown(photographs, fold, gap)
    return shown.open(pick_episode(shown, position, n_shot=n_shot, seed=seed), **RULES[rule])


def _setting(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a state says which episode is looked at, and how; in one order, so that each is opened once."""
    names = ("photographs", "fold", "position", "gap", "seed", "n_shot", "rule")
    return {name: state[name] for name in names if name in state}


def _seek(
    state: Mapping[str, Any], kind: str, iou: Callable[..., float] = lambda **setting: _open(**setting).iou
) -> dict[str, Any] | None:
    """Class and seed of the next episode of a kind in list order, through the lists of this seed and the next ones.

    A class of -1 stands before the first episode. `iou` is that of a setting's answer.
    """
    setting = _setting(state)
    for seed in range(setting["seed"], setting["seed"] + LISTS[setting["photographs"]]):
        order = _order(**{**setting, "seed": seed})
        passed = seed == setting["seed"] and setting["position"] in order
        for position in order[order.index(setting["position"]) + 1 if passed else 0 :]:
            found = {"position": position, "seed": seed}
            if outcome(iou(**{**setting, **found})) == kind:
                return found
    return None


def _order(photographs: bool, fold: int, gap: float, seed: int, **others: Any) -> list[int]:
    """The classes of a list of episodes, as `pick_episode` counts them, in its order."""
    shown = _shown(photographs, fold, gap)
    episodes = shown.episodes(count=len(shown.novel), seed=seed)
    return list(dict.fromkeys(shown.novel.index(episode.class_index) for episode in episodes))


def _tell(whose: str = "", **state: Any) -> str:
    """Why an answer is as it is, and which episode this is; `whose` is the network's name, to begin with."""
    setting = _setting(state)
    opened, seed, position = _open(**setting), setting["seed"], setting["position"]
    failed = outcome(opened.iou) == "failure" and setting.get("rule") != "oracle"
    text = why(opened, _open(**{**setting, "rule": "oracle"}) if failed else None, whose)
    opens = _seek({**setting, "seed": 0, "position": -1}, "success")
    first = f", the first with an IoU of at least {SUCCESS}" if opens == {"position": position, "seed": seed} else ""
    return f"{text} Episode {_order(**setting).index(position) + 1} of the list with seed {seed}{first}."


def episode_explorer(fold: int = 0) -> Explorer:
    """Choose world, fold, class, gap, shots and seed; see the episode and what the network makes of it."""

    def draw(**state: Any) -> Figure:
        return episode_figure(_open(**state))

    def follow(controls: Mapping[str, Any]) -> str:
        controls["n_shot"].max = 3 if controls["photographs"].value else 4  # some objects have four photographs
        return _follow_world(controls)

    alt = "Support images with outlined masks, the query, the predicted mask and the true one"
    controls = {**_scene_controls(fold), "n_shot": slider("shots", 1, 4, 1)}
    return Explorer(draw, controls, alt=alt, follow=follow, tell=_tell, seek=_seek)


def cycle_explorer(fold: int = 0) -> Explorer:
    """Choose an episode, a selection rule and a support cell; follow its cycle to the query and back.

    The cell is chosen with two sliders, or by a click on the support or the query.
    """

    def draw(from_query: bool, row: int, column: int, **state: Any) -> Figure:
        return cycle_figure(_open(**state), (row, column), from_query=from_query)

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        step = _chosen(controls).bank.size / (controls["row"].max + 1)
        return {"from_query": panel > 0, "row": int((y + 0.5) // step), "column": int((x + 0.5) // step)}

    def seek(state: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
        found = _seek(state, kind)
        if found is not None:
            opened = _open(**_setting({**state, **found}))
            row, column = telling_start(opened, failure=kind == "failure")
            found = {**found, "from_query": False, "row": row, "column": column}
        return found

    def follow(controls: Mapping[str, Any]) -> str:
        credit = _follow_world(controls)
        last = _chosen(controls).bank.features.shape[2] - 1
        if controls["row"].max != last:  # other cells: begin inside the mask
            for name, value in zip(("row", "column"), first_inside(_episode(controls)), strict=True):
                controls[name].max, controls[name].value = last, value
        return credit

    controls = _scene_controls(fold) | {"rule": _rule_control(next(iter(RULES)))}
    controls["from_query"] = dropdown("start in the", [("support", False), ("query", True)])
    controls |= {name: slider(name, 0, 0, 0) for name in ("row", "column")}
    alt = "A support pixel, the arrow to its match in the query and the arrow back; the selected cells"
    return Explorer(draw, controls, alt=alt, click=click, follow=follow, tell=_tell, seek=seek)


def interaction_explorer(fold: int = 0) -> Explorer:
    """Choose an episode, a selection rule and a channel; see the correlation, the gate, and maps before and after.

    The channel is chosen with a slider, or by a click on its row of the correlation.
    """

    def draw(channel: int, **state: Any) -> Figure:
        return interaction_figure(_open(**state), channel)

    def tell(channel: int, **state: Any) -> str:
        return f"{_tell(**state)}<br>{interaction_told(_open(**state), channel)}"

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        return {"channel": round(y)} if panel == _CORRELATION_PANEL else {}

    def follow(controls: Mapping[str, Any]) -> str:
        controls["channel"].max = _chosen(controls).head.config.channels - 1
        return _follow_world(controls)

    controls = {**_scene_controls(fold), "rule": _rule_control(), "channel": slider("channel", 0, 0, 0)}
    alt = "The correlation of both prototypes, the gate, and the similarity maps before and after the interaction"
    return Explorer(draw, controls, alt=alt, click=click, follow=follow, tell=tell, seek=_seek)


def scale_explorer(fold: int = 0) -> Explorer:
    """Choose an episode and a level of the fusion; see what it gets and gives, and the answer without it."""

    def draw(level: int, **state: Any) -> Figure:
        return scales_figure(_chosen(controls), _open(**state), level)

    def tell(level: int, **state: Any) -> str:
        return f"{_tell(**state)}<br>{scales_told(_chosen(controls), _open(**state))}"

    def follow(controls: Mapping[str, Any]) -> str:
        credit = _follow_world(controls)
        offer(controls["level"], level_titles(_chosen(controls).head, _episode(controls)))
        return credit

    controls = {**_scene_controls(fold), "level": dropdown("scale", _NONE_YET)}
    alt = "The comparison maps and features of one scale of the fusion, and the answers with and without it"
    return Explorer(draw, controls, alt=alt, follow=follow, tell=tell, seek=_seek)


def gallery_explorer(fold: int = 0) -> Explorer:
    """One episode of each novel class, four on a page, from the best selection to the worst or the other way."""

    def on_page(best_first: bool, page: int, judge: str, **state: Any) -> list[OpenedEpisode]:
        episodes = _open_all(**state)
        judged = [precision_of(one) for one in _open_all(**{**state, "rule": judge or state["rule"]})]
        order = sorted(range(len(judged)), key=judged.__getitem__, reverse=best_first)
        first = min(_ON_A_PAGE * page, len(episodes)) - _ON_A_PAGE  # the last page is full as well
        return [episodes[k] for k in order[first : first + _ON_A_PAGE]]

    def draw(**state: Any) -> Figure:
        return cases_figure(on_page(**state))

    def tell(**state: Any) -> str:
        lines = [f"None of these is a failure (IoU below {FAILURE})."]
        for one in [one for one in on_page(**state) if outcome(one.iou) == "failure"]:
            perfect = _chosen(controls).open(one.episode, selection="oracle").iou
            told = (
                f"{one.class_name}: <b>Failure</b>, IoU {one.iou:.2f}, {100 * precision_of(one):.0f} % of the selection"
            )
            lines.append(f"{told} on the object; with a perfect selection IoU {perfect:.2f}.")
        return "<br>".join(lines[1:] or lines)

    def seek(state: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
        """The best page; the worst one of this list or, if that is shown, of the next one with a failure on it."""
        first = state["seed"] + (not state["best_first"])
        for seed in range(first, first + LISTS[state["photographs"]]):
            found = {"best_first": kind == "success", "page": 1, "seed": seed if kind == "failure" else state["seed"]}
            if kind == "success" or any(outcome(one.iou) == kind for one in on_page(**{**state, **found})):
                return found
        return None

    def follow(controls: Mapping[str, Any]) -> str:
        controls["page"].max = -(-len(_chosen(controls).novel) // _ON_A_PAGE)
        return _follow_world(controls)

    controls = _scene_controls(fold)
    del controls["position"]
    order, rule = dropdown("order", [("best first", True), ("worst first", False)]), _rule_control()
    by = dropdown("by the precision of", [("this rule", ""), ("the default rule", _DEFAULT_RULE)])
    controls |= {"rule": rule, "best_first": order, "judge": by, "page": slider("page", 1, 1, 1)}
    alt = "Four episodes: the support with its mask, the selected cells of the query, and the predicted mask"
    return Explorer(draw, controls, alt=alt, follow=follow, tell=tell, seek=seek)


@lru_cache(maxsize=8)
def _open_all(photographs: bool, fold: int, gap: float, seed: int, rule: str) -> list[OpenedEpisode]:
    """An episode of every novel class; kept, so that turning a page does not run the network again."""
    shown = _shown(photographs, fold, gap)
    return [shown.open(episode, **RULES[rule]) for episode in shown.episodes(count=len(shown.novel), seed=seed)]


def live_trainer(fold: int = 0, *, steps: int = 300, example: Curves | None = None) -> LiveTrainer:
    """Train a small run on the fold's base classes; watch the loss and the mIoU of base and novel classes.

    The curves of an `example` stand there until the first start.
    """
    training = replace(TOY.training, steps=steps)
    return LiveTrainer(lambda: LiveTraining(small_toy_fold(fold), ModelConfig(), training), example)


def live_ablation(bench: Bench | None = None) -> AblationLab:
    """Change a switch of the network; see masks and shipped evidence at once, and train a short paired run."""

    def choose(state: Mapping[str, Any]) -> tuple[ShownEpisodes, Episode]:
        shown = _shown(*(state[name] for name in ("photographs", "fold", "gap")))
        return shown, pick_episode(shown, state["position"], seed=state["seed"])

    def answers(state: Mapping[str, Any]) -> list[OpenedEpisode]:
        (shown, episode), world = choose(state), "photographs" if state["photographs"] else "toy"
        return answers_of(shown, world, episode, changes_of(switches_of(state)))

    def tell(**state: Any) -> str:
        """The variant's outcome where it has masks, then of the full network, and what the bars are of."""
        name, told = variant_name(switches_of(state)), _tell(whose="Full network", **state)
        own = [f"{name}: <b>{outcome(one.iou)}</b>, IoU {one.iou:.2f}." for one in answers(state)[1:]]
        return " ".join([*own, told, "The bars are of whole studies: class, gap and seed move the masks alone."])

    def seek(state: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
        """A success of the full network, or a failure of the variant, or of the full network where that has no mask."""
        shown = (lambda **setting: answers({**state, **setting})[-1].iou,) if kind == "failure" else ()
        return _seek(state, kind, *shown)

    controls = _scene_controls(0)
    controls["fold"] = dropdown("fold", [0])  # the only one with shipped variants
    lab = AblationLab(bench or Bench(), controls, choose, follow=_follow_world, tell=tell, seek=seek)
    lab.explorer.buttons["failure"].description = "show a failure of the variant"
    return lab


# The tabs of the page, and what makes the explorer of each; what is said over it stands in page.toml.
PARTS: dict[str, Callable[..., widgets.Widget]] = {
    "Episode": episode_explorer,
    "Cycle": cycle_explorer,
    "Gallery": gallery_explorer,
    "Interaction": interaction_explorer,
    "Correlations": correlation_explorer,
    "Scales": scale_explorer,
    "Ablation": live_ablation,
    "Luck": luck_explorer,
    "Payoff": payoff_explorer,
    "Your images": YourImages,
    "Training": live_trainer,
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
    told = tomllib.loads(Path(__file__).with_name("page.toml").read_text(encoding="utf-8"))
    holders = [widgets.VBox([widgets.HTML(f"<p>{told[name]}</p>")]) for name in PARTS]
    tabs = widgets.Tab(children=holders, titles=list(PARTS))

    def fill(change: dict[str, Any]) -> None:
        holder = holders[change["new"]]
        if len(holder.children) == 1:
            make = list(PARTS.values())[change["new"]]
            try:
                made = make()
            except Exception as error:  # whatever it is, the reader must see it
                made = error_message("This explorer cannot be made.", error)
            holder.children = (*holder.children, made)

    tabs.observe(fill, names="selected_index")
    tabs.selected_index = 0
    fill({"new": 0})
    return widgets.VBox([widgets.HTML(_TITLE), tabs], layout=widgets.Layout(max_width="1150px"))
