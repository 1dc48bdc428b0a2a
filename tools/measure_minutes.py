"""How long a lesson takes, measured against its text.

    python tools/measure_minutes.py                          # each lesson, and whether its line agrees
    python tools/measure_minutes.py notebooks/03_name.py     # one of them
    python tools/measure_minutes.py --write                  # put the table into docs/teaching.md

Reading: words of text at WORDS a minute (technical text, read once), a line of code that is not folded at
LINE_SECONDS, a picture at PICTURE_SECONDS, an explorer or a quiz at EXPLORER_MINUTES, rounded to 5. Hints and answers
behind a `<details>` are not counted. Exercises: the sum of the minutes in their headings. A lesson's line says both:

    **Time.** About 35 minutes: 15 to read, 20 for the exercises.

and whatever it likes after that. All is read from the .py sources: pictures are the entries of the `alt` lists in the
cells' metadata and the pictures in the text that are no badges, explorers the cells that import from `explorers.apps`
or call one, and those that call `quiz`.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jupytext

ROOT = Path(__file__).resolve().parents[1]
WORDS = 180  # a minute
LINE_SECONDS = 4  # a line of code
PICTURE_SECONDS = 30
EXPLORER_MINUTES = 3  # and a quiz
DETAILS = re.compile(r"<details>.*?</details>", flags=re.DOTALL)
EXERCISE = re.compile(r"^### Exercise .*\b(\d+) minutes\)$", flags=re.MULTILINE)
PICTURE = re.compile(r"!\[[^]]*\]\((?!\S*badges/)[^)]*\)")
EXPLORER = re.compile(r"explorers\.apps import (?!RULES)|^(?:\w+_explorer|quiz)\(", flags=re.MULTILINE)
MARKERS = ("<!-- begin: written by tools/measure_minutes.py -->", "<!-- end: minutes -->")


@dataclass(frozen=True)
class Minutes:
    """What a lesson holds, and the minutes that follow."""

    words: int
    code_lines: int
    pictures: int
    explorers: int
    exercises: int  # minutes

    @property
    def reading(self) -> int:
        seconds = 60 * self.words / WORDS + LINE_SECONDS * self.code_lines + PICTURE_SECONDS * self.pictures
        return max(5, 5 * round((seconds / 60 + EXPLORER_MINUTES * self.explorers) / 5))

    @property
    def total(self) -> int:
        return self.reading + self.exercises

    @property
    def line(self) -> str:
        """How the lesson's own line begins."""
        parts = f": {self.reading} to read, {self.exercises} for the exercises" if self.exercises else " to read"
        return f"**Time.** About {self.total} minutes{parts}."


def measure(source: str) -> Minutes:
    """Count a lesson from the text of its .py."""
    words = lines = pictures = explorers = exercises = 0
    for cell in jupytext.reads(source, fmt="py:percent").cells:
        if cell.cell_type == "markdown":
            text = DETAILS.sub("", cell.source)
            pictures += len(PICTURE.findall(text))
            exercises += sum(map(int, EXERCISE.findall(text)))
            # Not the addresses of links and pictures, and no signs alone.
            words += sum(any(map(str.isalnum, word)) for word in re.sub(r"\]\([^)]*\)", "]", text).split())
            continue
        pictures += len(cell.metadata.get("alt", []))
        explorers += bool(EXPLORER.search(cell.source))
        folded = cell.metadata.get("jupyter", {}).get("source_hidden") or "# BEGIN SOLUTION" in cell.source
        lines += 0 if folded else sum(bool(line.strip()) for line in cell.source.splitlines())
    return Minutes(words, lines, pictures, explorers, exercises)


def lessons() -> dict[str, Minutes]:
    """Every lesson by the name of its file, in order."""
    files = sorted((ROOT / "notebooks").glob("*.py"))
    return {path.stem: measure(path.read_text(encoding="utf-8")) for path in files}


def says_so(source: str, minutes: Minutes) -> bool:
    """Whether the lesson's line agrees; it may be broken anywhere."""
    return minutes.line in re.sub(r"\n# ?", " ", source)


def table(measured: dict[str, Minutes]) -> str:
    """The table of docs/teaching.md."""
    rows = ["| lesson | to read | exercises | together |", "|---|---|---|---|"]
    for name, minutes in measured.items():
        title = re.search(r"^# # (.+)$", (ROOT / f"notebooks/{name}.py").read_text(encoding="utf-8"), re.MULTILINE)
        link = f"[{title[1] if title else name}](../notebooks/{name}.ipynb)"
        rows.append(f"| {link} | {minutes.reading} | {minutes.exercises or ''} | {minutes.total} |")
    sums = [sum(getattr(m, what) for m in measured.values()) for what in ("reading", "exercises", "total")]
    return "\n".join([*rows, f"| all, in minutes | {sums[0]} | {sums[1]} | {sums[2]} |"])


def page(text: str, measured: dict[str, Minutes]) -> str:
    """The page with the table put between the markers, and the minutes of the weeks above."""
    before, _, rest = text.partition(MARKERS[0])
    _, _, after = rest.partition(MARKERS[1])
    before = "\n".join(week(line, measured) for line in before.split("\n"))
    return f"{before}{MARKERS[0]}\n\n{table(measured)}\n\n{MARKERS[1]}{after}"


def week(line: str, measured: dict[str, Minutes]) -> str:
    """A row of the table of weeks, "| 3 | minutes | ...": the minutes of its lessons, half as much again."""
    match = re.match(r"\| (\d+) \|[ \d]*\|(.*)", line)
    if not match:
        return line
    total = sum(measured[name].total for name in set(re.findall(r"notebooks/(\w+)\.ipynb", match[2])))
    return f"| {match[1]} | {5 * round(1.5 * total / 5)} |{match[2]}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Minutes of the lessons, from their text.")
    parser.add_argument("files", nargs="*", type=Path, help="lessons (.py); all of notebooks/ if none is given")
    parser.add_argument("--write", action="store_true", help="put the table into docs/teaching.md")
    options = parser.parse_args()
    differ = 0
    for path in options.files or sorted((ROOT / "notebooks").glob("*.py")):
        source = path.read_text(encoding="utf-8")
        minutes = measure(source)
        agrees = says_so(source, minutes)
        differ += not agrees
        print(f"{path.stem}: {minutes}\n  {minutes.line}{'' if agrees else '   <- the lesson says another thing'}")
    if options.write:
        target = ROOT / "docs" / "teaching.md"
        target.write_text(page(target.read_text(encoding="utf-8"), lessons()), encoding="utf-8")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
