"""Five questions at the end of each lesson. A choice opens the reason why it is right or wrong: no kernel is needed."""

from __future__ import annotations

import tomllib
from pathlib import Path

from dpnet_lite.course.page import PageHtml

FOLDER = Path(__file__).parent / "quizzes"


def quiz(lesson: str) -> PageHtml:
    """The questions of a lesson, by its number as in the file's name ("03", "05b"); questions and options are HTML.

    Raises:
        FileNotFoundError: there is no such lesson.
    """
    file = FOLDER / f"{lesson}.toml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.toml")))
        raise FileNotFoundError(f"there is no quiz {lesson!r}; there are {names}")
    html, text = ["<p>Choose an answer: it opens and says why it is right or wrong.</p>"], []
    for number, question in enumerate(tomllib.loads(file.read_text(encoding="utf-8"))["question"], start=1):
        html.append(f"<p><b>{number}.</b> {question['text']}</p>")
        text.append(f"{number}. {question['text']}")
        for letter, option in zip("abcdef", question["option"], strict=False):
            mark = "&#10003; Right." if option.get("right", False) else "&#10007; Not quite."
            html.append(
                f'<details style="margin-left:1.5em"><summary>{letter}) {option["text"]}</summary>'
                f'<p style="margin-left:1.2em"><b>{mark}</b> {option["why"]}</p></details>'
            )
            text.append(f"   {letter}) {option['text']}")
    return PageHtml("\n".join(html), "\n".join(text))
