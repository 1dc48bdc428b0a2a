"""The slides of the lecture: docs/slides/lecture.md with the figures and claims of the executed lessons put in.

    <!-- picture: 03_cycle_comparison | Forward, backward | 2 -->   the second picture below that heading
    <!-- picture: 03_cycle_comparison | what the plain cycle keeps | row 1 of 2 -->   of it, one row alone
    <!-- figure: figures/photographs.jpg | Three rows of photographs | row 1 of 3 -->   a file of the repository
    <!-- claim: 03_cycle_comparison -->                             the first sentence of the lesson's claim box
    <!-- whole claim: 08_inside_the_selection | AUC -->             its text, without sentences that say AUC
    <!-- number: 03_cycle_comparison | in its place changes mIoU by -->   the number behind a pattern in the claim
    <!-- table: README.md | ablation table | PIM, with CCM -->      what stands between its markers: these rows alone

A picture is found by words of its alternative text, or by words of the `##` heading above it and its number below that
heading (1 where none is given). What is not found ends the build. How large a picture is follows from what else is on
its slide.
"""

from __future__ import annotations

import base64
import html
import re
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DECK = ROOT / "docs" / "slides" / "lecture.md"
PLACE = re.compile(r"<!-- (picture|figure|claim|whole claim|number|table): (.+?) -->")
VALUE = r"[+-]?\d+(?:\.\d+)?(?: \[[^]]*\])?"  # and its interval
ROWS = re.compile(r"rows? (\d+)(?:-(\d+))? of (\d+)")
SHOWN = re.compile(r"^!\[[^]]*\]\([^)]+\)$", flags=re.MULTILINE)
KINDS = {"image/png": "png", "image/jpeg": "jpg"}


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
        KeyError: there is no such picture, or more than one.
    """
    found = pictures(notebook)
    by_text = [picture for picture in found if key.lower() in picture.alt.lower()]
    below = [picture for picture in found if key.lower() in picture.heading.lower() and picture.number == number]
    matches = by_text or below
    if len(matches) != 1:
        raise KeyError(
            f"there are {len(matches)} pictures {number} for {key!r}, not one; change the key in {DECK.name}"
        )
    return matches[0]


def find_claim(notebook: nbformat.NotebookNode) -> str:
    """The plain text of the lesson's claim box, without "What was found.".

    Raises:
        KeyError: it has none.
    """
    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        page = output.get("data", {}).get("text/html", "")
        if 'class="claim"' in page:
            return html.unescape(re.sub(r"<[^>]+>", "", page)).strip().removeprefix("What was found.").strip()
    raise KeyError("the lesson has no claim box")


def find_number(claim: str, before: str) -> str:
    """The number with its interval that stands behind the pattern in a claim.

    Raises:
        KeyError: there is none, or more than one.
    """
    found = re.findall(rf"{before}\s*({VALUE})", claim)
    if len(found) != 1:
        raise KeyError(f"{len(found)} numbers stand behind {before!r} in the claim; there should be one")
    return str(found[0])


def crop(data: bytes, first: int, last: int, count: int) -> bytes:
    """Some rows of a picture of several, as PNG; the cuts are moved to the lightest line of pixels near by."""
    image = Image.open(BytesIO(data)).convert("RGB")
    light = np.asarray(image.convert("L"), dtype=float).mean(axis=1)  # [H]
    near = image.height // (6 * count)

    def cut(k: int) -> int:
        middle = k * image.height // count
        begin = max(0, middle - near)
        return middle if k in (0, count) else begin + int(light[begin : middle + near].argmax())

    out = BytesIO()
    image.crop((0, cut(first - 1), image.width, cut(last))).save(out, format="PNG")
    return out.getvalue()


def find_table(text: str, name: str, rows: list[str]) -> str:
    """The lines between the markers of a table; only those that begin with the given cells, where any are given.

    Raises:
        KeyError: there is none of that name, or no such row.
    """
    match = re.search(rf"<!-- begin: {re.escape(name)}.*?-->\n(.*?)<!-- end", text, flags=re.DOTALL)
    if match is None:
        raise KeyError(f"there is no table between markers {name!r}")
    lines = match[1].strip().splitlines()
    by_name = {line.strip("|").partition("|")[0].strip(): line for line in lines}
    if set(rows) - by_name.keys():
        raise KeyError(f"table {name!r} has no row {sorted(set(rows) - by_name.keys())}")
    return "\n".join([*lines[:2], *(by_name[row] for row in rows)] if rows else lines)


def sized(slide: str) -> str:
    """A slide with a class on its picture: large where it is alone, small beside a list."""
    body = re.sub(r"<aside.*?</aside>|<!--.*?-->|^#[^\n]*$", "", slide, flags=re.DOTALL | re.MULTILINE)
    rest = SHOWN.sub("", body).strip()
    small = re.search(r"^(- |\d\. )|class=.small", rest, flags=re.MULTILINE)
    size = "large" if not rest else "small" if small else "beside-question" if 'class="ask"' in rest else "medium"
    return SHOWN.sub(lambda match: f"{match[0]}{{.{size}}}", slide)


def made(folder: Path, kind: str, name: str, keys: list[str]) -> str:
    """What takes the place of a comment; pictures are written into the folder.

    Raises:
        KeyError: it is gone.
    """
    if kind == "table":
        return find_table((ROOT / name).read_text(encoding="utf-8"), keys[0], keys[1:])
    rows = ROWS.fullmatch(keys[-1]) if keys else None
    keys = keys[:-1] if rows else keys
    if kind == "figure":
        source = ROOT / name
        picture = Picture("", 1, keys[0], source.suffix[1:], source.read_bytes())
    else:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        if kind == "number":
            return find_number(find_claim(notebook), keys[0])
        if kind == "claim":
            return f'<p class="claim">{html.escape(re.split("[.:] ", find_claim(notebook))[0])}.</p>'
        if kind == "whole claim":
            sentences = re.split(r"(?<=[.)]) (?=[A-Z(])", find_claim(notebook))
            return html.escape(" ".join(one for one in sentences if not any(key in one for key in keys)))
        picture = find_picture(notebook, keys[0], *map(int, keys[1:]))
    ending = "png" if rows else picture.ending
    file = f"pictures/{len(list((folder / 'pictures').iterdir())):02d}_{Path(name).stem}.{ending}"
    data = crop(picture.data, int(rows[1]), int(rows[2] or rows[1]), int(rows[3])) if rows else picture.data
    (folder / file).write_bytes(data)
    return f"![{picture.alt or picture.heading}]({file})"


def write(folder: Path) -> None:
    """Write lecture.md with everything put in, and its pictures, into a new folder.

    Raises:
        KeyError: a picture, claim, number or table is gone; the message names the line of the deck.
    """
    (folder / "pictures").mkdir(parents=True)

    def put(match: re.Match[str]) -> str:
        name, *keys = (part.strip() for part in match[2].split("|"))
        try:
            return made(folder, match[1], name, keys)
        except KeyError as error:
            raise KeyError(f"{match[0]}: {error.args[0]}") from None

    text = PLACE.sub(put, DECK.read_text(encoding="utf-8"))
    text = "".join(map(sized, re.split(r"^(?=## )", text, flags=re.MULTILINE)))
    (folder / "lecture.md").write_text(text, encoding="utf-8")
    (folder / "index.md").write_text("# Slides\n\n```{toctree}\nlecture\n```\n", encoding="utf-8")
