"""The episode explorer's picture: support, query, what the network makes of it, and the truth."""

from __future__ import annotations

from functools import lru_cache

from matplotlib.figure import Figure

from dpnet_lite.course.explorers.panels import new_figure, show_image
from dpnet_lite.course.opened_episode import EpisodeView, ToyStudy
from dpnet_lite.episodes import Episode
from dpnet_lite.experiments.plots import GREEN, ORANGE, overlay

SCENES = 100  # five around each novel class: small enough to be drawn while one waits


@lru_cache(maxsize=4)
def toy_study(fold: int, gap: float, n_scenes: int = SCENES, seed: int = 2022) -> ToyStudy:
    """A study that is kept, so that a second look at the same world costs nothing."""
    return ToyStudy(fold, gap=gap, n_scenes=n_scenes, seed=seed)


def pick_episode(study: ToyStudy, position: int, *, n_shot: int = 1, seed: int = 0) -> Episode:
    """The first episode of the fold's novel class number `position` in a list drawn with `seed`.

    Raises:
        ValueError: the fold has no such class, or the scenes do not show it twice.
    """
    if not 0 <= position < len(study.novel):
        raise ValueError(f"class {position} is none of the fold's {len(study.novel)} novel classes, counted from 0")
    wanted = study.novel[position]
    for episode in study.episodes(n_shot=n_shot, count=len(study.novel), seed=seed):
        if episode.class_index == wanted:
            return episode
    raise ValueError(f"{study.class_names[wanted]} is large enough in fewer than two scenes; draw more scenes")


def episode_figure(view: EpisodeView) -> Figure:
    """All support images, the query, the network's mask with its IoU, and the truth."""
    n_shot = len(view.support_images)
    figure, grid = new_figure(n_shot + 3, width=2.1, height=2.4)
    for shot, axes in enumerate(grid[0, :n_shot]):
        title = f"support: {view.class_name}" if shot == 0 else f"support {shot + 1}"
        show_image(axes, view.support_images[shot], title, outline=view.support_masks[shot])
    query, prediction, truth = grid[0, n_shot:]
    show_image(query, view.query_image, "query")
    show_image(prediction, overlay(view.query_image, view.prediction, ORANGE), f"prediction: IoU {view.iou:.2f}")
    show_image(truth, overlay(view.query_image, view.truth, GREEN), "truth", outline=view.truth)
    return figure
