"""Build notebooks/NAME.ipynb from notebooks/NAME.py: convert, run in a fresh kernel, write with outputs.

    python tools/build_notebooks.py                 # all of them, in place
    python tools/build_notebooks.py 00_start_here   # some of them
    python tools/build_notebooks.py --out FOLDER    # elsewhere, leaving the committed ones alone

What would differ from one run to the next (cell ids, times, the Python's version) is fixed or left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "notebooks"
CELL_SECONDS = 120  # a cell that takes longer is an error


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


def execute(notebook: NotebookNode) -> None:
    """Run all cells in notebooks/, in place. Raises CellExecutionError at the first cell that fails."""
    # The kernel must find this very checkout, installed or not, and choose its own plotting backend.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    os.environ.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(SOURCES)}},
    )  # fmt: skip
    client.execute()
    set_metadata(notebook)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the notebooks from their sources.")
    parser.add_argument("names", nargs="*", help="without ending; all of notebooks/ if none is given")
    parser.add_argument("--out", type=Path, default=SOURCES, help="folder for the .ipynb files")
    args = parser.parse_args()
    for name in args.names or sorted(path.stem for path in SOURCES.glob("*.py")):
        source = SOURCES / f"{name}.py"
        if not source.is_file():
            print(f"build_notebooks: error: there is no {name}.py in notebooks/", file=sys.stderr)
            return 2
        notebook = convert(source)
        try:
            execute(notebook)
        except CellExecutionError as error:
            print(f"build_notebooks: error: {name}.py failed, nothing was written\n{error}", file=sys.stderr)
            return 1
        args.out.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, args.out / f"{name}.ipynb")
        print(f"built {name}.ipynb")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
