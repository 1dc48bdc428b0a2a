"""Build notebooks/NAME.ipynb from notebooks/NAME.py: convert, run in a fresh kernel, write with outputs.

    python tools/build_notebooks.py                 # all of them, in place
    python tools/build_notebooks.py 00_start_here   # some of them
    python tools/build_notebooks.py --out FOLDER    # elsewhere, leaving the committed ones alone
    python tools/build_notebooks.py --unsolved      # write nothing: run the student's versions and require that every
                                                    # check refuses the unwritten exercise, and that nothing else fails

A notebook with exercises also becomes student/NAME.ipynb: the same without the solutions and without outputs.
What would differ from one run to the next (cell ids, times, the Python's version) is fixed or left out.
"""

from __future__ import annotations

import argparse
import copy
import os
import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 120  # a cell that takes longer is an error
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n.*?^ *# END SOLUTION$", flags=re.DOTALL | re.MULTILINE)
TO_WRITE = r'\1raise NotImplementedError("your lines go here")'


def convert(source: Path) -> NotebookNode:
    """Read a py:percent script as a notebook without outputs, with fixed ids and metadata."""
    notebook = jupytext.read(source, fmt="py:percent")
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:03d}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5  # the first version with cell ids
    set_metadata(notebook)
    return notebook


def set_metadata(notebook: NotebookNode) -> None:
    """Keep of the metadata only what a viewer needs; nothing of the machine or the run."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )


def student_version(notebook: NotebookNode) -> NotebookNode | None:
    """The notebook before it was run, with every solution taken out; None where it has no exercise.

    A solution stands between the lines `# BEGIN SOLUTION` and `# END SOLUTION`, as nbgrader has it. Links to other
    folders go one folder further up, since the student's notebooks lie one deeper.
    """
    student = copy.deepcopy(notebook)
    for cell in student.cells:
        cell.source = cell.source.replace("](../", "](../../")
        if cell.cell_type == "code":
            cell.source = SOLUTION.sub(TO_WRITE, cell.source)
            cell.metadata.pop("jupyter", None)  # nothing to fold away
    changed = any(
        a.source != b.source for a, b in zip(student.cells, notebook.cells, strict=True) if a.cell_type == "code"
    )
    return student if changed else None


def unsolved_problems(student: NotebookNode) -> list[str]:
    """Run a student's version: what is wrong where not exactly its checks fail, each with `Wrong`."""
    execute(student, allow_errors=True)
    found = []
    for number, cell in enumerate(cell for cell in student.cells if cell.cell_type == "code"):
        errors = [output.ename for output in cell.outputs if output.output_type == "error"]
        wanted = ["Wrong"] if "check" in cell.metadata.get("tags", []) else []
        if errors != wanted:
            found.append(f"code cell {number} ends with {errors or 'no error'} where {wanted or 'no error'} is due")
    return found


def execute(notebook: NotebookNode, *, allow_errors: bool = False) -> None:
    """Run all cells in notebooks/, in place. Raises CellExecutionError at the first cell that fails, unless allowed."""
    # The kernel must find this very checkout, installed or not, and choose its own plotting backend.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    os.environ.pop("MPLBACKEND", None)
    os.environ["OMP_NUM_THREADS"] = "1"  # sums then have one order, and the numbers do not hang on the machine's cores
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True,
        allow_errors=allow_errors,
        resources={"metadata": {"path": str(SOURCES)}},
    )  # fmt: skip
    client.execute()
    set_metadata(notebook)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        output.get("data", {}).pop(WIDGET, None)  # it lives as long as its kernel; the picture beside it stays


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the notebooks from their sources.")
    parser.add_argument("names", nargs="*", help="without ending; all of notebooks/ if none is given")
    parser.add_argument("--out", type=Path, default=SOURCES, help="folder for the .ipynb files")
    parser.add_argument("--unsolved", action="store_true", help="run the student's versions instead")
    args = parser.parse_args()
    for name in args.names or sorted(path.stem for path in SOURCES.glob("*.py")):
        source = SOURCES / f"{name}.py"
        if not source.is_file():
            print(f"build_notebooks: error: there is no {name}.py in notebooks/", file=sys.stderr)
            return 2
        notebook = convert(source)
        student = student_version(notebook)
        if args.unsolved:
            if student is not None and (found := unsolved_problems(student)):
                print(f"build_notebooks: error: {name}.py without solutions: {'; '.join(found)}", file=sys.stderr)
                return 1
            continue
        try:
            execute(notebook)
        except CellExecutionError as error:
            print(f"build_notebooks: error: {name}.py failed, nothing was written\n{error}", file=sys.stderr)
            return 1
        args.out.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, args.out / f"{name}.ipynb")
        if student is not None:
            (args.out / "student").mkdir(exist_ok=True)
            nbformat.write(student, args.out / "student" / f"{name}.ipynb")
        print(f"built {name}.ipynb")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
