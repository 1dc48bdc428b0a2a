"""The results page, the reports and the tables of the README are what the result files give now."""

from __future__ import annotations

import pytest
import write_ablations
import write_results
from test_packaging import ROOT

from dpnet_lite.ablation.comparisons import judge
from dpnet_lite.ablation.report import report_tables


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
