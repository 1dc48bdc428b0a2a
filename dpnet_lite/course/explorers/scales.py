"""The scale explorer's picture: what each level of the fusion gets and gives, and the answer without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from matplotlib.figure import Figure
from torch import Tensor

from dpnet_lite.course.explorers.panels import draw_outline, enlarge, new_figure, show_image, show_map
from dpnet_lite.course.opened_episode import OpenedEpisode, ShownEpisodes
from dpnet_lite.experiments.plots import BLUE, ORANGE, overlay
from dpnet_lite.model.dpnet import DPNet


@contextmanager
def without_scale(head: DPNet, level: int) -> Iterator[DPNet]:
    """A head whose level number `level` (0 is the finest) says the same everywhere: its mean over the grid.

    Where things are can then no longer be told by this level, neither to the merge nor to the next finer level; what
    kind of things they are still can. A level of a single cell, such as the global mean, says the same everywhere as
    it is; it says 0 instead. The head itself is as before when the block ends.

    Raises:
        ValueError: the head has no such level.
    """
    modules = list(head.fusion.seen_by().values())
    if not 0 <= level < len(modules):
        raise ValueError(f"level is {level}; choose 0 to {len(modules) - 1}")

    def flatten(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if output.shape[-2:] == (1, 1):
            return torch.zeros_like(output)
        return output.mean(dim=(2, 3), keepdim=True).expand_as(output)

    hook = modules[level].register_forward_hook(flatten)
    try:
        yield head
    finally:
        hook.remove()


def level_titles(head: DPNet, opened: OpenedEpisode) -> list[str]:
    """The name of every level, and its cells where it has several: "scale 0.5, 12 x 12", "global mean"."""
    names = zip(head.fusion.seen_by(), [tuple(level.shape[-2:]) for level in opened.trace.levels], strict=True)
    return [name if size == (1, 1) else f"{name}, {size[0]} x {size[1]}" for name, size in names]


def scales_told(shown: ShownEpisodes, opened: OpenedEpisode) -> str:
    """The IoU with all scales, and without each."""
    texts = []
    for level, name in enumerate(shown.head.fusion.seen_by()):
        with without_scale(shown.head, level):
            texts.append(f"{name} {shown.open(opened.episode).iou:.2f}")
    return f"With all scales IoU {opened.iou:.2f}; without {', '.join(texts)}."


def scales_figure(shown: ShownEpisodes, opened: OpenedEpisode, level: int) -> Figure:
    """Support, query, the maps of P' and P_q'; what this level of "aspp" sees, F_q^final; the answers without it."""
    with without_scale(shown.head, level):
        silenced = shown.open(opened.episode)
    title = level_titles(shown.head, opened)[level]
    size = opened.query_image.shape[0]
    figure, grid = new_figure(3, 3, width=2.7, height=2.6)
    show_image(grid[0, 0], opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
    show_image(grid[0, 1], opened.query_image, "query", outline=opened.truth)
    for axes, name in zip((grid[0, 2], grid[1, 0]), ("P'", "P_q'"), strict=True):
        values = opened.trace.maps[0, opened.trace.map_names.index(name)].numpy()
        show_map(axes, values, f"map of ${name}$", size=size, signed=True)
        draw_outline(axes, opened.truth)
    lengths = {f"length of $Z$,\n{title}": opened.trace.levels[level], "length of $F_q^{final}$": opened.trace.fused}
    for axes, (caption, features) in zip(grid[1, 1:], lengths.items(), strict=True):
        show_map(axes, features[0].norm(dim=0).numpy(), caption, size=size, colour_bar=features.shape[-1] > 1)
        axes.set_visible(features.shape[-1] > 1)  # the global mean is the same everywhere
        draw_outline(axes, opened.truth)
    for axes, seen, caption in ((grid[2, 0], opened, "all scales"), (grid[2, 1], silenced, "flattened")):
        painted = overlay(seen.query_image, seen.prediction, ORANGE)
        show_image(axes, painted, f"{caption}: IoU {seen.iou:.2f}", outline=opened.truth)
    changed = overlay(opened.query_image, opened.prediction != silenced.prediction, BLUE)
    show_image(grid[2, 2], changed, "where they differ")
    enlarge(figure)
    return figure
