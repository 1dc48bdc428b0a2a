"""Write docs/robustness.md: what the tests hand in that is wrong, and what then happens, as it was said when they ran.

    python tools/write_robustness.py [--workers 2]    # runs `make test`'s tests and writes the page
    python -m pytest -p robustness_recorder ...       # what it does for each worker

Every row is a test that ran: its case in the words of its name and parameters, the kind of error and its first line.
The log of `make torture` stands below, as benchmarks do in docs/performance.md.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "robustness.md"
TORTURE = ROOT / "docs" / "torture.txt"
PER_TEST = 12  # rows of one test at most; the others are counted
INTRO = """# What goes wrong, and what is said

Wrong input, damaged files, full disks: each row is a test that ran, and what it was told. *Case*: the test's name with
spaces for `_`, and in brackets its parameters; *file*: where it stands. *What happens*: the error's first
line, without the folders of the test; from the command line, with status 2. Nothing here ends in a traceback or in a
wrong result without a word: `tests/test_any_input.py` looks for more of the kind, and [SECURITY.md](../SECURITY.md)
says what is promised.

*Written by `tools/write_robustness.py`, which runs the tests.*

{count} rows of {tests} tests.

"""


def said(text: str) -> str:
    """A message in one line, without the folders of the test and what differs by machine."""
    line = re.sub(r"\s+", " ", text).strip()
    line = re.sub(r"(/[\w.+-]+)*/(pytest-of-\w+|tmp)(/[\w.+-]+)*?/(?=[\w.+-]+)", "", line)
    line = re.sub(r"\bpytest-\d+/(popen-gw\d+/)?\w+?\d+/", "", line)
    line = re.sub(r"\bpytest-\d+/(popen-gw\d+/)?\w+", "FOLDER", line)
    line = re.sub(re.escape(str(ROOT)) + "/", "", line)
    line = line.encode("ascii", "backslashreplace").decode()
    return line if len(line) <= 200 else line[:200].rpartition(" ")[0] + " ..."


def plain(text: str) -> str:
    """A text that a table in Markdown shows as it is: no emphasis, no tag, no new column."""
    return re.sub(r"([\\`*_~|$\[\]])", r"\\\1", html.escape(text, quote=False))


def case_of(node: str) -> str:
    """ "tests/a.py::test_this_is_told[x-1]" in words."""
    name = node.rpartition("::")[2]
    base, _, parameters = name.partition("[")
    words = base.removeprefix("test_").replace("_", " ")
    return words + (f" ({parameters[:-1] if len(parameters) < 60 else 'one of several'})" if parameters else "")


def rows(records: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Case, what happens and test, in the order of files and tests; the same message of one test stands once."""
    found: dict[str, dict[tuple[str, str], None]] = {}
    for record in sorted(records, key=lambda one: one["node"]):
        node = re.sub(r"@[^\[\]]*$", "", record["node"])  # the group of tests that one worker takes
        told = f"{record['kind']}: {said(record['message'])}"
        found.setdefault(node.partition("[")[0], {}).setdefault((plain(case_of(node)), plain(told)))
    table = []
    for test, cases in found.items():
        shown = list(cases)[:PER_TEST]
        table += [(case, told, test) for case, told in shown]
        if len(cases) > len(shown):
            table.append((case_of(test), f"{len(cases) - len(shown)} more", test))
    return table


def page(records: list[dict[str, Any]]) -> str:
    table = rows(records)
    text = INTRO.format(count=len(table), tests=len({test for *_, test in table}))
    text += "| case | what happens | file |\n|---|---|---|\n"
    text += "".join(f"| {case} | {told} | `{test.partition('::')[0]}` |\n" for case, told, test in table)
    if TORTURE.exists():
        log = TORTURE.read_text(encoding="utf-8").strip()
        text += f"\n## Killed and gone on\n\n`make torture`, by hand; its log:\n\n```\n{log}\n```\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("tests", nargs="*", default=["tests"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"DPNET_LITE_RECORD": folder, "PYTHONPATH": str(ROOT / "tools")}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "robustness_recorder", *args.tests]
        parallel = (
            ["-n", str(args.workers), "--dist", "loadgroup", "--no-loadscope-reorder"] if args.workers > 1 else []
        )
        if subprocess.run([*command, *parallel], cwd=ROOT, env=environment).returncode:
            raise SystemExit("the tests fail; the page is left as it is")
        lines = [line for file in sorted(Path(folder).iterdir()) for line in file.read_text().splitlines()]
    PAGE.write_text(page([json.loads(line) for line in lines]), encoding="utf-8")


if __name__ == "__main__":
    main()
