"""The scale explorer's picture: what each level of the fusion gets and gives, and the answer without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as functional
from matplotlib.figure import Figure
from torch import Tensor

from ..model.base import EpisodeNetwork
from ..model.head import Head
from ..plots import GREEN, ORANGE, overlay
from ..study import EpisodeView, ToyStudy
from .panels import draw_outline, new_figure, show_image, show_map


@contextmanager
def without_scale(head: EpisodeNetwork, level: int) -> Iterator[Head]:
    """A head whose level number `level` (0 is the finest) says the same everywhere: its mean over the grid.

    Where things are can then no longer be told by this level, neither to the merge nor to the next finer level; what
    kind of things they are still can. The head itself is as before when the block ends.

    Raises:
        ValueError: the head has no such level.
    """
    if not isinstance(head, Head):
        raise ValueError(f"a network {head.config.network!r} has no levels; give a DPNet head")
    if not 0 <= level < len(head.fusion.levels):
        raise ValueError(f"level is {level}; choose 0 to {len(head.fusion.levels) - 1}")

    def flatten(module: torch.nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output.mean(dim=(2, 3), keepdim=True).expand_as(output)

    hook = head.fusion.levels[level].register_forward_hook(flatten)
    try:
        yield head
    finally:
        hook.remove()


def pooled_map(view: EpisodeView, name: str, level: int) -> np.ndarray:
    """The comparison map `name` (one of `view.trace.map_names`) as level number `level` gets it, [h_b, w_b]."""
    values = view.trace.maps[:, view.trace.map_names.index(name)]  # [1, h, w]
    height, width = view.trace.levels[level].shape[-2:]
    return functional.adaptive_avg_pool2d(values[None], (height, width))[0, 0].numpy()  # [1, 1, h, w] -> [h_b, w_b]


def scales_figure(study: ToyStudy, view: EpisodeView, level: int) -> Figure:
    """Above: support, query, the maps of P' and P_q' at this level; below: X_b, F_q^final, both answers."""
    with without_scale(study.head, level):
        silenced = study.view(view.episode)
    size = view.query_image.shape[0]
    rows, columns = view.trace.levels[level].shape[-2:]
    figure, grid = new_figure(4, 2, width=2.7, height=2.7)
    show_image(grid[0, 0], view.support_images[0], f"support: {view.class_name}", outline=view.support_masks[0])
    show_image(grid[0, 1], overlay(view.query_image, view.truth, GREEN), "query with the truth")
    for axes, name in zip(grid[0, 2:], ("P'", "P_q'"), strict=True):
        show_map(axes, pooled_map(view, name, level), f"map of ${name}$, {rows} x {columns}", size=size, signed=True)
        draw_outline(axes, view.truth)
    lengths = {
        f"length of $X_b$, {rows} x {columns}": view.trace.levels[level],
        "length of $F_q^{final}$": view.trace.fused,
    }
    for axes, (title, features) in zip(grid[1, :2], lengths.items(), strict=True):
        show_map(axes, features[0].norm(dim=0).numpy(), title, size=size)
        draw_outline(axes, view.truth)
    for axes, seen, title in ((grid[1, 2], view, "all scales"), (grid[1, 3], silenced, "this one flattened")):
        show_image(axes, overlay(seen.query_image, seen.prediction, ORANGE), f"{title}: IoU {seen.iou:.2f}")
    return figure
