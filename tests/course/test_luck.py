"""The luck explorer: what it draws from a list, and that pairing and length of the list do what the lessons say."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.course.explorers.luck import drawn, luck_explorer, lucky_differences, stored


def test_a_list_holds_the_same_share_of_each_class_and_is_drawn_with_replacement():
    scores = stored("toy", "full", 0)
    part = drawn(scores, 100, seed=3)
    assert np.array_equal(np.bincount(part.class_index), np.bincount(scores.class_index) // 5)  # 500 of 20 classes
    rows = {tuple(row) for row in zip(scores.class_index, *scores.counts.T, strict=True)}
    assert {tuple(row) for row in zip(part.class_index, *part.counts.T, strict=True)} <= rows
    assert len({*map(tuple, part.counts)}) < 100
    assert not np.array_equal(part.counts, drawn(scores, 100, seed=4).counts)


def test_pairing_and_more_episodes_narrow_the_intervals():
    few, many, unpaired = (
        lucky_differences("toy", 0, "support only", n, p) for n, p in ((60, True), (240, True), (60, False))
    )
    width = [float((x[:, 2] - x[:, 1]).mean()) for x in (few, many, unpaired)]
    assert width[0] / width[1] == pytest.approx(2, rel=0.25)  # by the root of four times as many
    assert width[2] > 1.4 * width[0]
    assert few[:, 0].std() > many[:, 0].std()


def test_every_control_draws():
    explorer = luck_explorer()
    for values in ({"data": "photos"}, {"rival": "training-free", "fold": 2}, {"n": 250, "paired": False}):
        explorer.change(values)
        assert explorer.error is None
    assert "20 intervals hold 0, " in explorer.figure.axes[0].get_title()
