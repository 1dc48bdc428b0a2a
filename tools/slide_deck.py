"""The slides of the lecture: docs/slides/lecture.md with the figures and claims of the executed lessons put in.

    <!-- picture: 03_cycle_comparison | Forward, backward | 2 -->   the second picture below that heading
    <!-- claim: 03_cycle_comparison -->                             the lesson's claim box
    <!-- table: README.md | photographs -->                         what stands between its markers

A picture is found by words of its alternative text, or by words of the `##` heading above it and its number below that
heading (1 where none is given). What is not found ends the build.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import NamedTuple

import nbformat

ROOT = Path(__file__).resolve().parents[1]
DECK = ROOT / "docs" / "slides" / "lecture.md"
PLACE = re.compile(r"^<!-- (picture|claim|table): (.+?) -->$", flags=re.MULTILINE)
KINDS = {"image/png": "png", "image/jpeg": "jpg"}
IMAGE = re.compile(r"(!\[[^]]*\])\((\.\./\.\./[^)]+)\)")


class Picture(NamedTuple):
    """A picture in a lesson's outputs."""

    heading: str
    number: int  # below its heading, from 1
    alt: str
    ending: str
    data: bytes


def pictures(notebook: nbformat.NotebookNode) -> list[Picture]:
    """The pictures of a notebook's outputs in order."""
    found: list[Picture] = []
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            heading = (re.findall(r"^##? (.+)$", cell.source, flags=re.MULTILINE) or [heading])[-1]
        for output in cell.get("outputs", []):
            for kind in KINDS.keys() & set(output.get("data", {})):
                number = 1 + sum(picture.heading == heading for picture in found)
                alt = output.metadata.get(kind, {}).get("alt", "")
                found.append(Picture(heading, number, alt, KINDS[kind], base64.b64decode(output.data[kind])))
    return found


def find_picture(notebook: nbformat.NotebookNode, key: str, number: int = 1) -> Picture:
    """The picture with the key in its alternative text, else the one of that number below a heading that holds the key.

    Raises:
        KeyError: there is no such picture.
    """
    found = pictures(notebook)
    by_text = [picture for picture in found if key.lower() in picture.alt.lower()]
    below = [picture for picture in found if key.lower() in picture.heading.lower() and picture.number == number]
    for picture in by_text + below:
        return picture
    raise KeyError(f"there is no picture {number} for {key!r}; change the key in {DECK.name}")


def find_claim(notebook: nbformat.NotebookNode) -> str:
    """The HTML of the lesson's claim box.

    Raises:
        KeyError: it has none.
    """
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        page = output.get("data", {}).get("text/html", "")
        if 'class="claim"' in page:
            return str(page)
    raise KeyError("the lesson has no claim box")


def find_table(text: str, name: str) -> str:
    """The lines between the markers of a table.

    Raises:
        KeyError: there is none of that name.
    """
    match = re.search(rf"<!-- begin: {re.escape(name)}.*?-->\n(.*?)<!-- end", text, flags=re.DOTALL)
    if match is None:
        raise KeyError(f"there is no table between markers {name!r}")
    return match[1]


def write(folder: Path) -> None:
    """Write lecture.md with everything put in, and its pictures, into a new folder.

    Raises:
        KeyError: a picture, claim or table is gone; the message names the line of the deck.
    """
    (folder / "pictures").mkdir(parents=True)

    def put(match: re.Match[str]) -> str:
        kind, (name, *keys) = match[1], [part.strip() for part in match[2].split("|")]
        try:
            if kind == "table":
                return find_table((ROOT / name).read_text(encoding="utf-8"), keys[0])
            notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
            if kind == "claim":
                return "```{raw} html\n" + find_claim(notebook) + "\n```"
            picture = find_picture(notebook, keys[0], *map(int, keys[1:]))
        except KeyError as error:
            raise KeyError(f"{match[0]}: {error.args[0]}") from None
        file = f"pictures/{name}_{len(list((folder / 'pictures').iterdir())):02d}.{picture.ending}"
        (folder / file).write_bytes(picture.data)
        return f"![{picture.alt or picture.heading}]({file})"

    def bring(match: re.Match[str]) -> str:
        source = (DECK.parent / match[2]).resolve()
        (folder / "pictures" / source.name).write_bytes(source.read_bytes())
        return f"{match[1]}(pictures/{source.name})"

    text = IMAGE.sub(bring, PLACE.sub(put, DECK.read_text(encoding="utf-8")))
    (folder / "lecture.md").write_text(text, encoding="utf-8")
    (folder / "index.md").write_text("# Slides\n\n```{toctree}\nlecture\n```\n", encoding="utf-8")
