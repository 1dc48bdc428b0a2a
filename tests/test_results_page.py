"""The results page and the table of the README are what the result files give now."""

from __future__ import annotations

import importlib.util

from test_packaging import ROOT

_spec = importlib.util.spec_from_file_location("write_results", ROOT / "tools" / "write_results.py")
write_results = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(write_results)


def test_the_pages_are_in_step_with_the_result_files():
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == write_results.results_page(), "run `python tools/write_results.py`"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split(write_results.BEGIN)[1].split(write_results.END)[0]
    assert readme == write_results.with_table(readme) and "| DPNet         | 5     |" in table
    damaged = readme.replace(table, table.replace("1", "7"))
    assert damaged != readme and write_results.with_table(damaged) == readme
