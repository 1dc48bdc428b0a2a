"""Build notebooks/NAME.ipynb from notebooks/NAME.py: convert, run in a fresh kernel, write with outputs.

    python tools/build_notebooks.py                 # all of them, in place
    python tools/build_notebooks.py 00_start_here   # some of them
    python tools/build_notebooks.py --out FOLDER    # elsewhere, leaving the committed ones alone

A notebook may take BUDGET_SECONDS of processor time, its kernel's and that of the kernel's child processes: a busy
machine makes it wait, not fail. One that hangs is ended after HANG_SECONDS in one cell.

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
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
BUDGET_SECONDS = 90  # of processor time, for a whole notebook
HANG_SECONDS = 1800  # by the clock, for one cell
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n.*?^ *# END SOLUTION$", flags=re.DOTALL | re.MULTILINE)
# Run last in every kernel: its processor seconds and its children's, ended and running. ipykernel brings psutil.
MEASURE = """
import os, psutil
ended = sum(os.times()[:4])
print(ended + sum(sum(child.cpu_times()[:4]) for child in psutil.Process().children(recursive=True)))
"""
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
    folders go one folder further up: the student's notebooks lie one deeper.
    """
    student = copy.deepcopy(notebook)
    for cell in student.cells:
        cell.source = cell.source.replace("](../", "](../../")
        if cell.cell_type == "code":
            written = SOLUTION.sub(TO_WRITE, cell.source)
            if written != cell.source:
                cell.source = written
                cell.metadata.pop("jupyter", None)  # nothing to fold away
    changed = any(
        a.source != b.source for a, b in zip(student.cells, notebook.cells, strict=True) if a.cell_type == "code"
    )
    return student if changed else None


def filled(student: NotebookNode, solved: NotebookNode) -> NotebookNode:
    """A student's version in which every exercise has the lesson's solution; nothing else is changed."""
    notebook = copy.deepcopy(student)
    for cell, answer in zip(notebook.cells, solved.cells, strict=True):
        if cell.cell_type == "code" and "raise NotImplementedError" in cell.source:
            cell.source = answer.source
    return notebook


def execute(notebook: NotebookNode, folder: Path | None = None) -> float:
    """Run all cells in a folder, by default notebooks/, in place. Returns the processor seconds that this took.

    Raises CellExecutionError at the first cell that fails, ValueError where a picture lacks its alternative text.
    """
    # The kernel must find this very checkout, installed or not, and choose its own plotting backend.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    os.environ.pop("MPLBACKEND", None)
    os.environ["OMP_NUM_THREADS"] = "1"  # sums then have one order, and the numbers do not hang on the machine's cores
    client = NotebookClient(
        notebook,
        timeout=HANG_SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder or SOURCES)}},
    )
    notebook.cells.append(nbformat.v4.new_code_cell(MEASURE))
    client.execute()
    seconds = float(notebook.cells.pop().outputs[0].text)
    set_metadata(notebook)
    for number, cell in enumerate(notebook.cells):
        finish_pictures(cell, f"cell {number}")
    return seconds


def finish_pictures(cell: NotebookNode, where: str) -> None:
    """Make a cell's pictures small, and give each its alternative text, in place.

    The texts stand in the cell's metadata, `# %% alt=["...", ...]`, one per picture; an explorer brings its own, which
    is its text/plain. Raises ValueError where their numbers differ.
    """
    texts = list(cell.metadata.get("alt", []))
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        of_widget = data.pop(WIDGET, None) is not None  # it lives as long as its kernel; the picture beside it stays
        if "image/png" in data:
            kind, picture = smaller(base64.b64decode(data.pop("image/png")))
            data[kind] = base64.b64encode(picture).decode()
            text = data.get("text/plain", "") if of_widget else texts.pop(0) if texts else ""
            if not text:
                raise ValueError(f"{where} shows a picture without an alternative text")
            output["metadata"] = {kind: {"alt": text}}
    if texts:
        raise ValueError(f"{where} has alternative texts, but no pictures, for {texts}")


def smaller(picture: bytes) -> tuple[str, bytes]:
    """The mime type and bytes of the smallest form of a PNG in which no eye sees a change.

    A drawing fits into 256 colours. A photograph becomes a JPEG, or a PNG with 64 levels of each colour.
    """
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = image.quantize(256, dither=Image.Dither.NONE)
    errors = np.abs(np.asarray(few.convert("RGB")).astype(int) - np.asarray(image)).max(axis=2)
    if np.quantile(errors, 0.99) <= 8:
        return "image/png", _file(few, format="PNG", optimize=True)
    levels = [round(round(level * 63 / 255) * 255 / 63) for level in range(256)]
    as_png = _file(image.point(levels * 3), format="PNG", optimize=True)
    as_jpeg = _file(image, format="JPEG", quality=90, subsampling=0, optimize=True)
    return ("image/jpeg", as_jpeg) if len(as_jpeg) < len(as_png) else ("image/png", as_png)


def _file(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, **options)
    return file.getvalue()


def build(name: str, out: Path) -> tuple[float, str | None]:
    """Build one notebook, and its student's version, in `out`.

    Returns the processor seconds, and what went wrong; then nothing was written.
    """
    notebook = convert(SOURCES / f"{name}.py")
    student = student_version(notebook)
    try:
        seconds = execute(notebook)
    except (CellExecutionError, CellTimeoutError, DeadKernelError, ValueError) as error:
        return 0.0, f"{name}.py failed, nothing was written\n{error}"
    if seconds > BUDGET_SECONDS:
        taken = f"{seconds:.0f} s of processor time"
        return seconds, f"{name}.py took {taken}, nothing was written; a notebook may take {BUDGET_SECONDS} s"
    nbformat.write(notebook, out / f"{name}.ipynb")
    if student is not None:
        (out / "student").mkdir(exist_ok=True)
        nbformat.write(student, out / "student" / f"{name}.ipynb")
    return seconds, None


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
    errors = 0
    with ProcessPoolExecutor(max(1, args.jobs)) as pool:
        running = {pool.submit(build, name, args.out): name for name in names}
        for number, job in enumerate(as_completed(running), start=1):
            seconds, error = job.result()
            if error is None:
                print(f"[{number}/{len(names)}] {running[job]}.ipynb: {seconds:.0f} s of processor time", flush=True)
            else:
                errors += 1
                print(f"build_notebooks: error: {error}", file=sys.stderr, flush=True)
    return 1 if errors else 0


if __name__ == "__main__":
    raise SystemExit(main())
