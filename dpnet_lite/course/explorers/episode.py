"""Pictures of whole episodes, from support to mask: one in a row, many as tiles or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from dpnet_lite.checkpoints import load_head
from dpnet_lite.course.explorers.panels import new_figure, show_image
from dpnet_lite.course.opened_episode import (
    ObjectEpisodes,
    OpenedEpisode,
    ShownEpisodes,
    ToyEpisodes,
    open_episode,
    selection_quality,
)
from dpnet_lite.datasets.images import ImageLike, MaskLike, to_image, to_mask
from dpnet_lite.episodes import Episode
from dpnet_lite.experiments.plots import BLUE, GREEN, ORANGE, overlay
from dpnet_lite.model.dpnet import DPNet
from dpnet_lite.predictor import Prediction

# The heads that are shipped, by what their files' names begin with; one of the drawn world is left out to save room.
VARIANTS = {
    "toy": ("full", "support only", "one scale"),
    "photographs": ("full", "support only", "no interaction", "one scale"),
}


@lru_cache(maxsize=4)
def toy_episodes(fold: int, gap: float, n_scenes: int = 100, seed: int = 2022) -> ToyEpisodes:
    """Episodes of a world that is kept, so that a second look costs nothing.

    100 scenes, five around each novel class, are drawn while one waits.
    """
    return ToyEpisodes(fold, gap=gap, n_scenes=n_scenes, seed=seed)


object_episodes = lru_cache(maxsize=1)(ObjectEpisodes)  # kept: their features take some seconds at the first use


def pick_episode(shown: ShownEpisodes, position: int, *, n_shot: int = 1, seed: int = 0) -> Episode:
    """The first one-shot episode of the fold's novel class number `position` in a list drawn with `seed`.

    More shots add to its support: the query and the shots before stay.

    Raises:
        ValueError: the fold has no such class, or too few scenes show it.
    """
    if not 0 <= position < len(shown.novel):
        raise ValueError(f"class {position} is none of the fold's {len(shown.novel)} novel classes, counted from 0")
    wanted, episode = shown.novel[position], None
    for shots in range(1, n_shot + 1):
        episodes = shown.episodes(n_shot=shots, count=len(shown.novel), seed=seed)
        drawn = next((one for one in episodes if one.class_index == wanted), None)
        if drawn is None:
            raise ValueError(f"{shown.class_names[wanted]} is large enough in too few scenes; draw more scenes")
        episode = episode or drawn
        others = [image for image in (*drawn.support, drawn.query) if image not in (episode.query, *episode.support)]
        episode = replace(episode, support=(*episode.support, *others)[:shots])
    assert episode is not None
    return episode


def episode_figure(opened: OpenedEpisode) -> Figure:
    """All support images, then the query, its selected cells, the network's mask with its IoU, and the truth."""
    n_shot = len(opened.support_images)
    figure, grid = new_figure(n_shot + 4, width=2.0, height=2.4)
    for shot, axes in enumerate(grid[0, :n_shot]):
        title = f"support: {opened.class_name}" if shot == 0 else f"support {shot + 1}"
        show_image(axes, opened.support_images[shot], title, outline=opened.support_masks[shot])
    answer = opened.selected, opened.prediction, opened.truth, opened.iou
    draw_answer(grid[0, n_shot:], opened.query_image, *answer)
    for axes in grid.flat:
        axes.title.set_fontsize(12)
    return figure


def answer_figure(answer: Prediction, support: ImageLike, mask: MaskLike, query: ImageLike, truth: MaskLike) -> Figure:
    """The support with its mask, the query, and a predictor's answer, traced, for one class, beside the truth."""
    picture = to_image(query).permute(1, 2, 0).numpy()  # [3, H, W] -> [H, W, 3]
    inside, found = to_mask(truth).numpy(), answer.mask == 1
    shares = answer.traces[0].reliable[0].cpu().numpy()  # [h, w]
    weights = Image.fromarray(shares / shares.max()).resize(found.shape[::-1], Image.Resampling.NEAREST)
    iou = (found & inside).sum() / max(1, (found | inside).sum())
    figure, grid = new_figure(5, width=1.8, height=2.15)
    outline = to_mask(mask).numpy()
    show_image(grid[0, 0], to_image(support).permute(1, 2, 0).numpy(), "support and its mask", outline=outline)
    draw_answer(grid[0, 1:], picture, np.array(weights), found, inside, iou)
    for axes in grid.flat:
        axes.title.set_fontsize(12)
    return figure


def draw_answer(
    panels: Sequence[Axes], query: np.ndarray, selected: np.ndarray, found: np.ndarray, truth: np.ndarray, iou: float
) -> None:
    """Four panels: the query [H, W, 3], its selected cells [H, W] in [0, 1], the mask found and the truth, [H, W]."""
    show_image(panels[0], query, "query")
    show_image(panels[1], overlay(query, selected, BLUE, strength=1.0), "selected cells")
    show_image(panels[2], overlay(query, found, ORANGE), f"prediction: IoU {iou:.2f}")
    show_image(panels[3], overlay(query, truth, GREEN), "truth", outline=truth)


@lru_cache(maxsize=2)
def variant_heads(world: str) -> Mapping[str, DPNet]:
    """Every shipped variant of "toy" or "photographs", as its weights are called.

    Raises:
        FileNotFoundError, ValueError: the weights of a variant are missing or damaged.
    """
    files = {name: world if name == "full" else f"{world}_{name.replace(' ', '_')}" for name in VARIANTS[world]}
    return MappingProxyType({name: load_head(file)[0] for name, file in files.items()})


def open_variants(shown: ShownEpisodes, world: str, episode: Episode) -> dict[str, OpenedEpisode]:
    """What every shipped variant makes of an episode; errors as in `variant_heads`."""
    return {name: open_episode(head, shown.bank, episode) for name, head in variant_heads(world).items()}


def precision_of(opened: OpenedEpisode) -> float:
    """Share of the selection's weight that lies on the object, in [0, 1]."""
    return selection_quality(opened.trace.reliable[0], opened.truth_shares)[0]


def tiles_figure(rows: Sequence[Sequence[OpenedEpisode]], row_names: Sequence[str]) -> Figure:
    """A query with its selected cells for each episode, in rows with names; the outline is the truth.

    Raises:
        ValueError: the rows differ in length, or there are not as many names.
    """
    if len({len(row) for row in rows}) != 1 or len(rows) != len(row_names):
        sizes = ", ".join(str(len(row)) for row in rows)
        raise ValueError(
            f"rows have {sizes} episodes and {len(row_names)} names; give rows of one length, a name for each"
        )
    figure, grid = new_figure(len(rows[0]), len(rows), width=1.4, height=1.75)
    for row, name, line in zip(rows, row_names, grid, strict=True):
        for opened, axes in zip(row, line, strict=True):
            _selection(axes, opened, f"{opened.class_name}\nprecision {precision_of(opened):.2f}")
        line[0].set_ylabel(name, fontsize=12)
    return figure


def cases_figure(
    episodes: Sequence[OpenedEpisode],
    rivals: Mapping[str, Sequence[OpenedEpisode]] | None = None,
    *,
    name: str = "predicted mask",
) -> Figure:
    """A column for each: its first support with the mask, the selection in the query, and the predicted mask.

    `rivals` are other networks' answers to the same episodes, a row more for each; `name` stands before the first's.
    """
    predicted = {name: episodes, **(rivals or {})}
    figure, grid = new_figure(len(episodes), 2 + len(predicted), width=1.6, height=1.85)
    for opened, support, selected in zip(episodes, grid[0], grid[1], strict=True):
        show_image(support, opened.support_images[0], opened.class_name, outline=opened.support_masks[0])
        _selection(selected, opened, f"precision {precision_of(opened):.2f}")
    for answers, row in zip(predicted.values(), grid[2:], strict=True):
        for opened, axes in zip(answers, row, strict=True):
            painted = overlay(opened.query_image, opened.prediction, ORANGE)
            show_image(axes, painted, f"IoU {opened.iou:.2f}", outline=opened.truth)
    for axes, what in zip(grid[:, 0], ("support", "selected cells", *predicted), strict=True):
        axes.set_ylabel(what, fontsize=12)
    return figure


def _selection(axes: Axes, opened: OpenedEpisode, title: str) -> None:
    show_image(axes, overlay(opened.query_image, opened.selected, BLUE, strength=1.0), title, outline=opened.truth)
