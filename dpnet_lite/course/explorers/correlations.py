"""The correlation explorer: which prototypes belong together, class by class, and the two images behind each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from dpnet_lite.course.analysis.prototypes import (
    MEASURES,
    Prototypes,
    class_table,
    collect_prototypes,
    disjoint_episodes,
    nearest_class,
)
from dpnet_lite.course.explorers.episode import object_episodes, toy_episodes
from dpnet_lite.course.explorers.panels import draw_outline, show_image, show_map
from dpnet_lite.course.explorers.shell import Explorer, dropdown, offer, slider
from dpnet_lite.course.opened_episode import OpenedEpisode, ShownEpisodes
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.datasets.transforms import resize_sample
from dpnet_lite.experiments.plots import BLACK, BLUE, ORANGE, WHITE, overlay
from dpnet_lite.model.prototypes import cosine_map

VIEWS = ("heat map", "nearest class", "PCA")
WHEN = ("before", "after", "after minus before")
_SCENES, _PER_CLASS = 200, 4  # of the drawn world: seconds to make, and four episodes of a class
_THUMBNAIL = 40  # pixels


@lru_cache(maxsize=2)
def collected(photographs: bool) -> tuple[ShownEpisodes, Prototypes]:
    """The drawn world's fold 0 or the shipped photographs, and prototypes of episodes that share no image."""
    shown = object_episodes() if photographs else toy_episodes(0, 0.5, n_scenes=_SCENES)
    return shown, collect_prototypes(shown, disjoint_episodes(shown.episodes(count=2000), _PER_CLASS))


def correlations(found: Prototypes, measure: str, when: str) -> Tensor:
    """Of every episode's P (rows) with every episode's P_q (columns), [N, N]."""
    before, after = (MEASURES[measure](found.vectors[p], found.vectors[q]) for p, q in (("P", "P_q"), ("P'", "P_q'")))
    return {"before": before, "after": after, "after minus before": after - before}[when]


def confusion(found: Prototypes, nearest: Tensor) -> np.ndarray:
    """Of each class's episodes (rows), the share that has each class (columns) in `nearest`, int64 [N]: [n, n]."""
    from sklearn.metrics import confusion_matrix  # takes two seconds to import

    return np.asarray(confusion_matrix(found.labels, nearest, labels=range(len(found.class_names)), normalize="true"))


def correlation_figure(
    photographs: bool, view: str, measure: str, when: str, row: int, column: int, pair: int = 1
) -> Figure:
    """Left: a view of all classes. Right: an episode of the row's class and one of the column's, and how they match.

    Args:
        view, measure, when: of VIEWS, MEASURES, WHEN. Nearest class and PCA go by the cosine alone. A difference has no
            vectors of its own: they then show those after the interaction.
        row, column: numbers of classes; P is of the row's, P_q of the column's.
        pair: which of the cell's pairs of episodes to show, from 1 on, counted round.
    """
    shown, found = collected(photographs)
    if view != VIEWS[0]:
        measure, when = "cosine", WHEN[when != WHEN[0]]
    names, values = found.class_names, correlations(found, measure, when)
    chosen = (found.labels[:, None] == row) & (found.labels[None] == column) & ~torch.eye(len(values)).bool()
    i, j = chosen.nonzero().T.numpy()  # of P and of P_q
    figure = Figure(figsize=(11.5, 6.6), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    left, right = halves
    axes: Axes = left.subplots()
    if view == "heat map":
        table = class_table(values, found.labels).numpy()
        signed = bool(np.nanmin(table) < -0.2) or when == WHEN[-1]
        heat_map(axes, table, names, f"{measure}, {when}", signed=signed)
        axes.set(xlabel="class of $P_q$", ylabel="class of $P$")
    elif view == "nearest class":
        nearest = _nearest(found, when)
        # Turned, so that a cell has the class of P in its row and that of P_q in its column, as the heat map has.
        shares = float((nearest == found.labels).float().mean())
        heat_map(axes, confusion(found, nearest).T, names, f"nearest class {when} the interaction: {shares:.0%} right")
        axes.set(xlabel="class of the episode with this $P_q$", ylabel="class whose mean $P$ is nearest")
        order = np.argsort((nearest[j] != row).numpy(), kind="stable")  # episodes that went to this row come first
        i, j = i[order], j[order]
    else:
        _thumbnails(axes, shown, found, "" if when == "before" else "'", row, column)
    if view != "PCA":
        for colour, width in ((BLACK, 5), (WHITE, 2)):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=width))
    number = (pair - 1) % len(i)
    mean, this = float(values[i, j].mean()), float(values[i[number], j[number]])
    right.suptitle(f"{measure}, {when}: {mean:.2f} in {len(i)} pairs,\n{this:.2f} in number {number + 1}", fontsize=11)
    _pair(right.subplots(2, 2), *(shown.open(found.episodes[k[number]]) for k in (i, j)), changed=when != "before")
    return figure


def _nearest(found: Prototypes, when: str) -> Tensor:
    kind, of = ("P_q", "P") if when == WHEN[0] else ("P_q'", "P'")
    return nearest_class(found.vectors[kind], found.vectors[of], found.labels)


def heat_map(
    axes: Axes, table: np.ndarray, names: Sequence[str], title: str, *, signed: bool = False, groups: Any = ()
) -> None:
    """A table [n, n] as colours; signed, 0 is neutral. Lines stand where `groups`, one entry per class, changes."""
    largest = float(np.nanmax(np.abs(table)))
    picture = axes.imshow(table, cmap="PuOr" if signed else "cividis", vmin=-largest if signed else 0.0, vmax=largest)
    for edge in (k - 0.5 for k in range(1, len(groups)) if groups[k] != groups[k - 1]):
        for line in (axes.axhline, axes.axvline):
            line(edge, color=BLACK if signed else WHITE, linewidth=1.2)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=12)
    axes.set_yticks(range(len(names)), names, fontsize=12)
    axes.set_title(title, fontsize=13)
    axes.get_figure().colorbar(picture, ax=axes, shrink=0.6, pad=0.01)  # type: ignore[union-attr]


def _thumbnails(axes: Axes, shown: ShownEpisodes, found: Prototypes, mark: str, row: int, column: int) -> None:
    """Each prototype as the crop that it was made from, at its two principal components."""
    points = torch.cat([found.vectors["P" + mark], found.vectors["P_q" + mark]])  # [2 N, C]
    from sklearn.decomposition import PCA

    pca = PCA(n_components=2, random_state=0)
    places = pca.fit_transform(functional.normalize(points, dim=1).numpy())
    crops = [_crop(shown, e.support[0], e.class_index) for e in found.episodes]
    crops += [_crop(shown, e.query, e.class_index) for e in found.episodes]
    half = 0.03 * np.ptp(places, axis=0)
    labels, n = found.labels.numpy(), len(found.labels)
    for number, ((x, y), crop) in enumerate(zip(places, crops, strict=True)):
        chosen = labels[number % n] == (row if number < n else column)
        extent = (x - half[0], x + half[0], y - half[1], y + half[1])
        axes.imshow(crop, extent=extent, aspect="auto", zorder=2 + chosen, alpha=1.0 if chosen else 0.7)
        if chosen:
            style: dict[str, Any] = {"linewidth": 3, "zorder": 4, "edgecolor": BLUE if number < n else ORANGE}
            axes.add_patch(Rectangle((extent[0], extent[2]), *(2 * half), fill=False, **style))
    (left, low), (right, high) = places.min(axis=0) - 2 * half, places.max(axis=0) + 2 * half
    axes.set(xlim=(left, right), ylim=(low, high), xticks=[], yticks=[])
    names = found.class_names
    title = f"PCA {WHEN[bool(mark)]} the interaction, {pca.explained_variance_ratio_.sum():.0%} of the variance"
    axes.set_title(title, fontsize=13)
    axes.set_xlabel(f"blue: $P{mark}$ of {names[row]}; orange: $P_q{mark}$ of {names[column]}", fontsize=12)


@lru_cache(maxsize=512)
def _crop(shown: ShownEpisodes, index: int, class_index: int) -> np.ndarray:
    """The object of a class in an image and a little around it, [h, w, 3]."""
    sample = resize_sample(shown.dataset[index], shown.size)
    inside = sample.labels.numpy() == shown.dataset.label_value(index, class_index)
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())  # [3, H, W] -> [H, W, 3]
    return np.asarray(image.resize((_THUMBNAIL, _THUMBNAIL), box=box))


def _pair(grid: Any, first: OpenedEpisode, second: OpenedEpisode, *, changed: bool) -> None:
    """Above: where P and P_q come from. Below: each compared with the other's image; brighter is more alike."""
    (top_left, top_right), (low_left, low_right) = grid
    show_image(top_left, first.support_images[0], f"$P$: {first.class_name}", outline=first.support_masks[0])
    selected = overlay(second.query_image, second.selected, BLUE, strength=1.0)
    show_image(top_right, selected, f"$P_q$: {second.class_name}", outline=second.truth)
    P, P_q = first.trace.prototype, second.trace.pseudo_prototype  # [1, C]
    support, query = first.trace.support[:, 0], second.trace.query  # [1, C, h, w]
    mark = ""
    if changed:
        P, P_q, mark = first.trace.interaction.prototype, second.trace.interaction.pseudo_prototype, "'"
        query = second.trace.interaction.query
        if first.trace.interaction.weights is not None:
            support = support * first.trace.interaction.weights[..., None, None]
    maps = [cosine_map(support, P_q)[0].numpy(), cosine_map(query, P)[0].numpy()]
    limits = (float(np.min(maps)), float(np.max(maps)))
    style: dict[str, Any] = {"size": first.query_image.shape[0], "limits": limits, "colour_bar": False}
    show_map(low_left, maps[0], f"cosine with $P_q{mark}$", **style)
    show_map(low_right, maps[1], f"cosine with $P{mark}$", **style)
    draw_outline(low_left, first.support_masks[0])
    draw_outline(low_right, second.truth)


def correlation_explorer(photographs: bool = False) -> Explorer:
    """Choose world, view, measure, and before or after the interaction; click a cell to see two images behind it."""

    def click(panel: int, x: float, y: float) -> dict[str, int]:
        inside = panel == 0 and controls["view"].value != "PCA"
        return {"row": round(y), "column": round(x), "pair": 1} if inside else {}

    def follow(controls: Mapping[str, Any]) -> str:
        found = collected(controls["photographs"].value)[1]
        names, sizes = found.class_names, found.labels.bincount().tolist()
        for name, first in (("row", "toy sloth"), ("column", "toy wolf")):
            if offer(controls[name], names):
                controls[name].value = names.index(first) if first in names else 0
        row, column = controls["row"].value, controls["column"].value
        controls["pair"].max = sizes[row] * (sizes[column] - (row == column))
        controls["measure"].layout.display = None if controls["view"].value == VIEWS[0] else "none"
        return f"<small>{OBJECTS_CREDIT}</small>" if controls["photographs"].value else ""

    def tell(photographs: bool, view: str, measure: str, when: str, row: int, column: int, **others: Any) -> str:
        found = collected(photographs)[1]
        own, other, selected = found.class_names[row], found.class_names[column], "Blue on the right: selected cells."
        if view == "nearest class":
            went = _nearest(found, when)[found.labels == column] == row
            return f"Nearest to the mean P of {own}: {int(went.sum())} of {len(went)} P_q of {other}. {selected}"
        if view == "PCA":
            return f"Each small picture is a prototype, near to others that it is like. {selected}"
        values = class_table(correlations(found, measure, when), found.labels)[row].nan_to_num(-2.0)
        named = [f"{found.class_names[k]} ({values[k]:.2f})" for k in values.topk(3).indices.tolist()]
        how = f"By the {measure} {when} the interaction, P of {own} is most like P_q of"
        if when == WHEN[-1]:
            does, most = ("lowers", "with every class, least") if values.max() < 0 else ("raises", "most")
            how = f"The interaction {does} the {measure} of P of {own} {most} with P_q of"
        return f"{how}: {', '.join(named)}. {selected}"

    controls = {
        "photographs": dropdown("world", [("drawn world", False), ("photographs", True)], value=photographs),
        "view": dropdown("view", VIEWS),
        "measure": dropdown("measure", list(MEASURES), value="centred cosine"),
        "when": dropdown("interaction", WHEN),
        "row": dropdown("class of P", [("", 0)]),
        "column": dropdown("class of P_q", [("", 0)]),
        "pair": slider("pair", 1, _PER_CLASS**2, 1),
    }
    alt = (
        "A table of classes by how alike their prototypes are; beside it two episodes, their masks and similarity maps"
    )
    return Explorer(correlation_figure, controls, alt=alt, click=click, follow=follow, tell=tell)
