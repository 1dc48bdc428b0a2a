"""Pictures: an episode from support to prediction, and learning curves. Needs matplotlib.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; the truth is also told by its outline.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as functional
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import Normal, Stroke
from torch import nn

from dpnet_lite.episodes import Episode
from dpnet_lite.features import FeatureBank
from dpnet_lite.model.episode_batch import EpisodeBatch
from dpnet_lite.scoring import head_segmenter, predicted_mask

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
BLACK, WHITE = "#000000", "#FFFFFF"
_METHOD_STYLES = {"training-free": (BLACK, ":"), "support only": (ORANGE, "--"), "DPNet": (BLUE, "-")}


def overlay(image: np.ndarray, mask: np.ndarray, colour: str, *, strength: float = 0.75) -> np.ndarray:
    """Paint `mask` (bool [H, W] or weights in [0, 1]) over `image` (uint8 [H, W, 3]); returns floats in [0, 1].

    The rest of the image is greyed, so that the painted part stands out in print.
    """
    picture = image.astype(np.float64) / 255
    grey = picture.mean(axis=2, keepdims=True)
    muted = 0.1 * picture + 0.9 * (0.4 + 0.6 * grey)
    share = np.clip(mask.astype(np.float64), 0, 1)[..., None]
    painted = (1 - strength) * picture + strength * np.array(to_rgb(colour))
    return np.clip((1 - share) * muted + share * painted, 0, 1)


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])


@torch.no_grad()
def episodes_figure(
    bank: FeatureBank, episodes: Sequence[Episode], heads: Mapping[str, nn.Module], *, main: str = "DPNet"
) -> Figure:
    """A row an episode: outlined support, query, the selected cells, each head's prediction, the truth.

    heads: by name; `main` is the one whose selected cells are shown. The title of a prediction gives its IoU.
    """
    columns = ["support", "query", "selected cells", *heads, "truth"]
    figure, grid = plt.subplots(
        len(episodes),
        len(columns),
        figsize=(1.75 * len(columns), 1.95 * len(episodes)),
        squeeze=False,
        layout="constrained",
    )
    for row, episode in zip(grid, episodes, strict=True):
        support, query = bank.dataset[episode.support[0]], bank.dataset[episode.query]
        name = bank.dataset.class_names[episode.class_index]
        picture, truth = query.image.permute(1, 2, 0).numpy(), query.labels == episode.class_index + 1
        batch = bank.batch([episode])
        chosen = _selected_pixels(heads[main], batch, picture.shape[:2])
        support_mask = (support.labels == episode.class_index + 1).numpy()
        _show(row[0], support.image.permute(1, 2, 0).numpy(), f"support: {name}")
        _outline(row[0], support_mask)
        _show(row[1], picture, "query")
        _show(row[2], overlay(picture, chosen, BLUE, strength=1.0), "selected cells")
        for axes, (label, head) in zip(row[3:], heads.items(), strict=False):
            logits = head_segmenter(head)(batch)[0]
            mask = predicted_mask(logits, (picture.shape[0], picture.shape[1])) == 1
            iou = float((mask & truth).sum() / max(1, int((mask | truth).sum())))
            _show(axes, overlay(picture, mask.numpy(), ORANGE), f"{label}: IoU {iou:.2f}")
        _show(row[-1], overlay(picture, truth.numpy(), GREEN), "truth")
        _outline(row[-1], truth.numpy())
    _add_key(figure)
    return figure


def _selected_pixels(head: nn.Module, batch: EpisodeBatch, size: tuple[int, int]) -> np.ndarray:
    """Weight of each query pixel in P_q, float [H, W], the greatest 1, of a batch of one episode."""
    trace = head(batch, size, trace=True).trace
    share = functional.interpolate(trace.reliable[:1, None], size=size, mode="nearest")[0, 0]  # [h, w] -> [H, W]
    return (share / share.max().clamp_min(1e-12)).numpy()


def _outline(axes: Axes, mask: np.ndarray) -> None:
    """White in black: seen on any picture, whose colours stay as they are."""
    if mask.any() and not mask.all():
        for colour, width in ((BLACK, 3.5), (WHITE, 1.5)):
            axes.contour(mask, levels=[0.5], colors=colour, linewidths=width)


def _add_key(figure: Figure) -> None:
    """What outline and colours mean, below the panels."""
    handles = [
        Line2D(
            [],
            [],
            color=WHITE,
            linewidth=1.5,
            label="outline: support mask and truth",
            path_effects=[Stroke(linewidth=3.5, foreground=BLACK), Normal()],
        ),
        Patch(color=BLUE, label="selected cells; their mean is the pseudo-prototype $P_q$"),
        Patch(color=ORANGE, label="prediction"),
        Patch(color=GREEN, label="truth"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=10)


def learning_curve_figure(losses: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Training loss (cross-entropy, main) against the step, smoothed over a quarter of its points, at most 11."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    width = min(11, max(1, min((len(rows) for rows in losses.values()), default=1) // 4))
    for name, rows in losses.items():
        steps, values = np.array([r["step"] for r in rows]), np.array([r["main"] for r in rows])
        colour, style = _METHOD_STYLES.get(name, (GREEN, "-"))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(steps, values, color=colour, alpha=0.15, linewidth=1)
        axes.plot(steps[width // 2 :][: len(smooth)], smooth, color=colour, linestyle=style, linewidth=2, label=name)
    axes.set_title(f"thin: each logged step; bold: mean of {width} of them", fontsize=11)
    axes.set_xlabel("training step", fontsize=12)
    axes.set_ylabel("cross-entropy", fontsize=12)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=11)
    axes.legend(frameon=False, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def png(figure: Figure, *, dpi: int) -> bytes:
    """The content of a PNG file of a figure, which is closed."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    plt.close(figure)
    return buffer.getvalue()
