"""Write docs/licences.md: the licences of all packages of requirements-pinned.txt, as the installed ones state them.

python tools/write_licences.py    # on Linux, in an environment with all extras, as `make setup` makes it
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
INTRO = """# Licences of the dependencies

What DPNet Lite needs, and what that needs in turn, with the licence that each package's own metadata state. They do not
come with DPNet Lite: pip gets them from their authors. *For* says which extra of `pyproject.toml` names the package
itself (*core*: always there); where it is empty, another package needs it. Versions: `requirements-pinned.txt`, made on
Linux with CUDA. DPNet Lite is under the MIT licence; [NOTICE](../NOTICE) says it of the data that come with it.

*Written by `tools/write_licences.py` (`make pages`).*

| package | for | licence |
|---|---|---|
"""


def plain(name: str) -> str:
    """A package's name as all spell it who index packages."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named() -> dict[str, list[str]]:
    """The packages that pyproject.toml names, each with the extras that do; "core" for none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, list[str]] = {}
    for extra, lines in {"core": project["dependencies"], **project["optional-dependencies"]}.items():
        for line in lines:
            found.setdefault(plain(re.split(r"[^\w.-]", line)[0]), []).append(extra)
    return found


def pinned() -> list[str]:
    """The packages of requirements-pinned.txt: direct and indirect, of all extras."""
    return re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements-pinned.txt").read_text(encoding="utf-8"), re.MULTILINE)


def licence(name: str) -> str:
    """The SPDX expression of an installed package, else its classifiers, else the first line of its licence field."""
    facts = metadata.metadata(name)
    classes = [
        line.rpartition(" :: ")[2] for line in facts.get_all("Classifier") or [] if line.startswith("License ::")
    ]
    field = (facts.get("License") or "").strip().partition("\n")[0]
    stated = facts.get("License-Expression") or "; ".join(classes) or field
    return "not stated" if stated in ("", "UNKNOWN") else stated.replace("|", "/")


def main() -> None:
    extras = named()
    rows = [f"| {name} | {', '.join(extras.get(name, []))} | {licence(name)} |\n" for name in pinned()]
    PAGE.write_text(INTRO + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
