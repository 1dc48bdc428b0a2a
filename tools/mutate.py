"""Change the code in small ways, one at a time, see which changes the tests notice, and write docs/mutations.md.

python tools/mutate.py [PART ...]    # parts of tools/mutations.toml, else all, which takes an hour; the rest is kept

A survivor has a reason there: a pattern of it as the page prints it. One without ends the tool with status 1. What was
killed before is not tried again where its function is the same: delete build/mutations to begin anew.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SCRATCH, PAGE = ROOT / "build/mutations", ROOT / "docs/mutations.md"
SURVIVED = (0, 33, None)  # mutmut's codes: passed, no test, not run
PLAN = tomllib.loads((ROOT / "tools/mutations.toml").read_text(encoding="utf-8"))


def without_decorators(source: str) -> str:
    """The same functions, decorated by an assignment behind them, for mutmut leaves others out; none keeps a cache."""
    lines = source.splitlines()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for node in sorted(nodes, key=lambda node: -node.lineno):
        names = [ast.unparse(decorator) for decorator in node.decorator_list]
        if len(names) == 1 and names[0] != "classmethod":
            assigned = f"{' ' * node.col_offset}{node.name} = {names[0]}({node.name})"
            lines[node.end_lineno : node.end_lineno] = [] if "lru_cache" in names[0] else [assigned]
            del lines[node.decorator_list[0].lineno - 1 : node.lineno - 1]
    return "\n".join([*lines, ""])


def mutate(part: str) -> dict[str, Any]:
    """Run one part in a copy: how many mutants there are, and the survivors, each with its change."""
    copy, files = SCRATCH / part.replace(" ", "_"), [f"dpnet_lite/{file}" for file in PLAN["parts"][part]["files"]]
    for name in ("dpnet_lite", "tests", "tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    for file in files:
        (copy / file).write_text(without_decorators((ROOT / file).read_text(encoding="utf-8")), encoding="utf-8")
    tests = [f"tests/{test}" for test in PLAN["parts"][part]["tests"]]
    for name, more in (("pyproject.toml", PLAN["settings"].format(files=files, tests=tests)), ("README.md", "")):
        (copy / name).write_text((ROOT / name).read_text(encoding="utf-8") + more, encoding="utf-8")
    metas = [copy / f"mutants/{file}.meta" for file in files]
    for path in [path for path in metas if path.exists()]:
        known = json.loads(path.read_text())
        known["exit_code_by_key"] = {
            m: code if code not in SURVIVED else None for m, code in known["exit_code_by_key"].items()
        }
        path.write_text(json.dumps(known))
    (copy / "mutants/mutmut-stats.json").unlink(missing_ok=True)  # which tests call what
    subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", "1"], cwd=copy, check=True)
    os.chdir(copy)  # mutmut reads its settings there
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    n, survivors = 0, []
    for file, path in zip(files, metas, strict=True):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        n += len(codes)
        for mutant in [name for name, code in codes.items() if code in SURVIVED]:
            changed = [
                f"{line[0]} {line[1:].strip()}" for line in get_diff_for_mutant(mutant, path=file).splitlines()[2:]
            ]
            function = re.sub(r"^x_?ǁ?|__mutmut_\d+$", "", mutant.rpartition(".")[2]).replace("ǁ", ".")
            survivors.append("\n".join([f"# {function}", *(line for line in changed if line[0] in "-+")]))
    return {"mutants": n, "survivors": survivors}


def page(results: dict[str, Any]) -> str:
    rows, grouped = [], {reason: [] for reason in [*PLAN["reasons"], "No reason yet"]}
    for part, result in results.items():
        n, survivors = result["mutants"], result["survivors"]
        files = ", ".join(f"`{file}`" for file in PLAN["parts"][part]["files"])
        rows.append(f"| {part} | {files} | {n} | {n - len(survivors)} | {100 * (1 - len(survivors) / n):.1f} % |\n")
        for survivor in survivors:
            reasons = [r for r, patterns in PLAN["reasons"].items() if any(re.search(p, survivor) for p in patterns)]
            grouped[[*reasons, "No reason yet"][0]].append(survivor)
    diffs = ["\n".join([f"\n## {name}\n\n```diff", *each, "```\n"]) for name, each in grouped.items() if each]
    return "".join([PLAN["intro"], *rows, *diffs])


if __name__ == "__main__":
    if not find_spec("mutmut"):
        sys.exit("mutmut is missing: `pip install --target build/mutmut mutmut`, then set PYTHONPATH=build/mutmut")
    for part in sys.argv[1:] or PLAN["parts"]:
        (SCRATCH / f"{part}.json").write_text(json.dumps(mutate(part)))
    kept = {part: SCRATCH / f"{part}.json" for part in PLAN["parts"]}
    text = page({part: json.loads(file.read_text()) for part, file in kept.items() if file.exists()})
    PAGE.write_text(text, encoding="utf-8")
    sys.exit("## No reason yet" in text)
