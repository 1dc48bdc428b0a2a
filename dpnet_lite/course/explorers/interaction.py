"""The interaction explorer's picture: what the prototypes make of each other, and what that does to the maps."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from dpnet_lite.course.explorers.panels import SIMILARITY, draw_outline, new_figure, show_image, show_map
from dpnet_lite.course.opened_episode import OpenedEpisode
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE
from dpnet_lite.model.prototypes import cosine_map


def similarity_maps(opened: OpenedEpisode) -> dict[str, np.ndarray]:
    """Cosine maps [h, w] of the query with both prototypes, before and after the interaction."""
    trace = opened.trace
    after = trace.interaction

    def cosine(query: Tensor, prototype: Tensor) -> np.ndarray:
        return cosine_map(query, prototype)[0].numpy()

    return {
        "cosine of $F_q$ and $P$": cosine(trace.query, trace.prototype),
        "cosine of $F_q'$ and $P'$": cosine(after.query, after.prototype),
        "cosine of $F_q$ and $P_q$": cosine(trace.query, trace.pseudo_prototype),
        "cosine of $F_q'$ and $P_q'$": cosine(after.query, after.pseudo_prototype),
    }


def interaction_figure(opened: OpenedEpisode, channel: int = 0) -> Figure:
    """Above: query, correlation A, a channel's row of A with the gate; below: maps before and after.

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
    figure, grid = new_figure(4, 2, width=2.7, height=2.7)
    show_image(grid[0, 0], opened.support_images[0], f"support: {opened.class_name}", outline=opened.support_masks[0])
    show_image(grid[0, 1], opened.query_image, "query", outline=opened.truth)
    _show_correlation(grid[0, 2], correlation[0][order][:, order].numpy(), channel)
    attention = correlation[0][order][:, order].softmax(dim=1)[channel]
    _show_channel(grid[0, 3], gate[0][order].numpy(), attention.numpy(), channel)
    maps = similarity_maps(opened)
    limits = (min(float(m.min()) for m in maps.values()), 1.0)
    for axes, (title, values) in zip(grid[1], maps.items(), strict=True):
        show_map(axes, values, title, size=size, limits=limits, colour_bar=axes is grid[1, -1])
        draw_outline(axes, opened.truth)
    return figure


def _show_correlation(axes, values: np.ndarray, channel: int) -> None:  # type: ignore[no-untyped-def]
    """A with the chosen row framed."""
    image = axes.imshow(values, cmap=SIMILARITY, interpolation="nearest")
    axes.axhline(channel - 0.5, color=ORANGE, linewidth=1)
    axes.axhline(channel + 0.5, color=ORANGE, linewidth=1)
    axes.set(xlabel="channel of $P_q$", ylabel="channel of $P$")
    axes.set_title("correlation $A$", fontsize=10)
    axes.figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02)


def _show_channel(axes, gate: np.ndarray, attention: np.ndarray, channel: int) -> None:  # type: ignore[no-untyped-def]
    """The gate of every channel, and the attention that one channel of P pays to those of P_q."""
    axes.plot(gate, ".", color=BLUE, label="gate")
    relative = len(attention) * attention  # 1 everywhere is the plain mean
    axes.plot(relative, "-", color=BLACK, linewidth=1, label=f"$C$ x attention of channel {channel}")
    axes.set(xlabel="channel, by size in $P$", ylim=(-0.03, max(1.03, 1.05 * float(relative.max()))))
    axes.set_title("gate and attention", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.25))
