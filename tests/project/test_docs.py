"""What the documents say of the package is so: settings and their defaults, commands, links."""

from __future__ import annotations

import pkgutil
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import write_robustness
from places import ROOT

from dpnet_lite.cli.main import COMMANDS, build_parser
from dpnet_lite.config import ModelConfig

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "SECURITY.md",
    *(
        path
        for pattern in ("docs/*.md", "notebooks/*.py", "notebooks/student/*.ipynb")
        for path in sorted(ROOT.glob(pattern))
    ),
]
PAGES = [*DOCUMENTS[:2], *sorted(ROOT.glob("docs/*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def anchors(path: Path) -> set[str]:
    """The anchors that a code host makes of a Markdown file's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_method_page_lists_every_switch_with_its_default() -> None:
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8").partition("## Switches")[2].partition("\n## ")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", text, flags=re.MULTILINE))
    config = ModelConfig()
    assert listed == {field.name: repr(getattr(config, field.name)) for field in fields(ModelConfig)}


def test_commands_of_the_readme_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("my_photos", "PATH", "data/pascal"):
        Path(folder).mkdir(parents=True)
    commands = re.findall(r"^(?:python -m dpnet_lite|dpnet-lite) (.+)$", README, flags=re.MULTILINE)
    assert {command.split()[0] for command in commands} == COMMANDS.keys() - {"pretrain"}
    for command in commands:
        build_parser().parse_args(shlex.split(command))


def test_make_demo_replaces_its_own_run_alone() -> None:
    """It replaces what is there, and once did so in the folder that `dpnet-lite demo` writes to by itself."""
    command = re.search(r"-m dpnet_lite (demo .+)", (ROOT / "Makefile").read_text(encoding="utf-8"))[1]
    args = build_parser().parse_args(shlex.split(command))
    assert args.overwrite and args.out != build_parser().parse_args(["demo"]).out and f"`{args.out}/`" in README


def test_options_and_targets_of_the_readme_exist() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "dpnet_lite").glob("*/*.py"))
    not_ours = {"--help", "--nproc-per-node"}  # the second is torchrun's
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - not_ours:
        assert f'"{option}"' in sources, option
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([\w-]+)`", "".join(page.read_text(encoding="utf-8") for page in PAGES))):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_yes_of_the_feature_table_names_what_shows_it() -> None:
    """Our column says yes: the last one names tests or files that exist, or a target of make."""
    table = README.partition("<!-- features begin -->")[2].partition("<!-- features end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    assert len(rows) > 15
    n_notebooks = len(list((ROOT / "notebooks").glob("*.ipynb")))
    assert ["notebooks", str(n_notebooks)] in [row[:2] for row in rows]
    for name, ours, *_, shown in rows:
        places = re.findall(r"`(.+?)`", shown)
        assert bool(places) == (ours not in ("**no**", "")), name
        assert all(place.startswith("make ") or (ROOT / place).exists() for place in places), name


def test_every_promise_names_the_tests_that_hold_it() -> None:
    table = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("|---|---|\n")[2].partition("\n\n")[0]
    for line in table.splitlines():
        tests = re.findall(r"`(tests/[\w/]+\.py)`<br>`(test_\w+)`", line)
        assert tests, line
        for file, test in tests:
            assert f"\ndef {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_what_tests_were_told_is_shown_as_it_is() -> None:
    """No group of pytest-xdist in a name, nothing of a message taken as Markdown or HTML."""
    nodes = [f"tests/a/test_b.py::test_{name}" for name in ("c_d@b.py", "e[x@y-<lambda>]@b.py", "e[x@y]")]
    records = [{"node": node, "kind": "ValueError", "message": "it is '__x__'|2*3*4"} for node in nodes]
    text, told = write_robustness.page(records), r"ValueError: it is '\_\_x\_\_'\|2\*3\*4 | `tests/a/test_b.py` |"
    assert "3 rows of 2 tests" in text
    assert all(f"\n| {case} | {told}\n" in text for case in ("c d", "e (x@y-&lt;lambda&gt;)", "e (x@y)"))


@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "protocols"], ids=lambda path: path.name)
def test_paths_that_pages_name_exist(page: Path) -> None:
    """Of the package's files and folders, with or without its name in front, and of the repository's.

    The page on protocols also names files of other repositories.
    """
    for name in re.findall(r"`([\w./-]+(?:\.py|\.toml|/))`", page.read_text(encoding="utf-8")):
        mine = name.startswith(("outputs/", "images/", "masks/", "my_")) or "NN" in name  # the reader's own
        assert mine or (ROOT / name).exists() or (ROOT / "dpnet_lite" / name).exists(), name


def test_the_page_on_the_house_answers_eight_questions() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## Where do I change ...")[2].partition("\n\nA new switch")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    questions = ["selection rule", "data set", "backbone", "loss", "study", "lesson", "explorer", "command"]
    assert [re.findall(r"\*\*(.+?)\*\*", row[0]) for row in rows] == [[question] for question in questions]
    for what, files, test in rows:
        assert (ROOT / test.strip("`")).is_file(), test
        for file, names in re.findall(r"`([\w/]+\.py)` \((`\w+`(?: and `\w+`)*)", files):
            path = ROOT / file if (ROOT / file).exists() else ROOT / "dpnet_lite" / file
            for name in re.findall(r"`(\w+)`", names):
                assert re.search(rf"\b{name}\b", path.read_text(encoding="utf-8")), (what, file, name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_dotted_names_lead_to_what_they_name(document: Path) -> None:
    for name in set(re.findall(r"\bdpnet_lite(?:\.[A-Za-z_]\w*)+", document.read_text(encoding="utf-8"))):
        assert name.endswith(".py") or pkgutil.resolve_name(name), name  # raises where there is none


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_internal_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{document.name} links to {target}"


def test_spelling() -> None:
    places = [*PAGES[:2], "docs", "notebooks", "dpnet_lite", "tools", "tests", "Makefile", "pyproject.toml"]
    command = [sys.executable, "-m", "codespell_lib", "--skip", "*.ipynb,*.json,*.safetensors,*.pyc", *places]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_slip_of_the_pen_is_found(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("The " + "t" + "eh class.\n")
    command = [sys.executable, "-m", "codespell_lib", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0 and "==> the" in result.stdout
