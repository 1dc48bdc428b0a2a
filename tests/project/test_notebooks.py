"""Every notebook is in step with its source, executed, clean and small; and it still runs."""

from __future__ import annotations

import importlib.util
import io
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from places import ROOT
from test_packaging import ABSOLUTE_PATH

from dpnet_lite.checkpoints import shipped_head
from dpnet_lite.datasets.toy import ToyWorld

jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed (extra: notebooks)")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra: notebooks)")

NOTEBOOKS = ROOT / "notebooks"
_spec = importlib.util.spec_from_file_location("build_notebooks", ROOT / "tools" / "build_notebooks.py")
build_notebooks: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build_notebooks)
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.py"))
LARGEST_NOTEBOOK = 1_500_000  # bytes
NEEDS_HEAD = pytest.mark.skipif(
    not all(shipped_head(fold).is_file() for fold in range(4)), reason="the trained heads are not in dpnet_lite/weights"
)


def problems(source: str, built: str) -> list[str]:
    """What is wrong with a built notebook (.ipynb text), given its source (py:percent text)."""
    wanted, notebook = jupytext.reads(source, fmt="py:percent"), nbformat.reads(built, as_version=4)
    found = []
    if [(c.cell_type, c.source) for c in wanted.cells] != [(c.cell_type, c.source) for c in notebook.cells]:
        found.append("out of step with its source: run `make notebooks`")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("not executed in order, from a fresh kernel")
    outputs = [output for cell in code for output in cell.outputs]
    if any(output.output_type == "error" for output in outputs):
        found.append("holds an error")
    if any(output.output_type == "stream" and output.name == "stderr" for output in outputs):
        found.append("holds a warning or other text on stderr")
    if any("[FAIL]" in output.get("text", "") for output in outputs):
        found.append("was built where its own environment check failed")
    if ABSOLUTE_PATH.search(built.encode()):
        found.append("holds an absolute path")
    if "widgets" in notebook.metadata or any("execution" in cell.metadata for cell in notebook.cells):
        found.append("holds metadata of the run")
    if len(built.encode()) > LARGEST_NOTEBOOK:
        found.append(f"is larger than {LARGEST_NOTEBOOK} bytes")
    return found


def test_sources_and_notebooks_come_in_pairs() -> None:
    assert "00_start_here" in NAMES
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_in_step_executed_and_clean(name: str) -> None:
    source, built = NOTEBOOKS / f"{name}.py", NOTEBOOKS / f"{name}.ipynb"
    assert problems(source.read_text(encoding="utf-8"), built.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", NAMES)
def test_student_version_is_in_step_without_solutions_or_outputs(name: str) -> None:
    source, student = NOTEBOOKS / f"{name}.py", NOTEBOOKS / "student" / f"{name}.ipynb"
    wanted = build_notebooks.student_version(build_notebooks.convert(source))
    assert student.exists() == (wanted is not None) == ("# BEGIN SOLUTION" in source.read_text(encoding="utf-8"))
    if wanted is not None:
        assert student.read_text(encoding="utf-8") == nbformat.writes(wanted) + "\n", "run `make notebooks`"
        assert "SOLUTION" not in student.read_text(encoding="utf-8")
        assert not any(cell.get("outputs") for cell in wanted.cells)


def test_solutions_are_taken_out_and_nothing_else() -> None:
    text = "def f(x):\n    # BEGIN SOLUTION\n    y = x\n    return y\n    # END SOLUTION\n\n\nprint(f(1))"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(text, metadata={"jupyter": {"source_hidden": True}}),
            nbformat.v4.new_markdown_cell("[a](../docs/a.md) and [b](b.ipynb)"),
        ]
    )
    student = build_notebooks.student_version(notebook)
    assert student.cells[0].source == 'def f(x):\n    raise NotImplementedError("your lines go here")\n\n\nprint(f(1))'
    assert student.cells[0].metadata == {} and notebook.cells[0].source == text
    assert student.cells[1].source == "[a](../../docs/a.md) and [b](b.ipynb)"
    assert build_notebooks.student_version(nbformat.v4.new_notebook(cells=notebook.cells[1:])) is None


def test_every_lesson_has_two_exercises_each_with_difficulty_minutes_and_check() -> None:
    for path in NOTEBOOKS.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        titles = re.findall(r"^# ### Exercise (.+)$", text, flags=re.MULTILINE)
        assert len(titles) >= 2 or path.stem == "00_start_here", path.name
        for number, title in enumerate(titles, start=1):
            assert re.fullmatch(rf"{int(path.name[:2])}\.{number}: .+ \((easy|medium|hard), \d+ minutes\)", title), (
                title
            )
        assert text.count("# BEGIN SOLUTION") == text.count('tags=["check"]') == len(titles), path.name


SOURCE = "# %% [markdown]\n# Text\n\n# %%\nprint(1)\n\n# %%\nprint(2)\n"


def example() -> Any:
    """A notebook of SOURCE as an error-free run leaves it."""
    notebook = jupytext.reads(SOURCE, fmt="py:percent")
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"{number}\n")]
    return notebook


def first_output(notebook: Any, *, of: int = 1, **new: Any) -> None:
    notebook.cells[of].outputs = [nbformat.v4.new_output(**new)]


DAMAGE: dict[str, tuple[Any, str]] = {
    "other code": (lambda notebook: notebook.cells[1].update(source="print(3)"), "out of step"),
    "other text": (lambda notebook: notebook.cells[0].update(source="Other text"), "out of step"),
    "run twice": (lambda notebook: notebook.cells[1].update(execution_count=2), "in order"),
    "not run": (lambda notebook: notebook.cells[2].update(execution_count=None), "in order"),
    "error": (lambda notebook: first_output(notebook, output_type="error", ename="ValueError"), "an error"),
    "warning": (lambda notebook: first_output(notebook, output_type="stream", name="stderr"), "a warning"),
    "failed check": (lambda notebook: notebook.cells[1].outputs[0].update(text="[FAIL] torch\n"), "environment check"),
    "path": (lambda notebook: notebook.cells[1].outputs[0].update(text="/" + "home/ann/a\n"), "absolute path"),
    "times": (lambda notebook: notebook.cells[1].metadata.update(execution={"idle": "2022-02-22"}), "metadata"),
    "widgets": (lambda notebook: notebook.metadata.update(widgets={}), "metadata"),
    "size": (lambda notebook: notebook.cells[1].outputs[0].update(text="x" * LARGEST_NOTEBOOK), "larger"),
}


def test_a_good_notebook_has_no_problems() -> None:
    assert problems(SOURCE, nbformat.writes(example())) == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_problem_is_found(damage: str) -> None:
    notebook, (do, complaint) = example(), DAMAGE[damage]
    do(notebook)
    (found,) = problems(SOURCE, nbformat.writes(notebook))
    assert complaint in found


QUICK = ("00_start_here", "10_your_own_images")  # run by `make test`; `make test-all` runs every notebook


@NEEDS_HEAD
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.xdist_group(name), *([] if name in QUICK else [pytest.mark.slow])])
        for name in NAMES
    ],
)
def test_a_notebook_runs_within_its_budget_and_builds_clean(name: str, tmp_path: Path) -> None:
    """The one place where notebooks are executed: each once, in a process of its own, which sees no test's settings."""
    command = [sys.executable, str(ROOT / "tools" / "build_notebooks.py"), name, "--out", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"{name}\.ipynb: \d+ s of processor time", result.stdout)
    built = (tmp_path / f"{name}.ipynb").read_text(encoding="utf-8")
    assert problems((NOTEBOOKS / f"{name}.py").read_text(encoding="utf-8"), built) == []


BUSY = "# %%\nimport time\nend = time.process_time() + 3\nwhile time.process_time() < end:\n    pass\n"


@pytest.mark.parametrize(
    ("source", "budget", "complaint"),
    [
        ("# %%\n1 / 0\n", 90, "failed, nothing was written\n.*ZeroDivisionError"),
        (BUSY, 2.6, r"took \d+ s of processor time, nothing was written; a notebook may take 2\.6 s"),
        (f"# %%\nimport subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\n", 2.6, "took"),
        ("# %%\nimport time\ntime.sleep(5)\n", 4.5, None),  # waiting is not work
    ],
    ids=["broken", "busy", "a busy child", "waits"],
)
def test_a_notebook_that_fails_or_works_too_long_is_told(
    source: str, budget: float, complaint: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_notebooks, "SOURCES", tmp_path)
    monkeypatch.setattr(build_notebooks, "BUDGET_SECONDS", budget)
    (tmp_path / "lesson.py").write_text(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's helpers
        seconds, error = build_notebooks.build("lesson", tmp_path)
    if complaint is None:
        assert error is None and 0 < seconds < budget and (tmp_path / "lesson.ipynb").exists()
    else:
        assert re.search(complaint, error, re.DOTALL) and list(tmp_path.glob("*.ipynb")) == []


def exercise_problems(student: Any) -> list[str]:
    """What is wrong with the exercises of a student's version, run as plain Python.

    Each check must refuse the unwritten exercise with `Wrong`, and no other cell may need the learner's function. Only
    the first code cell (the imports), the exercises and the checks are run.
    """
    code = [cell for cell in student.cells if cell.cell_type == "code"]
    exercises = [cell for cell in code if "raise NotImplementedError" in cell.source]
    checks = [cell for cell in code if "check" in cell.metadata.get("tags", [])]
    found = []
    for name in (name for cell in exercises for name in re.findall(r"^def (\w+)", cell.source, flags=re.MULTILINE)):
        users = [cell for cell in code if re.search(rf"\b{name}\b", cell.source)]
        if [cell for cell in users if cell not in exercises and cell not in checks]:
            found.append(f"{name} is an exercise, but is used outside of its check")
        if not [cell for cell in users if cell in checks]:
            found.append(f"{name} has no check")
    namespace: dict[str, Any] = {}
    for cell in (cell for cell in code if cell is code[0] or cell in exercises or cell in checks):
        error = None
        try:
            exec(re.sub(r"^%.*$", "", cell.source, flags=re.MULTILINE), namespace)
        except Exception as caught:
            error = type(caught).__name__
        if error != ("Wrong" if cell in checks else None):
            found.append(f"the cell that ends with {cell.source.splitlines()[-1]!r} gives {error or 'no error'}")
    return found


@NEEDS_HEAD
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name[:2] in ("05", "10") else [pytest.mark.slow]) for name in NAMES]
)
def test_every_check_refuses_the_unwritten_exercise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    student = build_notebooks.student_version(build_notebooks.convert(NOTEBOOKS / f"{name}.py"))
    if student is not None:
        monkeypatch.setenv("MPLBACKEND", "agg")
        assert exercise_problems(student) == []


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [([], None), (["my_f(2)"], "used outside of its check"), (["check(my_g)"], "gives no error")],
)
def test_faults_of_exercises_are_found(cells: list[str], complaint: str | None) -> None:
    start = (
        "class Wrong(Exception): ...\ndef my_g(x): return x\n"
        "def check(f):\n    try:\n        f(1)\n    except NotImplementedError:\n        raise Wrong from None"
    )
    code, check = nbformat.v4.new_code_cell, {"tags": ["check"]}
    student = nbformat.v4.new_notebook(
        cells=[
            code(start),
            code("def my_f(x):\n    raise NotImplementedError"),
            code("check(my_f)", metadata=check),
            *(code(text, metadata=check if "check" in text else {}) for text in cells),
        ]
    )
    found = exercise_problems(student)
    assert (found == []) if complaint is None else (len(found) == 1 and complaint in found[0])


def test_pictures_are_made_smaller_without_a_visible_change() -> None:
    scene = ToyWorld(1, seed=0)[0].image.permute(1, 2, 0).numpy()  # [3, H, W] -> [H, W, 3]
    before = scene.repeat(3, axis=0).repeat(3, axis=1)
    before[:5], before[5:10] = 255, 0
    file = io.BytesIO()
    Image.fromarray(before).save(file, format="PNG")
    given = build_notebooks.smaller(file.getvalue())
    after = np.array(Image.open(io.BytesIO(given)))
    assert np.abs(after.astype(int) - before).max() <= 3 and len(given) < 0.85 * len(file.getvalue())
    assert (after[:5] == 255).all() and (after[5:10] == 0).all()
    assert given == build_notebooks.smaller(given)  # a second build changes nothing
