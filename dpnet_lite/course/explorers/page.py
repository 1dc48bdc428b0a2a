"""All explorers on one page, each made when it is first looked at. Needs ipywidgets; `make app` serves it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from dpnet_lite.course.explorers.apps import (
    cycle_explorer,
    episode_explorer,
    gallery_explorer,
    interaction_explorer,
    live_ablation,
    live_trainer,
    scale_explorer,
)
from dpnet_lite.course.explorers.payoff import payoff_explorer
from dpnet_lite.course.explorers.picture import error_message

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
TITLE = (
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
    return widgets.VBox([widgets.HTML(TITLE), tabs], layout=widgets.Layout(max_width="1150px"))
