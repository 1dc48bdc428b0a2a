"""What lesson 13 says is so: its exercises' answers are what the package does, and its commands parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from answers import images, share
from places import ROOT

from dpnet_lite.cli.main import build_parser
from dpnet_lite.config import TrainingConfig
from dpnet_lite.course.made_up_pascal import write_pascal
from dpnet_lite.episodes import Episode, StepParts
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.published.pascal_facts import measured_facts
from dpnet_lite.published.registry import fold_classes

LESSON = ROOT / "notebooks" / "13_pascal_and_coco.py"


def test_the_answers_are_what_the_package_does(tmp_path):
    """The facts of a tree, and who takes what: the right answers above are the package's own."""
    tree = write_pascal(tmp_path, with_images=False)
    train, val = (Pascal5i(tree.root, split).class_pixels for split in ("train", "val"))
    for fold, facts in enumerate(measured_facts(train, val).folds):
        assert images(train, list(fold_classes("pascal5i", fold, "train").novel)) == facts[:2]
    config = TrainingConfig(batch_size=12, accumulate=2, steps=3)
    listed = [Episode(0, number, (99,)) for number in range(36)]
    for rank in range(3):
        for index, part in enumerate(StepParts(listed, config, range(3), rank=rank, n_processes=3)):
            step, number = divmod(index, 2)
            assert [e.query for e in part.episodes] == share(step, rank, number, 12, 3, 2).tolist()


def test_commands_of_the_lesson_parse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("PATH").mkdir()
    text = LESSON.read_text(encoding="utf-8").replace("\\\n#     ", "")
    commands = re.findall(r"^# (?:dpnet-lite|torchrun .+ dpnet_lite) (.+)$", text, flags=re.MULTILINE)
    commands += re.findall(r"`dpnet-lite (data [^`]+)`", text.replace("\n# ", " "))
    assert {command.split()[0] for command in commands} == {"train", "evaluate", "data"} and len(commands) >= 6
    for command in commands:
        build_parser().parse_args(shlex.split(command))
