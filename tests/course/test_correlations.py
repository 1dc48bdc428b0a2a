"""The correlation explorer: its table and nearest classes against plain loops, and what a click shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.course.analysis.prototypes import class_table, nearest_class
from dpnet_lite.course.explorers.correlations import (
    VIEWS,
    WHEN,
    collected,
    correlation_explorer,
    correlation_figure,
    correlations,
)
from dpnet_lite.datasets import OBJECTS_CREDIT
from dpnet_lite.experiments.plots import BLUE, overlay


def test_the_table_is_that_of_a_plain_loop_without_own_episodes():
    found = collected(False)[1]
    P, P_q, labels = found.vectors["P'"].double().numpy(), found.vectors["P_q'"].double().numpy(), found.labels.numpy()
    P, P_q = P - P.mean(axis=0), P_q - P_q.mean(axis=0)
    table = class_table(correlations(found, "centred cosine", "after"), found.labels).numpy()
    for a, b in ((0, 0), (0, 1), (7, 3), (19, 19)):
        pairs = [(P[i], P_q[j]) for i in np.flatnonzero(labels == a) for j in np.flatnonzero(labels == b) if i != j]
        cosines = [p @ q / np.linalg.norm(p) / np.linalg.norm(q) for p, q in pairs]
        assert table[a, b] == pytest.approx(np.mean(cosines), abs=1e-4)
    before, after, change = (correlations(found, "centred cosine", when) for when in WHEN)
    assert torch.allclose(before + change, after, atol=1e-6) and change.abs().max() > 1e-3


def test_every_state_is_drawn_and_a_click_on_a_cell_chooses_its_classes():
    for photographs in (False, True):
        for view in VIEWS:
            for when in WHEN:
                correlation_figure(photographs, view, "cosine", when, 3, 5).canvas.draw()
    explorer = correlation_explorer()
    place = explorer.figure.axes[0].transData.transform((4, 2))  # column 4, row 2
    width, height = explorer.figure.bbox.size
    shown = {"boundingRectWidth": width, "boundingRectHeight": height}
    explorer.clicked({"relativeX": place[0], "relativeY": height - place[1], **shown})
    assert explorer.error is None and (explorer.state["row"], explorer.state["column"]) == (2, 4)
    names = collected(False)[1].class_names
    titles = [axes.get_title() for axes in explorer.figure.axes]
    assert f"$P$: {names[2]}" in titles and f"$P_q$: {names[4]}" in titles
    explorer.change({"view": "PCA", "photographs": True})
    assert explorer.error is None and explorer.caption.value.count(OBJECTS_CREDIT) == 1
    assert dict(explorer.controls["row"].options).keys() == set(collected(True)[1].class_names)


def test_a_cell_of_the_nearest_classes_shows_an_episode_that_went_there():
    found = collected(False)[1]
    nearest = nearest_class(found.vectors["P_q"], found.vectors["P"], found.labels)
    wrong = int((nearest != found.labels).nonzero()[0])
    row, column = int(nearest[wrong]), int(found.labels[wrong])
    figure = correlation_figure(False, "nearest class", "cosine", "before", row, column)
    went = [e for e, n, k in zip(found.episodes, nearest, found.labels, strict=True) if (n, k) == (row, column)]
    opened = [collected(False)[0].open(episode) for episode in went]
    shown = figure.axes[3].images[0].get_array()
    assert any(np.array_equal(shown, overlay(one.query_image, one.selected, BLUE, strength=1.0)) for one in opened)
