"""The checks of lesson 13 pass right answers, refuse typical wrong ones with the reason; what the lesson says is so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

from dpnet_lite.cli.main import build_parser
from dpnet_lite.config import TrainingConfig
from dpnet_lite.course.exercises import Wrong
from dpnet_lite.course.exercises.lesson_13 import check_fold_images, check_poly_rate, check_share
from dpnet_lite.course.made_up_pascal import write_pascal
from dpnet_lite.episodes import Episode
from dpnet_lite.parts import StepParts
from dpnet_lite.published.pascal import Pascal5i
from dpnet_lite.published.pascal_facts import measured_facts
from dpnet_lite.published.registry import fold_classes

LESSON = ROOT / "notebooks" / "13_pascal_and_coco.py"


def images(pixels, novel, *, least=2048, least_novel=1):
    base = np.delete(pixels, novel, axis=1)
    used, shows = (base >= least).any(axis=1), (pixels[:, novel] >= least_novel).any(axis=1)
    return used.sum(), (used & shows).sum()


def all_overlap(pixels, novel):
    return images(pixels, novel)[0], (pixels[:, novel] > 0).any(axis=1).sum()


def added_up(pixels, novel):
    used = np.delete(pixels, novel, axis=1).sum(axis=1) >= 2048
    return used.sum(), (used & (pixels[:, novel] > 0).any(axis=1)).sum()


def any_class(pixels, novel):
    used = (pixels >= 2048).any(axis=1)
    return used.sum(), (used & (pixels[:, novel] > 0).any(axis=1)).sum()


def without_novel(pixels, novel):
    used, both = images(pixels, novel)
    return used, used - both


def all_novel(pixels, novel):
    used = (np.delete(pixels, novel, axis=1) >= 2048).any(axis=1)
    return used.sum(), (used & (pixels[:, novel] > 0).all(axis=1)).sum()


def pairs(pixels, novel):
    base = np.delete(pixels, novel, axis=1) >= 2048
    return base.sum(), (pixels[base.any(axis=1)][:, novel] > 0).sum()


def poly(step, n_images, epochs, batch_size, peak, *, power=0.9, later=0):
    return peak * (1 - (step + later) / (epochs * n_images // batch_size)) ** power


def share(step, rank, part, batch_size, n_processes, n_parts):
    size = batch_size // n_processes // n_parts
    return np.arange(batch_size).reshape(n_processes, n_parts, size)[rank, part] + step * batch_size


def parts_first(step, rank, part, batch_size, n_processes, n_parts):
    size = batch_size // n_processes // n_parts
    return np.arange(batch_size).reshape(n_parts, n_processes, size)[part, rank] + step * batch_size


def spread(step, rank, part, batch_size, n_processes, n_parts):
    return range(step * batch_size + rank * n_parts + part, (step + 1) * batch_size, n_processes * n_parts)


def round_robin(step, rank, part, batch_size, n_processes, n_parts):
    size = batch_size // n_processes // n_parts
    return range(step * batch_size + rank, (step + 1) * batch_size, n_processes)[part * size : (part + 1) * size]


def unwritten(*arguments):
    raise NotImplementedError


def test_right_answers_pass():
    assert check_fold_images(images).startswith("Exercise 13.1 is right")
    assert check_poly_rate(poly).startswith("Exercise 13.2 is right")
    assert check_poly_rate(lambda *a: np.float32(poly(*a))).startswith("Exercise 13.2 is right")
    assert check_share(share).startswith("Exercise 13.3 is right")


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        (check_fold_images, lambda p, n: images(p, n)[::-1], "exchanged"),
        (check_fold_images, lambda p, n: images(p, n, least=2049), "compare with >="),
        (check_fold_images, lambda p, n: images(p, n, least=1), "a speck of a base class"),
        (check_fold_images, added_up, "do not add up several"),
        (check_fold_images, any_class, "only base classes"),
        (check_fold_images, lambda p, n: images(p, n, least_novel=2048), "any pixel of a novel class"),
        (check_fold_images, all_overlap, "among the training images alone"),
        (check_fold_images, without_novel, "not of those without"),
        (check_fold_images, all_novel, "any of them, not all"),
        (check_fold_images, pairs, "an image with two classes is one image"),
        (check_fold_images, lambda p, n: (pairs(p, n)[0], images(p, n)[1]), "two base classes is one image"),
        (check_fold_images, lambda p, n: (images(p, n)[0], pairs(p, n)[1]), "two novel classes is one image"),
        (check_fold_images, lambda p, n: ((p[:, 0] > 0), (p[:, 1] > 0)), "count the images"),
        (check_fold_images, lambda p, n: (1, 0), "yours is (1, 0)"),
        (check_fold_images, lambda p, n: 3, "return a pair"),
        (check_fold_images, lambda p, n: (None, 0), "returns nothing"),
        (check_poly_rate, lambda *a: poly(*a, power=1), "the power is missing"),
        (check_poly_rate, lambda *a: poly(*a, power=1 / 0.9), "not 1 / 0.9"),
        (check_poly_rate, lambda *a: poly(*a, later=1), "count steps from 0"),
        (check_poly_rate, lambda s, n, e, b, p: p * (s / (e * n // b)) ** 0.9, "the rate falls"),
        (check_poly_rate, lambda s, n, e, b, p: poly(s, n, e, 1, p), "n_images / batch_size steps"),
        (check_poly_rate, lambda s, n, e, b, p: p * max(0, 1 - s / (n / b)) ** 0.9, "not over one"),
        (check_poly_rate, lambda s, n, e, b, p: p * (1 - s / (e * n / b)) ** 0.9, "rounded down: use //"),
        (
            check_poly_rate,
            lambda s, n, e, b, p: p * (1 - s / (e * (n // b))) ** 0.9 if s < e * (n // b) else 0.0,
            "not in each epoch",
        ),
        (check_poly_rate, lambda *a: 10 * poly(*a), "no factor of 10"),
        (check_poly_rate, lambda *a: poly(*a) / 10, "do not divide it by 10"),
        (check_poly_rate, lambda s, n, e, b, p: p, "the rate should be"),
        (check_poly_rate, lambda *a: None, "returns nothing"),
        (check_share, lambda s, *a: share(0, *a), "begin at step x batch_size"),
        (check_share, parts_first, "all parts of process 0 come before"),
        (check_share, lambda s, r, p, *a: share(s, r, 0, *a), "parts of a process are different"),
        (check_share, lambda s, r, p, *a: share(s, 0, p, *a), "the processes take different"),
        (check_share, spread, "run of neighbours"),
        (check_share, round_robin, "run of neighbours"),
        (check_share, lambda s, r, p, b, n, k: share(s, r, 0, b, n, 1), "episodes, not 4"),
        (check_share, lambda *a: share(*a)[::-1], "the episodes should be"),
        (check_share, lambda *a: 3, "return a list"),
        (check_share, lambda *a: None, "returns nothing"),
    ],
)
def test_wrong_answers_are_refused_with_the_reason(check, answer, reason):
    with pytest.raises(Wrong, match=re.escape(reason)):
        check(answer)


@pytest.mark.parametrize("check", [check_fold_images, check_poly_rate, check_share])
def test_an_unwritten_answer_is_named(check):
    with pytest.raises(Wrong, match="unwritten is not written yet"):
        check(unwritten)
    with pytest.raises(Wrong, match="raised ZeroDivisionError"):
        check(lambda *arguments: 1 // 0)


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
