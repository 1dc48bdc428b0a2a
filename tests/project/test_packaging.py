"""The files around the package agree with each other, and the core needs the core's dependencies alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import write_licences
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image
from places import ROOT

from dpnet_lite.datasets.toy import ToyWorld

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "ray": "ray-core"}
# Not on conda-forge under its own name: environment.yml leaves these to pip.
LEFT_TO_PIP = {"lightning-fabric", "playwright", "sphinx-revealjs", "sphinx-mathjax-offline"}
BOUNDED_ABOVE = {"myst-nb", "pytest"}  # for the reasons beside them in pyproject.toml
# Modules whose job is to draw or to show: they alone may import what BLOCKED names.
DRAWING_MODULES = (
    "dpnet_lite.experiments.plots",
    "dpnet_lite.course.explorers",
    "dpnet_lite.ablation.figures",
)
BLOCKED = ("matplotlib", "seaborn", "ipywidgets", "ipyevents", "sklearn", "IPython", "pandas")
LARGEST_FILE = 2 * 1024 * 1024  # bytes
# At most so many bytes together: data of the package, of these the weights, the wheel, all that is committed.
LARGEST = {"data": 16_000_000, "weights": 10_000_000, "wheel": 20_000_000, "repository": 40_000_000}

# In pieces, so that this file does not hold what it looks for.
MACHINE_ROOTS = "content|etc|home|kaggle|media|mnt|opt|private|root|srv|tmp|usr|Users|var|Volumes|work|workspace"
ABSOLUTE_PATH = re.compile(rf"(?<![\w.~$)}}\]/+=%!-])/(?:{MACHINE_ROOTS})/[\w.]|\b[A-Za-z]:\\{{1,2}}Users\b".encode())
INDEX_ADDRESS = re.compile(
    rb"pypi\.org/simple|pythonhosted\.org|download\.pytorch\.org/whl|(?:conda|repo)\.anaconda\.(?:org|com)"
    rb"|--(?:extra-)?index(?:-)url|--default(?:-)index|--find(?:-)links"
)


def declared_requirements() -> dict[str, SpecifierSet]:
    """Every requirement of pyproject.toml, core and extras, by canonical name."""
    lines = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        lines += extra
    requirements: dict[str, SpecifierSet] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        assert requirements.setdefault(name, requirement.specifier) == requirement.specifier, (
            f"{name} has two ranges in pyproject.toml"
        )
    return requirements


def pinned_versions() -> dict[str, str]:
    """Name and version of every line of requirements-pinned.txt."""
    pins: dict[str, str] = {}
    for line in (ROOT / "requirements-pinned.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==([0-9][\w.]*)", line)
            assert match, f"requirements-pinned.txt: {line!r} is not of the form name==version"
            assert match[1] not in pins, f"requirements-pinned.txt: {match[1]} is named twice"
            pins[match[1]] = match[2]
    return pins


def environment_requirements() -> tuple[dict[str, SpecifierSet], dict[str, SpecifierSet], list[str]]:
    """What environment.yml takes from conda and from pip, and its channels (parses this one file only)."""
    conda: dict[str, SpecifierSet] = {}
    pip: dict[str, SpecifierSet] = {}
    channels: list[str] = []
    section = ""
    for line in (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines():
        item = line.strip().removeprefix("- ")
        if line and not line.startswith((" ", "#")):
            section = line.partition(":")[0]
        elif section == "channels":
            channels.append(item)
        elif section == "dependencies" and item not in ("pip", "pip:", "-e .") and not item.startswith("#"):
            requirement = Requirement(item)
            (pip if line.startswith("      ") else conda)[requirement.name] = requirement.specifier
    return conda, pip, channels


def committed_files() -> list[Path]:
    """The files that git holds or would take, relative to the project's root."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    names = sorted({os.fsdecode(name) for name in listing.split(b"\0") if name})
    return [Path(name) for name in names if (ROOT / name).is_file()]


def core_modules() -> list[str]:
    """Dotted names of all modules but those that draw."""
    names = []
    for path in sorted((ROOT / "dpnet_lite").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(DRAWING_MODULES) and not name.endswith(".__main__"):
            names.append(name)
    return names


def run_with_blocked_imports(statements: str) -> subprocess.CompletedProcess[str]:
    """Runs statements in a new Python that finds none of the packages of BLOCKED, as if not installed."""
    # The finder on sys.meta_path is filtered, not preceded by one that raises: torch asks find_spec whether
    # pandas is there, and a missing package answers that with None.
    program = f"""
from importlib.machinery import PathFinder

def find_spec(name, *rest, original=PathFinder.find_spec):
    return None if name.partition(".")[0] in {BLOCKED!r} else original(name, *rest)

PathFinder.find_spec = find_spec
{statements}
"""
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)


def test_environment_and_pyproject_are_in_step() -> None:
    conda, pip, channels = environment_requirements()
    assert channels == ["conda-forge", "nodefaults"]
    declared = declared_requirements()
    expected = {CONDA_NAMES.get(name, name): ranges for name, ranges in declared.items()}
    assert pip == {name: expected.pop(name) for name in LEFT_TO_PIP}
    assert conda == {**expected, "python": SpecifierSet(PROJECT["requires-python"])}
    assert "      - -e .\n" in (ROOT / "environment.yml").read_text(encoding="utf-8")


def test_pins_lie_in_the_declared_ranges() -> None:
    pins = pinned_versions()
    for name, ranges in declared_requirements().items():
        assert name in pins, f"requirements-pinned.txt lacks {name}"
        assert pins[name] in ranges, f"{name}=={pins[name]} is outside {ranges}"


def test_the_licence_of_every_package_is_listed() -> None:
    page = write_licences.PAGE.read_text(encoding="utf-8")
    _, *rows = re.findall(r"^\| ([a-z0-9-]+) \| (.*?) \| (.+) \|$", page, re.MULTILINE)
    pins = pinned_versions()
    assert [name for name, *_ in rows] == list(pins), "run `make pages`"
    assert {name for name, extras, _ in rows if extras} == declared_requirements().keys()
    for row in [("pillow", "core", "MIT-CMU"), ("scipy", "", "BSD License"), ("protobuf", "", "3-Clause BSD License")]:
        assert any(row[0] == name and row[1] in extras and row[2] == stated for name, extras, stated in rows), row
    for name, _, stated in rows:
        with suppress(PackageNotFoundError):  # on another system, or without an extra
            assert version(name) != pins[name] or stated == write_licences.licence(name), f"{name}: run `make pages`"


def test_requirements_are_ranges_without_upper_pins() -> None:
    for name, ranges in declared_requirements().items():
        wanted = {">=", "<"} if name in BOUNDED_ABOVE else {">="}
        assert {part.operator for part in ranges} == wanted, f"{name}{ranges} should be one lower bound"


def test_the_import_block_blocks() -> None:
    for name in BLOCKED:
        result = run_with_blocked_imports(f"import {name}")
        assert result.returncode != 0, f"{name} was imported in spite of the block"
        assert f"No module named '{name}'" in result.stderr


def test_core_imports_without_drawing_and_analysis_packages() -> None:
    modules = core_modules()
    assert "dpnet_lite" in modules
    statements = "\n".join(f"import {name}" for name in modules)
    result = run_with_blocked_imports(f"{statements}\nprint('all imported')")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "all imported\n"  # and importing prints nothing of its own


def test_every_folder_of_the_package_is_a_package() -> None:
    for path in (ROOT / "dpnet_lite").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent.relative_to(ROOT)} lacks __init__.py"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("open('/" + "home/ann/data.png')", ABSOLUTE_PATH),
        ('"/' + 'tmp/ipykernel_1/2.py:3: UserWarning"', ABSOLUTE_PATH),
        ("C:" + "\\Users\\ann", ABSOLUTE_PATH),
        ("pip install --index" + "-url x", INDEX_ADDRESS),
        ("https://pypi.org" + "/simple", INDEX_ADDRESS),
    ],
)
def test_the_patterns_find_what_they_should(text: str, pattern: re.Pattern[bytes]) -> None:
    assert pattern.search(text.encode())


@pytest.mark.parametrize("text", ["../shared/photos", "#!/usr/bin/env bash", "a/tmp/b", "fg/bg", "~/" + "work/x"])
def test_relative_paths_are_no_absolute_paths(text: str) -> None:
    assert not ABSOLUTE_PATH.search(text.encode())


def test_committed_files_hold_no_absolute_path_no_index_address_and_are_small() -> None:
    findings = []
    for path in committed_files():
        content = (ROOT / path).read_bytes()
        if len(content) > LARGEST_FILE:
            findings.append(f"{path}: {len(content)} bytes, more than {LARGEST_FILE}")
        for pattern, what in [(ABSOLUTE_PATH, "absolute path"), (INDEX_ADDRESS, "package index address")]:
            for match in pattern.finditer(content):
                line = content.count(b"\n", 0, match.start()) + 1
                findings.append(f"{path}:{line}: {what} {match[0].decode(errors='replace')!r}")
    assert not findings, "\n".join(findings)


def size(paths: Sequence[Path]) -> int:
    return sum((ROOT / path).stat().st_size for path in paths)


def package_data() -> list[Path]:
    return [path for path in committed_files() if path.parts[0] == "dpnet_lite" and path.suffix != ".py"]


def told_apart(files: Sequence[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files that no pattern names, and patterns that name no file; a star stands for any text."""
    unnamed = [name for name in files if not any(fnmatchcase(name, pattern) for pattern in patterns)]
    return unnamed, [pattern for pattern in patterns if not any(fnmatchcase(name, pattern) for name in files)]


def test_notice_names_every_file_of_data_and_nothing_else() -> None:
    patterns = re.findall(r"^dpnet_lite/\S+$", (ROOT / "NOTICE").read_text(encoding="utf-8"), flags=re.MULTILINE)
    files = [path.as_posix() for path in package_data()]
    assert told_apart(files, patterns) == ([], []) and len(patterns) > 5
    planted = "dpnet_lite/weights/found_somewhere.safetensors"
    assert told_apart([*files, planted], [*patterns, "dpnet_lite/gone/*"]) == ([planted], ["dpnet_lite/gone/*"])


def test_what_is_shipped_and_committed_stays_small() -> None:
    data = package_data()
    assert size(data) <= LARGEST["data"]
    assert 0 < size([path for path in data if path.parent.name == "weights"]) <= LARGEST["weights"]
    assert size(committed_files()) < LARGEST["repository"]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the package from a wheel and nothing else of the repository; the other packages are those here."""
    source, home = tmp_path / "source", tmp_path / "home"
    for path in committed_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    shutil.rmtree(source)
    return home


SEGMENTS = """
import json
from dpnet_lite.datasets import objects
from dpnet_lite.predictor import Predictor

(support, mask), (query, truth) = objects()[0], objects()[1]
predictor = Predictor.load("photographs").set_support([support], [mask == 1])
print(json.dumps([predictor.predict(query).mask.tolist(), truth.tolist()]))
"""


@pytest.mark.slow
def test_a_wheel_works_far_from_the_repository(installed: Path, tmp_path: Path) -> None:
    where = tmp_path / "elsewhere"
    where.mkdir()
    own = {"PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(tmp_path / "cache"), "MPLBACKEND": "agg"}

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=where, env={**os.environ, **own}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert Path(python("-c", "import dpnet_lite; print(dpnet_lite.__file__)").strip()).is_relative_to(installed)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= LARGEST["wheel"]
    (notice,) = installed.glob("*.dist-info/**/NOTICE")
    assert notice.read_bytes() == (ROOT / "NOTICE").read_bytes()
    mask, truth = json.loads(python("-c", SEGMENTS))
    found, truth = np.array(mask) == 1, np.array(truth) == 1
    assert found.shape == truth.shape == (384, 384)
    assert (found & truth).sum() / (found | truth).sum() > 0.5

    (entry,) = installed.glob("*.dist-info/entry_points.txt")
    assert "dpnet-lite = dpnet_lite.cli.main:main" in entry.read_text()

    small = ["--steps", "50", "--episodes", "40", "--shots", "1", "--threads", "1"]
    assert "| DPNet" in python("-m", "dpnet_lite", "demo", *small, "--out", "demo")
    assert {"episodes.png", "photographs.png"} <= {path.name for path in (where / "demo").rglob("*.png")}

    world = ToyWorld(2, seed=0)
    for number, (image, labels) in enumerate(world[index] for index in range(2)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(where / f"{number}.png")
        Image.fromarray((labels == labels.max()).numpy().astype(np.uint8)).save(where / f"mask{number}.png")
    weights = installed / "dpnet_lite" / "weights" / "toy_fold0.safetensors"
    support = ["--support", "0.png", "mask0.png"]
    python("-m", "dpnet_lite", "predict", "1.png", "--checkpoint", str(weights), *support, "--out", "masks")
    assert list((where / "masks").glob("*.png"))

    lesson = (ROOT / "notebooks" / "03_cycle_comparison.py").read_text(encoding="utf-8")
    imports = "\n".join(re.findall(r"^(?:import|from) [^(\n]*(?:\([^)]*\))?", lesson, flags=re.MULTILINE))
    assert "dpnet_lite.course" in imports
    python("-c", imports)
