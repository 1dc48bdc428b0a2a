"""Every notebook is in step with its source, executed, clean and small; and it still runs."""

from __future__ import annotations

import base64
import importlib.util
import io
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from places import ROOT
from test_packaging import ABSOLUTE_PATH

from dpnet_lite.checkpoints import shipped_head

jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed (extra: notebooks)")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra: notebooks)")

NOTEBOOKS = ROOT / "notebooks"
QUIZZES = ROOT / "dpnet_lite" / "course" / "quizzes"
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


KINDS = ("write", "predict, then run", "explain", "break it on purpose")
EXERCISE = re.compile(rf"(.+)\.(\d+): .+ \(({'|'.join(KINDS)}), (easy|medium|hard), (\d+) minutes\)")


def test_exercises_have_a_kind_hints_and_a_check_or_an_answer_and_a_third_asks_for_thought() -> None:
    every = []
    for name in NAMES:
        cells, kinds = build_notebooks.convert(NOTEBOOKS / f"{name}.py").cells, []
        for text in (cell.source for cell in cells if cell.cell_type == "markdown"):
            for title in re.findall(r"^### Exercise (.+)$", text, flags=re.MULTILINE):
                match = EXERCISE.fullmatch(title)
                assert match and match[1] == (name.split("_")[0].lstrip("0") or "0"), title
                assert int(match[2]) == len(kinds) + 1, title
                kinds.append(match[3])
                assert text.count("<summary>Hint") == 2, f"{title}: two hints stand in its cell"
        assert len(kinds) >= 2, name
        tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
        checks = tags.count("check")
        solutions = sum(cell.source.count("# BEGIN SOLUTION") for cell in cells if cell.cell_type == "code")
        assert solutions - tags.count("build") == checks >= kinds.count("write"), name
        answers = sum(cell.source.count("<summary>Answer") for cell in cells)
        assert answers >= len(kinds) - checks, f"{name}: a prediction or an explanation has its answer, folded"
        every += kinds
    assert every.count("write") <= 2 / 3 * len(every)


# A student's notebook runs in another folder than the lesson: neither may read by a path from where it stands.
RELATIVE = re.compile(r"""["'](\.\.?/|(docs|figures|dpnet_lite|notebooks|tests)/)""")


@pytest.mark.parametrize("name", NAMES)
def test_a_lesson_is_short_of_code_folds_its_drawing_and_ends_with_a_claim_and_a_quiz(name: str) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        drawing = [line for line in lines if re.search(r"\b(axes|axis|figure|grid|plt)\b", line)]
        folded = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert not RELATIVE.search(cell.source), f"a relative path: {lines[0]}"
        assert len(lines) <= 30, f"a cell of {len(lines)} lines: {lines[0]}"
        assert len(drawing) <= 10 or folded, f"{len(drawing)} lines of drawing are not folded: {lines[0]}"
        for output in cell.outputs:
            assert len(output.get("text", "").splitlines()) <= 30, "prints more than a page"
            for kind in {"image/png", "image/jpeg"} & set(output.get("data", {})):
                assert len(output.metadata[kind]["alt"]) >= 20, "a picture lacks its alternative text"
    claims = [cell for cell in code if re.search(r"^claim\(", cell.source, flags=re.MULTILINE)]
    assert len(claims) == 1 and "assert " in claims[0].source, "one claim, asserted in its cell"
    assert code[-1].source.strip().endswith(f'quiz("{name.split("_")[0]}")')


@pytest.mark.parametrize("name", NAMES)
def test_a_quiz_has_five_questions_each_with_one_right_answer_and_every_option_explained(name: str) -> None:
    text = (QUIZZES / f"{name.split('_')[0]}.toml").read_text(encoding="utf-8")
    questions = tomllib.loads(text)["question"]
    assert len(questions) == 5
    for question in questions:
        assert len(question["option"]) >= 3 and [o.get("right", False) for o in question["option"]].count(True) == 1
        assert all(len(option["why"]) >= 20 for option in question["option"]), question["text"]
    places = [[o.get("right", False) for o in question["option"]].index(True) for question in questions]
    assert len(set(places)) > 1, "the right answer is not always at the same place"


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


@NEEDS_HEAD
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(path.stem, marks=pytest.mark.xdist_group(f"student {path.stem}"))
        for path in sorted((NOTEBOOKS / "student").glob("*.ipynb"))
    ],
)
def test_a_students_notebook_with_its_solutions_runs_from_its_own_folder(name: str) -> None:
    student = nbformat.read(NOTEBOOKS / "student" / f"{name}.ipynb", as_version=4)
    notebook = build_notebooks.filled(student, build_notebooks.convert(NOTEBOOKS / f"{name}.py"))
    assert "your lines go here" not in nbformat.writes(notebook)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's helpers
        build_notebooks.execute(notebook, NOTEBOOKS / "student")  # raises at the first cell that fails
    checks = [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]
    assert all("is right" in cell.outputs[0].data["text/plain"] for cell in checks)


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
    the first code cell (the imports), what an exercise is given (a tag), the exercises and the checks are run.
    """
    code = [cell for cell in student.cells if cell.cell_type == "code"]
    exercises = [cell for cell in code if "raise NotImplementedError" in cell.source]
    exercises = [cell for cell in exercises if "build" not in cell.metadata.get("tags", [])]  # later cells need these
    checks = [cell for cell in code if "check" in cell.metadata.get("tags", [])]
    found = []
    for name in (name for cell in exercises for name in re.findall(r"^def (\w+)", cell.source, flags=re.MULTILINE)):
        users = [cell for cell in code if re.search(rf"\b{name}\b", cell.source)]
        if [cell for cell in users if cell not in exercises and cell not in checks]:
            found.append(f"{name} is an exercise, but is used outside of its check")
        if not [cell for cell in users if cell in checks]:
            found.append(f"{name} has no check")
    namespace: dict[str, Any] = {}
    given = [code[0], *(cell for cell in code if "given" in cell.metadata.get("tags", []))]
    for cell in (cell for cell in code if cell in given or cell in exercises or cell in checks):
        error = None
        try:
            with matplotlib.rc_context():  # a lesson's letters are not those of the tests after it
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


def as_png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def test_pictures_are_made_smaller_without_a_visible_change() -> None:
    drawing = np.full((200, 300, 3), 255, dtype=np.uint8)
    drawing[20:60, 30:200], drawing[90:150, 60:90] = (0, 114, 178), (213, 94, 0)
    kind, small = build_notebooks.smaller(as_png(drawing))
    assert kind == "image/png" and (np.array(Image.open(io.BytesIO(small)).convert("RGB")) == drawing).all()
    photograph = np.array(Image.open(sorted((ROOT / "dpnet_lite" / "objects" / "images").glob("*"))[0]).convert("RGB"))
    kind, small = build_notebooks.smaller(as_png(photograph))
    error = np.abs(np.array(Image.open(io.BytesIO(small)).convert("RGB")).astype(int) - photograph)
    assert kind == "image/jpeg" and len(small) < 0.6 * len(as_png(photograph)) and error.mean() < 3


@pytest.mark.parametrize(
    ("alt", "widget", "complaint"),
    [
        (["two discs"], False, None),
        ([], True, None),  # an explorer brings its own
        ([], False, "cell 3 shows a picture without"),
        (["a", "b"], False, "texts, but no pictures, for ['b']"),
    ],
)
def test_every_picture_needs_its_alternative_text(alt: list[str], widget: bool, complaint: str | None) -> None:
    data = {"image/png": base64.b64encode(as_png(np.zeros((9, 9, 3), np.uint8))).decode(), "text/plain": "two discs"}
    data |= {build_notebooks.WIDGET: {}} if widget else {}
    output = nbformat.v4.new_output("display_data", data)
    cell = nbformat.v4.new_code_cell("", metadata={"alt": alt}, outputs=[output])
    if complaint is not None:
        with pytest.raises(ValueError, match=re.escape(complaint)):
            build_notebooks.finish_pictures(cell, "cell 3")
        return
    build_notebooks.finish_pictures(cell, "cell 3")
    assert cell.outputs[0].metadata["image/png"]["alt"] == "two discs"
    assert build_notebooks.WIDGET not in cell.outputs[0].data
