"""The results page, the reports and the tables of the README are what the result files give now."""

from __future__ import annotations

import numpy as np
import pytest
import write_ablations
import write_results
from places import ROOT

from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.report import report_tables
from dpnet_lite.ablation.studies import load_study
from dpnet_lite.ablation.table import pack_scores
from dpnet_lite.evaluation import EpisodeScores


def test_the_pages_are_in_step_with_the_result_files():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == write_results.results_page(), "run `python tools/write_results.py`"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == write_results.with_table(readme), "run `python tools/write_results.py`"


@pytest.mark.parametrize(
    ("marks", "line"),
    [((write_results.BEGIN, write_results.END), "| DPNet         | 5     |"), (write_results.ABLATIONS, "CCM, alone")],
)
def test_a_damaged_table_is_mended(marks, line):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split(marks[0])[1].split(marks[1])[0]
    assert line in table
    damaged = readme.replace(table, table.replace("1", "7"))
    assert damaged != readme and write_results.with_table(damaged) == readme


@pytest.mark.parametrize("data", write_ablations.NAMES)
def test_the_reports_are_in_step_with_the_rows(data):
    for study, rows in write_ablations.shipped(data):
        report = (write_ablations.REPORTS / data / study.name / "report.md").read_text(encoding="utf-8")
        text = report_tables(study, rows, judge(study, rows), write_ablations.command(data, study, rows))
        assert report.startswith(text), "run `python tools/write_results.py`"


def test_the_goal_on_photographs_worked_by_hand():
    """The best rule may differ from fold to fold; the goal is reached, reached by the mean, or missed."""
    study = load_study("rivals")
    mious = {  # of the full network, and of the rules in the order of the study; two seeds
        0: ((0.6, 0.6), 0.3, 0.5, 0.4),
        1: ((0.4, 0.9), 0.6, 0.2, 0.1),
        2: ((0.5, 0.5), 0.3, 0.4, 0.7),
    }
    rules = [variant.name for variant in study.variants if variant.method != "trained"]

    def made(name, fold, seed, iou):
        scores = EpisodeScores(
            np.zeros(9, int),
            np.tile([100 * iou, 100, 100, 200 - 100 * iou], (9, 1)).astype(int),
            (f"class {fold}",),
            f"fold {fold}",
        )
        return {"variant": name, "condition": "1-shot", "fold": fold, "seed": seed, "scores": pack_scores(scores)}

    rows = []
    for fold, (full, *others) in mious.items():
        for seed in (0, 1):
            rows.append(made("full", fold, seed, full[seed]))
            rows += [made(name, fold, seed, iou) for name, iou in zip(rules, others, strict=True)]
    table = [[cell.strip() for cell in line.split("|")] for line in write_ablations.photograph_goal(rows).splitlines()]
    found = {int(line[1]): (line[2], line[3], line[4], line[6]) for line in table[2:]}
    assert found == {
        0: (rules[1], "50.0", "60.0", "reached"),
        1: (rules[0], "60.0", "65.0", "reached by the mean"),
        2: (rules[2], "70.0", "50.0", "missed"),
    }
