"""The report of a study: its numbers are those of the rows, its files are whole."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from test_comparisons import simulated_study

from dpnet_lite.ablation.comparisons import NO_DIFFERENCE, judge
from dpnet_lite.ablation.figures import (
    OTHER_STYLES,
    P_STYLES,
    VARIANT_STYLES,
    conditions_figure,
    differences_figure,
    kind_of,
    scores_figure,
)
from dpnet_lite.ablation.report import report_tables, write_report
from dpnet_lite.ablation.studies import Condition
from dpnet_lite.ablation.table import pack_scores, unpack_scores
from dpnet_lite.checkpoints import versions
from dpnet_lite.evaluation import EpisodeScores
from dpnet_lite.experiments.intervals import Interval

FOUND_BY = {
    "identity": {"training": {"steps": 7, "batch_size": 3}, "n_episodes": 120, "device": "cuda", "threads": 3},
    "parameters": 12345,
    "training_seconds": 2.0,
    "seconds_per_episode": 0.004,
    "versions": versions(),
    "machine": "m",
    "code": "abc",
}


@pytest.fixture(scope="module")
def whole():
    study, rows = simulated_study(0.03, seed=1, folds=(0, 1), seeds=(1, 2))
    rows = [{**FOUND_BY, **row} for row in rows]
    return study, rows, judge(study, rows)


def test_the_tables_hold_the_numbers_of_the_rows(whole):
    study, rows, judged = whole
    text = report_tables(study, rows, judged, "dpnet-lite ablate own.toml --jobs 3")
    for variant in "ab":
        mean = 100 * np.mean([unpack_scores(r["scores"]).miou for r in rows if r["variant"] == variant])
        assert re.search(rf"\| {variant} +\| +\| {mean:.1f} \[", text)
    assert f"{100 * judged[0].difference:+.1f} [" in text and f"{judged[0].wins} of 4" in text
    assert "12,345" in text and "7 steps of 3 episodes" in text and "made by code abc" in text
    assert "- command: `dpnet-lite ablate own.toml --jobs 3`" in text
    assert "machines: m; device cuda, 3 thread(s) a run" in text
    assert f'"{NO_DIFFERENCE}"' in text


def test_images_that_repeat_in_the_support_are_told(whole):
    study, rows, _ = whole
    shots = replace(study, conditions=(Condition("2-shot", n_shot=2),))
    plain = EpisodeScores(np.zeros(4, int), np.full((4, 4), 9), ("a",))

    def text(support):
        packed = pack_scores(replace(plain, images=np.column_stack([np.zeros(4, int), support])))
        found = [{**row, "condition": "2-shot", "scores": packed} for row in rows]
        return report_tables(shots, found, judge(shots, found), "c")

    assert "repeat" not in text([[1, 2], [2, 1], [3, 1], [3, 2]])
    told = (
        "2-shot: in 25 % of the episodes support images repeat, because their class has fewer other images than shots"
    )
    assert f"{told}; at worst 1 different.\n" in text([[1, 2], [2, 1], [3, 3], [3, 2]])


def test_the_figures_show_what_was_judged(whole):
    study, rows, judged = whole
    axes = differences_figure(judged).axes[0]
    interval, point = axes.lines[0], axes.lines[1]
    np.testing.assert_allclose(interval.get_xdata(), [100 * end for end in judged[0].interval])
    assert point.get_xdata()[0] == pytest.approx(100 * judged[0].difference)
    label, numbers = (text.get_text() for text in axes.texts)
    assert label == "b or a: b minus a" and numbers.startswith(f"{100 * judged[0].difference:+.1f} [")
    # Marks are the graded verdicts, and those that occur are named; an oracle has an axis of its own.
    sure = replace(judged[0], p_corrected=0.01, interval=Interval(0.1, 0.3))
    bound, below = replace(sure.comparison, variant="oracle"), Interval(-0.3, -0.1)
    drawn = [sure, replace(sure, interval=below), replace(sure, p_corrected=0.06), replace(sure, comparison=bound)]
    drawn.insert(3, replace(sure, interval=Interval(-0.1, 0.1)))
    figure = differences_figure(drawn)
    methods, oracle = figure.axes
    marks = [(line.get_marker(), line.get_markerfacecolor() == "white") for line in methods.lines[1:8:2]]
    assert marks == [("o", False), ("s", False), ("D", True), ("D", False)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*P_STYLES]
    assert [kind_of(entry) for entry in drawn[:4]] == [*P_STYLES]
    assert oracle.texts[0].get_text().endswith("oracle minus a") and len(oracle.texts) == 2
    dots = scores_figure(study, rows).axes[0].lines[0].get_xdata()
    assert sorted(dots) == pytest.approx(
        sorted(100 * unpack_scores(r["scores"]).miou for r in rows if r["variant"] == "a")
    )
    figure = conditions_figure(study, rows)
    labels = figure.legends[0].get_texts()
    assert [label.get_text() for label in labels] == ["a", "b"]


def test_all_files_are_written(whole, tmp_path):
    paths = write_report(*whole, tmp_path, command="c")
    assert {path.name for path in paths} == {"differences.png", "scores.png", "report.md"}
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert text.startswith(report_tables(*whole, "c"))
    pictures = re.findall(r"\]\((.*?)\)", text)
    assert pictures == ["differences.png", "scores.png"]
    assert all((tmp_path / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)


def test_no_line_joins_masks_that_are_larger_with_masks_that_are_moved(whole):
    study, rows, _ = whole
    conditions = [
        replace(study.conditions[0], name=name, mask=mask, pixels=3 * (mask != "as drawn"))
        for name, mask in (("plain", "as drawn"), ("large", "dilated"), ("near", "shifted"), ("far", "shifted"))
    ]
    several = replace(study, conditions=tuple(conditions))
    first = [row for row in rows if row["condition"] == study.conditions[0].name]
    copies = [{**row, "condition": condition.name} for condition in conditions for row in first]
    axes = conditions_figure(several, copies).axes[0]
    ends = [(min(x), max(x)) for x in (line.get_xdata() for line in axes.lines) if len(x) > 1]
    assert ends and not any(low < 1.5 < high for low, high in ends)
    assert any(round(low) == 0 and round(high) == 1 for low, high in ends)
    assert len(set(OTHER_STYLES)) == len(OTHER_STYLES) and not set(OTHER_STYLES) & set(VARIANT_STYLES.values())
