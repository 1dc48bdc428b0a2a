"""The payoff explorer: every control without an error, and the picture shows the numbers of the rows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytest.importorskip("ipyevents", reason="ipyevents is not installed (extra: notebooks)")

from dpnet_lite.ablation.comparisons import holm, judge
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import pack, pack_scores
from dpnet_lite.course.analysis import payoff, scenes
from dpnet_lite.course.analysis.payoff import PRECISION, by_fact, judged_along
from dpnet_lite.course.analysis.scenes import FACTS, HIDDEN, scored_scenes
from dpnet_lite.course.analysis.strata import overall, paired_ious
from dpnet_lite.course.explorers import payoff as explorer
from dpnet_lite.course.explorers.payoff import along_figure, contrasts_figure, payoff_explorer, strata_figure
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
        for variant in ("full", "support only", "CCM", "baseline"):
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
    for cached in (judged_along, explorer._episodes, scenes.scored_scenes):
        cached.cache_clear()


@pytest.fixture(scope="module")
def rows():
    """Of all three studies, on a test world of few scenes."""
    with pytest.MonkeyPatch.context() as patch:
        forget()
        patch.setattr(scenes, "toy_test_world", partial(toy_test_world, n_scenes=120))
        found = {name: made_rows(name) for name in ("gap", "shots", "label-noise")}
        for module in (explorer, payoff):
            patch.setattr(module, "study_rows", lambda name, data="toy": found[name])
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
    ring = next(line for line in left.lines if line.get_markersize() == 18)
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
    def missing(name, data):
        raise FileNotFoundError(f"no rows of {name}")

    monkeypatch.setattr(payoff, "study_rows", missing)
    judged_along.cache_clear()
    widget = payoff_explorer()
    assert isinstance(widget.error, FileNotFoundError) and "no rows of gap" in widget.message.value


def test_a_study_is_judged_along_its_conditions_and_corrected_over_all_it_asks(rows):
    judged_along.cache_clear()
    study, found = judged_along("gap")
    assert [entry.condition for entry in found] == ["gap 0", "gap 0.25", "gap 0.5", "gap 0.75", "gap 1"]
    assert {entry.comparison.variant for entry in found} == {"full"} and len(study.comparisons) == 2
    lead = {(row["variant"], row["condition"], row["seed"]): row["miou"] for row in rows["gap"]}
    for entry in found:  # two seeds of one fold, which by itself says nothing of others
        differences = [lead["full", entry.condition, s] - lead["support only", entry.condition, s] for s in (1, 2)]
        assert entry.difference == pytest.approx(np.mean(differences)) and (entry.p, entry.pairs) == (1, 2)
    every = judge(study, rows["gap"])
    by_holm = [
        p for p, entry in zip(holm([e.p for e in every]), every, strict=True) if entry.comparison.variant == "full"
    ]
    assert len(every) == 10 and [entry.p_corrected for entry in found] == by_holm


def test_figures_hold_every_mark_and_panel(rows):
    study, found = judged_along("label-noise")
    clear = [replace(found[0], p_corrected=0.01, interval=Interval(0.1, 0.3)), *found[1:]]
    figure = along_figure({"first": (study, clear), "second": (study, found)})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second"]
    marks = [[line.get_marker() for line in axes.lines if line.get_marker() in "osD"] for axes in figure.axes]
    assert marks[0][:7] == ["o"] + 6 * ["D"] and marks[1][:7] == 7 * ["D"]
    assert figure.axes[0].get_xticklabels()[0].get_text() == "eroded\nby 6"
    paired = paired_ious(rows["gap"], "full", "support only", "gap 1")
    table, names = by_fact(paired, {PRECISION: paired.precision}, PRECISION)
    wide, _ = by_fact(paired, {PRECISION: paired.precision}, PRECISION, level=0.999)
    assert wide.contrast_interval.low < table.contrast_interval.low < table.contrast
    panel = strata_figure(table, names, overall(paired).difference, PRECISION).axes[0]
    dashed = next(line for line in panel.lines if line.get_linestyle() == "--")
    assert dashed.get_ydata()[0] == pytest.approx(100 * paired.differences.mean())
    bar, point = contrasts_figure({PRECISION: (table, names)}).axes[0].lines[:2]
    assert [*bar.get_xdata()] == pytest.approx([100 * end for end in table.contrast_interval])
    assert point.get_xdata()[0] == pytest.approx(100 * (table.strata[-1].difference - table.strata[0].difference))
