"""How large and how tangled the package is, of any checkout: a table with a column for each.

    python tools/measure_house.py                    # this checkout
    python tools/measure_house.py ../before .        # two checkouts side by side, named as given
    python tools/measure_house.py --json FILE        # the same numbers for another program
    python tools/measure_house.py --read-only        # without the two rows that run the package

What is counted:

- lines: of .py files, empty ones too. Test code: all .py files under tests/.
- modules on the top shelf: .py files directly in dpnet_lite/, without __init__.py.
- public names: `def`, `class` and `NAME = ...` at the top level of a module, without a leading underscore (several
  names bound by unpacking are not counted).
- chain: modules that import one another at import time, counted in modules; imports inside functions and those for
  type checkers are left out. Circles: groups of modules that reach one another, by the same imports; and again with
  those left out, which run later or never but tie the modules together all the same.
- files that a training passes through: those outside the command line in which a named function of the package is
  called while `train` runs on a small folder of images, after its arguments are parsed. Lambdas, comprehensions and
  bodies of classes do not count. The backbone is one of torchvision's, with random weights.
- help: processor time of `python -m dpnet_lite --help`, as a share of that of `python -c "import torch"`; the median of
  several pairs, taken in turn.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx  # torch brings it

PACKAGE = "dpnet_lite"
HELP_PAIRS = 5
GOALS = {
    "lines directly in dpnet_lite/ and model/": 2600,
    "files there": 24,
    "modules directly in dpnet_lite/": 14,
    "lines of the package": 13000,
    "lines of test code": 11500,
    "public names": 450,
    "longest import chain": 10,
    "circles": 0,
    "circles, with imports inside functions": 0,
    "files that `train` on a folder passes through": 18,
    "time of `dpnet-lite --help`, as a share of `import torch`": 0.2,
}

# Run by the other checkout's package, in a process of its own. Prints the files as one line of JSON, at the end.
TRAINING = r"""
import argparse, importlib, json, sys
from pathlib import Path
import numpy as np
from PIL import Image

tree, folder = Path(sys.argv[1]).resolve() / "dpnet_lite", Path(sys.argv[2])
rng = np.random.default_rng(0)
for name in ("images", "masks"):
    (folder / "data" / name).mkdir(parents=True)
(folder / "data/classes.txt").write_text("".join(f"class {number}\n" for number in range(8)))
for number in range(48):
    labels = np.zeros((64, 64), np.uint8)
    labels[16:48, 16:48] = number % 8 + 1
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / f"data/images/{number:02}.png")
    Image.fromarray(labels).save(folder / f"data/masks/{number:02}.png")

entry = "dpnet_lite.cli.main" if (tree / "cli").is_dir() else "dpnet_lite.cli"
main = importlib.import_module(entry).main
assert Path(sys.modules[entry].__file__).is_relative_to(tree), f"{entry} is that of another checkout"
called = set()


def note(frame, event, argument):
    code = frame.f_code
    named = not code.co_name.startswith("<") and code.co_flags & 2  # CO_NEWLOCALS: a function, not the body of a class
    if event == "call" and named and code.co_filename.startswith(str(tree)):
        called.add(str(Path(code.co_filename).relative_to(tree)))


parse_args = argparse.ArgumentParser.parse_args


def parse_and_begin(*arguments, **named):
    parsed = parse_args(*arguments, **named)
    called.clear()
    sys.setprofile(note)
    return parsed


argparse.ArgumentParser.parse_args = parse_and_begin
options = ["--backbone", "mobilenet_v2", "--backbone-weights", "random", "--size", "64", "--steps", "4"]
options += ["--threads", "1", "--model", "channels=8", "--training", "batch_size=2", "--cache", str(folder / "cache")]
status = main(["train", "--data", f"folder:{folder / 'data'}", *options, "--out", str(folder / "head.safetensors")])
sys.setprofile(None)
assert status == 0, f"the training ended with {status}"
print(json.dumps(sorted(called)))
"""


def lines(paths: Iterator[Path] | list[Path]) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)


def public_names(path: Path) -> list[str]:
    """The names that a module defines for others."""
    names: list[str] = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.append(node.target.id)
    return [name for name in names if not name.startswith("_")]


def module_name(path: Path, tree: Path) -> str:
    return ".".join(path.relative_to(tree).with_suffix("").parts).removesuffix(".__init__")


def import_graph(tree: Path, *, every: bool) -> networkx.DiGraph:
    """An edge from each module of the package to each that it imports; `every`: not only when it is imported itself."""
    paths = {module_name(path, tree): path for path in sorted((tree / PACKAGE).rglob("*.py"))}
    graph = networkx.DiGraph()
    graph.add_nodes_from(paths)
    for name, path in paths.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in imports(ast.parse(path.read_text(encoding="utf-8")), every):
            graph.add_edges_from((name, target) for target in imported(node, package, paths) if target != name)
    return graph


def imports(node: ast.AST, every: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements below a node; if not `every`, without those in functions and under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif every or not (
            isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
        ):
            yield from imports(child, every)


def imported(node: ast.Import | ast.ImportFrom, package: str, modules: dict[str, Path]) -> set[str]:
    """The modules of ours that a statement in a module of `package` imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in modules}
    base = node.module or ""
    if node.level:  # relative: one dot is the package itself
        parts = package.split(".")
        base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
    found = {name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names}
    return found & modules.keys()


def circles(graph: networkx.DiGraph) -> list[list[str]]:
    return [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]


def longest_chain(graph: networkx.DiGraph) -> list[str]:
    """A longest chain of imports; a circle counts as one link."""
    whole = networkx.condensation(graph)
    return [min(whole.nodes[number]["members"]) for number in networkx.dag_longest_path(whole)]


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}


def training_files(tree: Path) -> list[str]:
    """The files that a training passes through, without those of the command line."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", TRAINING, str(tree), folder]
        done = subprocess.run(command, cwd=folder, env=environment(tree), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the training in {tree} failed:\n{done.stderr[-2000:]}")
    return [name for name in json.loads(done.stdout.splitlines()[-1]) if not re.match(r"cli\b|cli_|__main__", name)]


def processor_seconds(command: list[str], tree: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=tree, env=environment(tree), stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def help_share(tree: Path) -> float:
    """Processor time of `--help` as a share of that of importing torch."""
    shown, torch = [], []
    for _ in range(HELP_PAIRS):
        shown.append(processor_seconds([sys.executable, "-m", PACKAGE, "--help"], tree))
        torch.append(processor_seconds([sys.executable, "-c", "import torch"], tree))
    return statistics.median(shown) / statistics.median(torch)


def measure(tree: Path, *, read_only: bool = False) -> dict[str, Any]:
    """The numbers of one checkout, by the names of GOALS; under "details" what stands behind some of them."""
    tree = tree.resolve()
    files = sorted((tree / PACKAGE).rglob("*.py"))
    if not files:
        raise FileNotFoundError(f"there is no {PACKAGE}/ in {tree}: give the root of a checkout")
    core = [path for path in files if path.parent in (tree / PACKAGE, tree / PACKAGE / "model")]
    graph = import_graph(tree, every=False)
    later = circles(import_graph(tree, every=True))
    chain = longest_chain(graph)
    numbers: list[float] = [
        lines(core),
        len(core),
        sum(path.parent == tree / PACKAGE and path.name != "__init__.py" for path in files),
        lines(files),
        lines((tree / "tests").rglob("*.py")),
        sum(len(public_names(path)) for path in files),
        len(chain),
        len(circles(graph)),
        len(later),
    ]
    details: dict[str, Any] = {"chain": chain, "circles": circles(graph), "circles inside functions": later}
    if not read_only:
        details["training"] = training_files(tree)
        numbers += [len(details["training"]), round(help_share(tree), 3)]
    return dict(zip(GOALS, numbers, strict=False)) | {"details": details}


def table(columns: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row for each number, a column for each checkout, and the goal."""
    rows = [["", *columns, "at most"], ["---"] * (len(columns) + 2)]
    for name, goal in GOALS.items():
        if all(name in numbers for numbers in columns.values()):
            rows.append([name, *(f"{numbers[name]:,}" for numbers in columns.values()), f"{goal:,}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the package in one or several checkouts.")
    parser.add_argument("trees", nargs="*", type=Path, default=[Path(__file__).resolve().parents[1]])
    parser.add_argument("--json", type=Path, help="write the numbers, and what stands behind them, to this file")
    parser.add_argument("--read-only", action="store_true", help="leave out the two rows that run the package")
    args = parser.parse_args()
    columns = {tree.name or str(tree): measure(tree, read_only=args.read_only) for tree in args.trees}
    print(table(columns))
    if args.json:
        args.json.write_text(json.dumps(columns, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
