"""Build the website in build/site/html from the repository's own files. Needs the extra `site`, and no network.

    python tools/build_site.py            # the slides, then the site
    python tools/build_site.py --slides   # the slides alone, in build/site/slides

The sources stay where they are: pages, notebooks and pictures are copied with their folders, so that the links between
them hold, and a link to any other file of the repository becomes a download. The notebooks come executed and are not
run again. Where the environment variable GITHUB_REPOSITORY names the repository (a workflow of that host sets it), it
takes the place of OWNER/dpnet-lite. Every warning ends the build.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import slide_deck

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "site"
SOURCE, EXTRA, HTML = BUILD / "source", BUILD / "extra", BUILD / "html"
PLACEHOLDER = "OWNER/dpnet-lite"
# [label](name#anchor): the label may hold brackets, the name is no address of another host.
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\(((?!https?:|mailto:|#)[^)#\s]+)(#[^)\s]*)?\)")
PATTERNS = ("*.md", "benchmarks/README.md", "docs/*.md", "docs/ablations/*/*/report.md", "docs/site/*.md")
CLAIM, QUIZ = re.compile(r"^claim\(", re.MULTILINE), re.compile(r"\A\W*(?:from .*\n\s*)?quiz\(.*\)\s*\Z")
EXPLORER = re.compile(r"^(?:(?:cycle|episode|variants|gallery|correlation)_explorer|live_ablation)\(", re.MULTILINE)
STORED = "*Here it is a picture; [the explorers of this site](../explorers.md) answer without a kernel.*"
CORE = {  # the pages on the core, and the modules on each
    "Network": "model.dpnet model.episode_batch model.prototypes model.matching model.cycle_comparison "
    "model.prototype_interaction model.multi_scale_fusion",
    "Episodes and features": "episodes features",
    "Training": "training losses checkpoints storage.run_folder",
    "Scoring and prediction": "predictor scoring evaluation",
    "Settings and files": "config storage.files",
}
CALLS = (
    "the reduction of both features, the masked average for P, matching and cycle comparison for P_q, prototype "
    "interaction, dense comparison, multi-scale fusion, the decoder; in training the auxiliary branch."
)


def pages() -> list[Path]:
    """The pages of the site and the notebooks, relative to the repository."""
    found = [path for pattern in (*PATTERNS, "notebooks/*.ipynb") for path in sorted(ROOT.glob(pattern))]
    return [path.relative_to(ROOT) for path in found]


def in_site(path: Path) -> Path:
    """Where a file of the repository lies in the site: at the same place, but for those made for the site."""
    return Path(path.name) if path.parts[:2] == ("docs", "site") else path


def linked(text: str, page: Path) -> str:
    """The text of a page with its links made ready for the site; copies what they lead to and is no page."""
    known, folder = set(pages()), in_site(page).parent

    def follow(match: re.Match[str]) -> str:
        sign, label, name, anchor = match[1], match[2], match[3], match[4] or ""
        target = (ROOT / page.parent / name).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return match[0]  # Sphinx complains
        if target.is_dir():
            return label
        path = target.relative_to(ROOT)
        new = Path(os.path.relpath(in_site(path), folder)).as_posix()
        if path in known:
            return f"[{label}]({new}{anchor})"
        (SOURCE / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, SOURCE / path)
        return f"![{label}]({new})" if sign else f"{{download}}`{label.replace('`', '')} <{new}>`"

    return LINK.sub(follow, text).replace(PLACEHOLDER, os.environ.get("GITHUB_REPOSITORY", PLACEHOLDER))


def copy_page(page: Path) -> None:
    """Copy a page of text, or a notebook: hidden sources are folded, and it offers itself as a file."""
    target = SOURCE / in_site(page)
    target.parent.mkdir(parents=True, exist_ok=True)
    if page.suffix == ".md":
        text = linked((ROOT / page).read_text(encoding="utf-8"), page)
        alone = "---\norphan: true\n---\n\n" if "ablations" in page.parts else ""  # reached from the results
        target.write_text(alone + text, encoding="utf-8")
        return
    notebook = nbformat.read(ROOT / page, as_version=4)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, page)
            continue
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden") or CLAIM.search(cell.source)
        tag = "remove-input" if QUIZ.search(cell.source) else "hide-input" if hidden else None
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), *([tag] if tag else [])]
        if EXPLORER.search(cell.source):
            cells.append(nbformat.v4.new_markdown_cell(STORED))
    notebook.cells = cells
    first = notebook.cells[0]
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{downloads(page)}\n{rest}"
    nbformat.write(notebook, target)


def downloads(page: Path) -> str:
    """A line that offers a lesson's notebook and its student's version as files."""
    offered = []
    for name, path in (("the notebook", page), ("the student's version", page.parent / "student" / page.name)):
        if (ROOT / path).exists():
            copy = Path("files") / path.relative_to("notebooks")
            (SOURCE / copy).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, SOURCE / copy)
            offered.append(f"{{download}}`{name} <../{copy.as_posix()}>`")
    line = f"*Download {' and '.join(offered)}.*"
    repository = os.environ.get("GITHUB_REPOSITORY")
    if repository is None:
        return line
    binder = f"https://mybinder.org/v2/gh/{repository}/HEAD?urlpath=lab/tree/{page.as_posix()}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{page.as_posix()}"
    return (
        f"{line} *Open it in [Binder]({binder}) or [Colab]({colab}), with [two lines](../README.md#elsewhere) first.*"
    )


def write_api() -> None:
    """A page for each part of the core, made from its docstrings."""
    (SOURCE / "api").mkdir(parents=True)
    names, index = [], []
    for title, modules in CORE.items():
        index.append(f"\n**{title}**\n")
        names.append(title.lower().replace(" ", "_"))
        parts = [f"# {title}\n"]
        for module in modules.split():
            index.append(f"- `{module}`: {summary(module)}")
            parts.append(f"## `{module}`\n\n```{{eval-rst}}\n.. automodule:: dpnet_lite.{module}\n```\n")
        (SOURCE / "api" / f"{names[-1]}.md").write_text("\n".join(parts), encoding="utf-8")
    intro = "# The core\n\n`DPNet.forward` calls, in this order: " + CALLS + "\n"
    toctree = "\n\n```{toctree}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"
    (SOURCE / "api" / "index.md").write_text(intro + "\n".join(index) + toctree, encoding="utf-8")


def summary(module: str) -> str:
    """The first sentence of a module's docstring."""
    text = (ROOT / "dpnet_lite" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ")


def sphinx(builder: str, settings: Path, source: Path, target: Path) -> None:
    """Run Sphinx in a process of its own, in which a warning is an error; what it says is shown where it fails."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", builder, "-c", str(settings)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DPNET_LITE_SITE_EXTRA": str(EXTRA)}
    subprocess.run([*command, str(source), str(target)], check=True, env=environment)


def build_slides() -> Path:
    """Build the deck; returns its folder."""
    source, target = BUILD / "slides_source", BUILD / "slides"
    for folder in (source, target):
        shutil.rmtree(folder, ignore_errors=True)
    slide_deck.write(source)
    sphinx("revealjs", ROOT / "docs" / "slides", source, target)
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the website.")
    parser.add_argument("--slides", action="store_true", help="build the slides alone")
    options = parser.parse_args()
    begin = time.monotonic()
    slides = build_slides()
    made = slides / "lecture.html"
    if not options.slides:
        import site_explorers  # only here: the slides need no network of ours

        for folder in (SOURCE, EXTRA, HTML):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(slides, EXTRA / "slides", ignore=shutil.ignore_patterns(".doctrees", ".buildinfo"))
        for page in pages():
            copy_page(page)
        write_api()
        with (SOURCE / "explorers.md").open("a", encoding="utf-8") as file:
            file.write(site_explorers.write(EXTRA / "explorers"))
        sphinx("html", ROOT / "docs" / "site", SOURCE, HTML)
        made = HTML / "index.html"
    print(f"{made.relative_to(ROOT)}: {time.monotonic() - begin:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
