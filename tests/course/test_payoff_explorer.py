"""The payoff explorer: every control without an error, and the picture shows the numbers of the rows."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import pack, pack_scores
from dpnet_lite.course.analysis import scenes
from dpnet_lite.course.analysis.payoff import PRECISION, Along, by_fact, differences_along
from dpnet_lite.course.analysis.scenes import FACTS, HIDDEN, scored_scenes
from dpnet_lite.course.analysis.strata import overall, paired_ious
from dpnet_lite.course.explorers import payoff as explorer
from dpnet_lite.course.explorers.payoff import along_figure, payoff_explorer, strata_figure
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.experiment import toy_test_world
from dpnet_lite.experiments.intervals import Interval


def made_rows(name):
    """Rows of a study with one fold and two seeds: true episodes, scores by chance."""
    study, generator = load_study(name), np.random.default_rng(0)
    rows = []
    for condition in study.conditions:
        planned = scored_scenes(0, 0.5 if condition.gap is None else condition.gap)
        episodes = planned.episodes(n_shot=condition.n_shot, count=60)
        classes = np.array([episode.class_index for episode in episodes])
        for variant in ("full", "support only"):
            for seed in (1, 2):
                hits = generator.integers(0, 400, 60)
                counts = np.stack([hits, np.full(60, 400), np.full(60, 600), 1000 - hits], axis=1)
                scores = EpisodeScores(classes, counts, planned.class_names, episodes.sha256)
                row = {"variant": variant, "condition": condition.name, "fold": 0, "seed": seed, "miou": scores.miou}
                row["scores"] = pack_scores(scores)
                if variant == "full":
                    row["precision"] = pack(generator.random(60).astype(np.float16))
                rows.append(row)
    return rows


def forget():
    for cached in (explorer._along, explorer._episodes, scenes.scored_scenes):
        cached.cache_clear()


@pytest.fixture(scope="module")
def rows():
    """Of all three studies, on a test world of few scenes."""
    with pytest.MonkeyPatch.context() as patch:
        forget()
        patch.setattr(scenes, "toy_test_world", partial(toy_test_world, n_scenes=120))
        found = {name: made_rows(name) for name in ("gap", "shots", "label-noise")}
        patch.setattr(explorer, "study_rows", found.__getitem__)
        yield found
    forget()


def test_every_control_draws_without_an_error(rows):
    widget = payoff_explorer()
    assert widget.error is None
    pictures = [widget.picture.value]
    for study in ("shots", "label-noise", "gap"):
        widget.controls["study"].value = study
        names = [condition.name for condition in load_study(study).conditions]
        assert [name for name, _ in widget.controls["position"].options] == names
        for position in (len(names) - 1, 0):
            widget.controls["position"].value = position
            assert widget.error is None and widget.figure.axes[1].get_title().startswith(names[position])
        pictures.append(widget.picture.value)
    for fact in (*FACTS, PRECISION):
        widget.controls["fact"].value = fact
        assert widget.error is None and fact in widget.figure.axes[1].get_title()
    assert len(set(pictures)) == 3  # the last is the first again


def test_the_picture_shows_the_numbers(rows):
    widget = payoff_explorer("shots")
    widget.change({"position": 2, "fact": HIDDEN})
    left, right = widget.figure.axes
    pairs = {
        key: [row["miou"] for row in rows["shots"] if (row["variant"], row["condition"]) == (key, "5-shot")]
        for key in ("full", "support only")
    }
    wanted = 100 * (np.mean(pairs["full"]) - np.mean(pairs["support only"]))
    assert left.lines[0].get_ydata()[2] == pytest.approx(wanted)
    ring = next(line for line in left.lines if line.get_markersize() == 16)
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (2, pytest.approx(wanted))

    paired = paired_ious(rows["shots"], "full", "support only", "5-shot")
    planned = scored_scenes(0)
    hidden = [planned.facts[e.query][e.class_index].hidden for e in planned.episodes(n_shot=5, count=60)]
    whole = [e for e in range(60) if hidden[e] < 0.001]
    first = 100 * np.mean([paired.differences[s, e] for s in range(2) for e in whole])
    points = next(line for line in right.lines if line.get_marker() == "o")
    assert points.get_ydata()[0] == pytest.approx(first)
    assert right.get_xticklabels()[0].get_text() == f"none\n({100 * len(whole) / 60:.0f})"


def test_an_error_is_shown_where_rows_are_missing(rows, monkeypatch):
    def missing(name):
        raise FileNotFoundError(f"no rows of {name}")

    monkeypatch.setattr(explorer, "study_rows", missing)
    explorer._along.cache_clear()
    widget = payoff_explorer()
    assert isinstance(widget.error, FileNotFoundError) and "no rows of gap" in widget.message.value


def test_differences_along_pair_the_runs(rows):
    found = differences_along(load_study("gap"), rows["gap"], "full", "support only", n_resamples=50)
    assert found.conditions == ("gap 0", "gap 0.25", "gap 0.5", "gap 0.75", "gap 1") and found.ways == (slice(0, 5),)
    assert all(low < value < high for value, (low, high) in zip(found.values, found.intervals, strict=True))
    with pytest.raises(ValueError, match="'full' and 'MSF' need the same runs under 'gap 0'"):
        differences_along(load_study("gap"), rows["gap"], "full", "MSF")


def test_figures_hold_every_line_and_panel(rows):
    one = Along(("a", "b"), np.array([0.1, -0.2]), (Interval(0, 0.2), Interval(-0.3, -0.1)), (slice(0, 2),))
    figure = along_figure({"first": one, "second": one}, "points")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["first", "second"]
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["a", "b"]
    paired = paired_ious(rows["gap"], "full", "support only", "gap 1")
    tables = {PRECISION: by_fact(paired, {PRECISION: paired.precision}, PRECISION)}
    panels = strata_figure(tables, overall(paired).difference).axes
    assert [axes.get_title() for axes in panels] == [PRECISION]
    dashed = next(line for line in panels[0].lines if line.get_linestyle() == "--")
    assert dashed.get_ydata()[0] == pytest.approx(100 * paired.differences.mean())
