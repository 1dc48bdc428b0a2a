"""The variants' picture: one episode as the full network segments it, and as networks do that lack one part."""

from __future__ import annotations

from functools import lru_cache

from matplotlib.figure import Figure

from dpnet_lite.checkpoints import load_head
from dpnet_lite.course.explorers.panels import new_figure, show_image
from dpnet_lite.course.opened_episode import OpenedEpisode, ShownEpisodes, open_episode
from dpnet_lite.episodes import Episode
from dpnet_lite.experiments.plots import ORANGE, overlay

VARIANTS = ("full", "support only", "no interaction", "one scale")


@lru_cache(maxsize=8)
def open_variants(shown: ShownEpisodes, world: str, episode: Episode) -> dict[str, OpenedEpisode]:
    """What every shipped variant makes of an episode.

    Args:
        world: "toy" or "photographs", what the name of the shipped weights begins with.

    Raises:
        FileNotFoundError, ValueError: the weights of a variant are missing or damaged.
    """
    files = [world, *(f"{world}_{name.replace(' ', '_')}" for name in VARIANTS[1:])]
    heads = [load_head(file)[0] for file in files]
    return {name: open_episode(head, shown.bank, episode) for name, head in zip(VARIANTS, heads, strict=True)}


def variants_figure(answers: dict[str, OpenedEpisode]) -> Figure:
    """Above: the support, the query and the first answer; below: the others, each with its IoU; outline: the truth."""
    figure, grid = new_figure(3, 2, width=2.7, height=2.9)
    support, query, *panels = grid.flat
    opened = next(iter(answers.values()))
    show_image(support, opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
    show_image(query, opened.query_image, "query")
    for axes, (name, answer) in zip(panels, answers.items(), strict=True):
        painted = overlay(answer.query_image, answer.prediction, ORANGE)
        show_image(axes, painted, f"{name}: IoU {answer.iou:.2f}", outline=answer.truth)
    return figure
