"""Build notebooks/NAME.ipynb from notebooks/NAME.py: convert, run in a fresh kernel, write with outputs.

    python tools/build_notebooks.py                 # all of them, in place
    python tools/build_notebooks.py 00_start_here   # some of them
    python tools/build_notebooks.py --out FOLDER    # elsewhere, leaving the committed ones alone

A notebook with exercises also becomes student/NAME.ipynb: the same without the solutions and without outputs.
What would differ from one run to the next (cell ids, times, the Python's version) is fixed or left out.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
CELL_SECONDS = 120  # a cell that takes longer is an error
BUDGET_SECONDS = 90  # for a whole notebook
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
    folders, and to the first notebook, which has no exercise, go one folder further up: the student's lie one deeper.
    """
    student = copy.deepcopy(notebook)
    for cell in student.cells:
        cell.source = cell.source.replace("](../", "](../../").replace("](00_start_here", "](../00_start_here")
        if cell.cell_type == "code":
            cell.source = SOLUTION.sub(TO_WRITE, cell.source)
            cell.metadata.pop("jupyter", None)  # nothing to fold away
    changed = any(
        a.source != b.source for a, b in zip(student.cells, notebook.cells, strict=True) if a.cell_type == "code"
    )
    return student if changed else None


def execute(notebook: NotebookNode) -> None:
    """Run all cells in notebooks/, in place. Raises CellExecutionError at the first cell that fails."""
    # The kernel must find this very checkout, installed or not, and choose its own plotting backend.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    os.environ.pop("MPLBACKEND", None)
    os.environ["OMP_NUM_THREADS"] = "1"  # sums then have one order, and the numbers do not hang on the machine's cores
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(SOURCES)}},
    )
    client.execute()
    set_metadata(notebook)
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        data.pop(WIDGET, None)  # it lives as long as its kernel; the picture beside it stays
        if "image/png" in data:
            data["image/png"] = base64.b64encode(smaller(base64.b64decode(data["image/png"]))).decode()


def smaller(picture: bytes) -> bytes:
    """A PNG with 64 in place of 256 levels of red, green and blue: no eye sees it, and the file is a third smaller."""
    levels = [round(round(level * 63 / 255) * 255 / 63) for level in range(256)]
    file = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").point(levels * 3).save(file, format="PNG", optimize=True)
    return file.getvalue()


def build(name: str, out: Path) -> str | None:
    """Build one notebook, and its student's version, in `out`. Returns what went wrong; then nothing was written."""
    notebook = convert(SOURCES / f"{name}.py")
    student = student_version(notebook)
    start = time.monotonic()
    try:
        execute(notebook)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return f"{name}.py failed, nothing was written\n{error}"
    seconds = time.monotonic() - start
    if seconds > BUDGET_SECONDS:
        return f"{name}.py took {seconds:.0f} s, nothing was written; a notebook may take {BUDGET_SECONDS} s"
    nbformat.write(notebook, out / f"{name}.ipynb")
    if student is not None:
        (out / "student").mkdir(exist_ok=True)
        nbformat.write(student, out / "student" / f"{name}.ipynb")
    print(f"built {name}.ipynb in {seconds:.0f} s", flush=True)
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the notebooks from their sources.")
    parser.add_argument("names", nargs="*", help="without ending; all of notebooks/ if none is given")
    parser.add_argument("--out", type=Path, default=SOURCES, help="folder for the .ipynb files")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks at a time (default: 2)")
    args = parser.parse_args()
    names = args.names or sorted(path.stem for path in SOURCES.glob("*.py"))
    for name in names:
        if not (SOURCES / f"{name}.py").is_file():
            print(f"build_notebooks: error: there is no {name}.py in notebooks/", file=sys.stderr)
            return 2
    args.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(max(1, args.jobs)) as pool:
        errors = [error for error in pool.map(build, names, [args.out] * len(names)) if error is not None]
    for error in errors:
        print(f"build_notebooks: error: {error}", file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
