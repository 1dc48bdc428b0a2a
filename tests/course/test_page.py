"""The claim box, the tables and the quizzes of the lessons' pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpnet_lite.course import quiz as quizzes
from dpnet_lite.course.page import claim, table
from dpnet_lite.course.quiz import quiz

QUESTION = """
[[question]]
text = "What is <b>P</b>?"
[[question.option]]
text = "a mean"
right = true
why = "of the foreground features"
[[question.option]]
text = "a mask"
why = "a mask has no channels"
"""


def test_a_claim_says_the_same_with_and_without_html() -> None:
    box = claim("P<sub>q</sub> adds <b>+4.6</b>.")
    assert "P<sub>q</sub> adds <b>+4.6</b>." in box._repr_html_() and repr(box) == "What was found. Pq adds +4.6."


def test_a_table_rounds_leaves_gaps_and_is_the_same_each_time() -> None:
    rows = {"rule": ["plain", "oracle"], "cells": [12, 7], "IoU": [0.456, None]}
    made = table(rows, "Rules", strong=[1])
    assert repr(made).splitlines() == ["Rules", "rule  cells  IoU", "plain  12  0.46", "oracle  7  "]
    html = made._repr_html_()
    assert ">0.46</td>" in html and "0.456" not in html and "nan" not in html.lower()
    assert html == table(rows, "Rules", strong=[1])._repr_html_()
    assert "row1_col0" in html[: html.index("font-weight")].splitlines()[-2]
    assert ">0.5</td>" in table(rows, "Rules", formats={"IoU": "{:.1f}"})._repr_html_()


def test_a_quiz_says_why_each_option_is_right_or_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "99.toml").write_text(QUESTION)
    monkeypatch.setattr(quizzes, "FOLDER", tmp_path)
    page = quiz("99")._repr_html_()
    first, second = page.split("<details")[1:]
    assert "a mean" in first and "Right." in first and "of the foreground features" in first
    assert "a mask" in second and "Not quite." in second and "no channels" in second
    assert repr(quiz("99")).splitlines() == ["1. What is <b>P</b>?", "   a) a mean", "   b) a mask"]
    with pytest.raises(FileNotFoundError, match="no quiz '3'; there are 99"):
        quiz("3")
