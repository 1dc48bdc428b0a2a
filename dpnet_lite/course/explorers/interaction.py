"""The interaction explorer's picture: what the prototypes make of each other, and what that does to the maps."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from dpnet_lite.course.explorers.panels import SIMILARITY, draw_outline, enlarge, new_figure, show_image, show_map
from dpnet_lite.course.opened_episode import OpenedEpisode, best_threshold_iou
from dpnet_lite.experiments.plots import BLUE, ORANGE
from dpnet_lite.model.prototypes import cosine_map


def similarity_maps(opened: OpenedEpisode) -> dict[str, np.ndarray]:
    """Cosine maps [h, w] of the query with both prototypes, before and after the interaction."""
    trace, after = opened.trace, opened.trace.interaction
    compared = {
        "cosine of $F_q$ and $P$": (trace.query, trace.prototype),
        "cosine of $F_q'$ and $P'$": (after.query, after.prototype),
        "cosine of $F_q$ and $P_q$": (trace.query, trace.pseudo_prototype),
        "cosine of $F_q'$ and $P_q'$": (after.query, after.pseudo_prototype),
    }
    return {name: cosine_map(*pair)[0].numpy() for name, pair in compared.items()}


def interaction_told(opened: OpenedEpisode, channel: int) -> str:
    """What the interaction does to the maps, and the channel's weight; counted as in `interaction_figure`."""
    truth, order = opened.truth_shares >= 0.5, opened.trace.prototype[0].argsort(descending=True)
    ious = [best_threshold_iou(torch.from_numpy(values), truth) for values in similarity_maps(opened).values()]
    text = "Best IoU of P's map {:.2f} before, {:.2f} after; of P_q's {:.2f}, {:.2f}; channel {}: u = {:.2f}."
    return text.format(*ious, channel, opened.trace.interaction.weights[0, order[channel]])  # type: ignore[index]


def interaction_figure(opened: OpenedEpisode, channel: int = 0) -> Figure:
    """Right: correlation A, the gate, a channel's row of A as attention; left: maps before, and what PIM changes.

    The channels of A are in the order of P, largest first; `channel` counts in that order.

    Raises:
        ValueError: the head has no correlation of channels, or no such channel.
    """
    interaction = opened.trace.interaction
    correlation, gate = interaction.correlation, interaction.gate
    if correlation is None or gate is None or correlation.shape[-1] != opened.trace.prototype.shape[1]:
        raise ValueError("this head's interaction has no C x C correlation; use interaction='joint'")
    if not 0 <= channel < correlation.shape[1]:
        raise ValueError(f"channel is {channel}; choose 0 to {correlation.shape[1] - 1}")
    order = opened.trace.prototype[0].argsort(descending=True)
    size = opened.query_image.shape[0]
    figure, grid = new_figure(3, 3, width=2.7, height=2.5)
    show_image(grid[0, 0], opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
    show_image(grid[0, 1], opened.query_image, "query", outline=opened.truth)
    _show_correlation(grid[0, 2], correlation[0][order][:, order].numpy(), channel)
    attention = len(gate[0]) * correlation[0][order][:, order].softmax(dim=1)[channel]  # 1: the plain mean
    _show_channels(grid[1, 2], 2 * gate[0][order].numpy(), "weight $u$ by channel")
    _show_channels(grid[2, 2], attention.numpy(), f"$C$ x attention of channel {channel}")
    before, after, before_q, after_q = similarity_maps(opened).values()
    largest = max(float(np.abs(change).max()) for change in (after - before, after_q - before_q))
    for line, name, first, second in ((grid[1], "$P$", before, after), (grid[2], "$P_q$", before_q, after_q)):
        show_map(line[0], first, f"cosine with {name}, before", size=size, limits=(-0.1, 1.0))
        show_map(line[1], second - first, "after minus before", size=size, signed=True, limits=(-largest, largest))
        for axes in line[:2]:
            draw_outline(axes, opened.truth)
    enlarge(figure)
    return figure


def _show_correlation(axes: Axes, values: np.ndarray, channel: int) -> None:
    """A with the chosen row framed."""
    image = axes.imshow(values, norm=PowerNorm(0.5, vmin=0), cmap=SIMILARITY, interpolation="nearest")  # few are large
    axes.axhspan(channel - 0.5, channel + 0.5, facecolor="none", edgecolor=ORANGE, linewidth=1.5)
    axes.set(xlabel="channel of $P_q$", ylabel="channel of $P$", title="$A$ (root scale)")
    axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)


def _show_channels(axes: Axes, values: np.ndarray, title: str) -> None:
    """A number per channel, beside a line at 1: no change, or the plain mean."""
    axes.axhline(1, color="grey", linewidth=1)
    axes.plot(values, ".", color=BLUE)
    axes.set(xlabel="channel, by size in $P$", ylim=(0, max(2.0, 1.05 * float(values.max()))), title=title)
